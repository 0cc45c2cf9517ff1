"""Anonymising a log with proofs: a record for each event says what became of it, and nothing is found to be wrong."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import EventSourceOptions, EventStore, ProofOptions, grow_tree, newest_head, verify
from tests.anonymising import anonymise_all
from tests.bank import AnyAccount, Opened
from tests.committing import commit_events


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(proofs=True, anonymisations="anonymisations")


class Account(AnyAccount, Base):
    __aggregate_type__ = "anonymising_proven_logs.Account"


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_what_was_anonymised_is_on_record(postgres_engine: Engine) -> None:
    for owner in ("Ann", "Bob", "-"):
        commit_events(postgres_engine, Account, owner, Opened(owner=owner))
    with Session(postgres_engine) as session:
        grow_tree(session, base=Base)
        head = newest_head(session, base=Base)
        assert head is not None
        session.rollback()
        anonymise_all(session, EventStore(session, Base).events, "owner", "-", at_most=2)
        reasons = session.execute(text("SELECT reason FROM rewritten_events")).scalars().all()
    assert reasons == ["retention", "retention"], "the third was not changed"
    found = verify(postgres_engine, Base, proofs=ProofOptions(heads=[head]))
    assert [each for each in found.findings if not each.is_warning] == []

    with postgres_engine.begin() as connection:  # the same, but by somebody who leaves no record
        connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        connection.execute(text("""UPDATE events SET event_data = '{"owner": "x"}' WHERE aggregate_id = 'Ann'"""))
    found = verify(postgres_engine, Base, proofs=ProofOptions(heads=[head]))
    assert [each.check for each in found.findings if not each.is_warning] == ["proofs"]
