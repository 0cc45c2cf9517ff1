"""Proofs of logs that are more than a table: partitioned ones, those of a schema, those with personal data."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import EventSourceOptions, forget, verify
from sa_eventsource.integrity import grow_tree, newest_head, prove
from sa_eventsource.verification import ProofOptions
from tests.clinic import Admitted, AnyPatient
from tests.committing import commit_events
from tests.integrity.proven_log import SIGNING_KEY, tables_of_log
from tests.privacy.keys import MASTER_KEYS


class KnownBase(DeclarativeBase):
    __eventsource__ = EventSourceOptions(
        schema="proven", partitions=4, proofs=True, signing_key=SIGNING_KEY, master_keys=MASTER_KEYS
    )


class Patient(AnyPatient, KnownBase):
    __aggregate_type__ = "integrity.Patient"
    __snapshot_frequency__ = None


@pytest.fixture
def tables() -> MetaData | None:
    return None


@pytest.fixture
def known(postgres_engine: Engine) -> Engine:
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA proven"))
    KnownBase.metadata.create_all(postgres_engine)
    for name in ("ann", "bob", "eve"):
        stays = [Admitted(name=f"{name} {number}", person_id=name) for number in range(10)]
        commit_events(postgres_engine, Patient, name, *stays)
    with Session(postgres_engine) as session:
        assert grow_tree(session, base=KnownBase) == 30
    return postgres_engine


def test_forgetting_leaves_proofs_valid(known: Engine) -> None:
    events = tables_of_log(KnownBase).events
    with Session(known) as session:
        head = newest_head(session, base=KnownBase)
        assert head is not None
        event_id = session.execute(events.select().with_only_columns(events.c.event_id).limit(1)).scalar_one()
        proof = prove(session, event_id, base=KnownBase)
        for name in ("ann", "bob", "eve"):
            forget(session, name, reason="asked", base=KnownBase)
        session.commit()
    with Session(known) as session:
        assert session.get_one(Patient, "ann").name == "(forgotten)"
        assert prove(session, event_id, head=head, base=KnownBase) == proof
    assert proof.check(head)["event_id"] == str(event_id)
    found = verify(known, KnownBase, proofs=ProofOptions(heads=[head], public_keys=SIGNING_KEY.public_keys()))
    assert [each for each in found.findings if each.check == "proofs"] == []
    assert found.covered == 30


def test_an_event_that_was_moved_to_another_partition_is_found(known: Engine) -> None:
    with Session(known) as session:
        head = newest_head(session, base=KnownBase)
    assert head is not None
    with known.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = 'replica'"))
        connection.execute(
            text("UPDATE proven.events SET aggregate_id = 'ann', version = 11 WHERE aggregate_id = 'eve' AND version = 10")
        )
    found = verify(known, KnownBase, proofs=ProofOptions(heads=[head]))
    (wrong,) = (each for each in found.findings if each.check == "proofs")
    assert wrong.message == "it was altered after it had been put into the tree"
