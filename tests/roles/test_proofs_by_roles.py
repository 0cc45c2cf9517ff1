"""Who may do what with the Merkle tree: the worker adds to it, the officer records what was rewritten, nobody changes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    ProofOptions,
    StoredField,
    Worker,
    anonymise,
    applies,
    create_roles,
    newest_head,
    prove,
    verify,
)
from tests.integrity.proven_log import SIGNING_KEY
from tests.roles.clinic import ROLES, connected_as, drop_roles, let_log_in


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(roles=ROLES, proofs=True, signing_key=SIGNING_KEY, anonymisations="anonymisations")


class Weighed(DomainEvent):
    __event_type__ = "proofs_by_roles.Weighed"

    name: str


class Patient(AggregateRoot, Base):
    __aggregate_type__ = "proofs_by_roles.Patient"

    name: str = ""

    @applies(Weighed)
    def _weighed(self, event: Weighed) -> None:
        self.name = event.name


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def patients(postgres_engine: Engine) -> Iterator[Engine]:
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
        let_log_in(connection, *ROLES.names())
    yield postgres_engine
    drop_roles(postgres_engine, *ROLES.names())


def _nobody(_field: StoredField) -> str:
    return "nobody"


def test_each_role_does_its_part_of_proving(patients: Engine) -> None:
    with connected_as(patients, ROLES.app) as app, Session(app) as session:
        patient = Patient(id="p-1")
        patient.apply_event(Weighed(name="Ann"))
        session.add(patient)
        session.commit()
        event_id = EventStore(session, Base).events.all()[0].event_id
    with connected_as(patients, ROLES.worker) as worker:
        Worker(worker, Base).run_once()
    with connected_as(patients, ROLES.reader) as reader, Session(reader) as session:
        head = newest_head(session, base=Base)
        assert head is not None
        assert prove(session, event_id, base=Base).check(head, SIGNING_KEY.public_keys())
    with connected_as(patients, ROLES.privacy_officer) as officer, Session(officer) as session:
        query = EventStore(session, Base).events.of(Patient)
        for _ in range(2):
            anonymise(query, ["name"], _nobody, name="names", reason="asked")
            session.commit()
    found = verify(patients, Base, proofs=ProofOptions(heads=[head], public_keys=SIGNING_KEY.public_keys()))
    assert [str(each) for each in found.findings] == [
        f"proofs: rewritten_events: 1 event rewritten on purpose, on record: {event_id}"
    ]


@pytest.mark.parametrize("table", ["merkle_tree", "rewritten_events"])
@pytest.mark.parametrize("role", ["app", "worker", "reader", "privacy_officer"])
def test_nobody_changes_what_is_there(patients: Engine, role: str, table: str) -> None:
    with connected_as(patients, getattr(ROLES, role)) as engine, engine.connect() as connection:
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET key_id = NULL", f"TRUNCATE {table}"):
            with pytest.raises(ProgrammingError, match=f"permission denied for table {table}"):
                connection.execute(text(statement))
            connection.rollback()
