"""Who may do what with the Merkle tree: the worker adds to it, the officer records what was rewritten, nobody changes it."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    EventSourceOptions,
    EventStore,
    ProofOptions,
    StoredField,
    Worker,
    anonymise,
    newest_head,
    prove,
    verify,
)
from tests.clinic import AnyPatient
from tests.database_roles import ROLES, connected_as, grant_with_tables
from tests.integrity.proven_log import SIGNING_KEY
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(
        roles=ROLES, proofs=True, signing_key=SIGNING_KEY, anonymisations="anonymisations", master_keys=MASTER_KEYS
    )


class Patient(AnyPatient, Base):
    __aggregate_type__ = "proofs_by_roles.Patient"


grant_with_tables(Base)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


def _nowhere(_field: StoredField) -> str:
    return "nowhere"


def test_each_role_does_its_part_of_proving(postgres_engine: Engine) -> None:
    with connected_as(postgres_engine, ROLES.app) as app, Session(app) as session:
        session.add(Patient.admit("p-1", "Ann"))
        session.commit()
        event_id = EventStore(session, Base).events.all()[0].event_id
    with connected_as(postgres_engine, ROLES.worker) as worker:
        Worker(worker, Base).run_once()
    with connected_as(postgres_engine, ROLES.reader) as reader, Session(reader) as session:
        head = newest_head(session, base=Base)
        assert head is not None
        assert prove(session, event_id, base=Base).check(head, SIGNING_KEY.public_keys())
    with connected_as(postgres_engine, ROLES.privacy_officer) as officer, Session(officer) as session:
        query = EventStore(session, Base).events.of(Patient)
        for _ in range(2):
            anonymise(query, ["ward"], _nowhere, name="wards", reason="asked")
            session.commit()
    found = verify(postgres_engine, Base, proofs=ProofOptions(heads=[head], public_keys=SIGNING_KEY.public_keys()))
    assert [str(each) for each in found.findings] == [
        f"proofs: rewritten_events: 1 event rewritten on purpose, on record: {event_id}"
    ]


@pytest.mark.parametrize("table", ["merkle_tree", "rewritten_events"])
@pytest.mark.parametrize("role", ["app", "worker", "reader", "privacy_officer"])
def test_nobody_changes_what_is_there(postgres_engine: Engine, role: str, table: str) -> None:
    with connected_as(postgres_engine, getattr(ROLES, role)) as engine, engine.connect() as connection:
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET key_id = NULL", f"TRUNCATE {table}"):
            with pytest.raises(ProgrammingError, match=f"permission denied for table {table}"):
                connection.execute(text(statement))
            connection.rollback()
