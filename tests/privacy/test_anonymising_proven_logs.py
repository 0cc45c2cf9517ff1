"""Anonymising a log with proofs: a record for each event says what became of it, and nothing is found to be wrong."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    ProofOptions,
    anonymise,
    applies,
    grow_tree,
    newest_head,
    verify,
)


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(proofs=True, anonymisations="anonymisations")


class Signed(DomainEvent):
    __event_type__ = "anonymising_proven_logs.Signed"

    name: str


class Contract(AggregateRoot, Base):
    __aggregate_type__ = "anonymising_proven_logs.Contract"

    name: str = ""

    @applies(Signed)
    def _signed(self, event: Signed) -> None:
        self.name = event.name


def test_what_was_anonymised_is_on_record(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        for name in ("Ann", "Bob", "-"):
            contract = Contract(id=name)
            contract.apply_event(Signed(name=name))
            session.add(contract)
        session.commit()
    with Session(postgres_engine) as session:
        grow_tree(session, base=Base)
        head = newest_head(session, base=Base)
        assert head is not None
        session.rollback()
        is_finished = False
        while not is_finished:
            events: Any = EventStore(session, Base).events
            is_finished = anonymise(events, ["name"], lambda _field: "-", name="all", reason="retention", at_most=2).is_finished
            session.commit()
        reasons = session.execute(text("SELECT reason FROM rewritten_events")).scalars().all()
    assert reasons == ["retention", "retention"], "the third was not changed"
    found = verify(postgres_engine, Base, proofs=ProofOptions(heads=[head]))
    assert [each for each in found.findings if not each.is_warning] == []

    with postgres_engine.begin() as connection:  # the same, but by somebody who leaves no record
        connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        connection.execute(text("""UPDATE events SET event_data = '{"name": "x"}' WHERE aggregate_id = 'Ann'"""))
    found = verify(postgres_engine, Base, proofs=ProofOptions(heads=[head]))
    assert [each.check for each in found.findings if not each.is_warning] == ["proofs"]
