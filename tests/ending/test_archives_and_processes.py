"""A process manager whose stream is archived: it reacts to nothing, as one whose stream is closed, and stops no other process."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    After,
    ArchiveError,
    Command,
    DomainEvent,
    EventSourceOptions,
    ProcessManager,
    StreamClosed,
    Worker,
    applies,
    archive,
    command_handler,
    compact,
    reacts,
)
from sa_eventsource.commands import discard_command, waiting_commands
from tests.bank import AnyAccount, Deposited
from tests.committing import commit_events
from tests.shop import AnyOrder, OrderPlaced


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(archives="archives", commands="commands")


class Begun(DomainEvent):
    __event_type__ = "archives_processes.Begun"


class Order(AnyOrder, Base):
    __aggregate_type__ = "archives_processes.Order"


class Account(AnyAccount, Base):
    """Where orders are paid: the note of a deposit says which."""

    __aggregate_type__ = "archives_processes.Account"


class Remind(Command[None]):
    __command_type__ = "archives_processes.Remind"

    order: str


@command_handler(Remind, base=Base)
def remind(command: Remind, session: Session) -> None:
    session.get_one(Sale, command.order)


class Sale(ProcessManager[str], Base):
    __aggregate_type__ = "archives_processes.Sale"

    times: int = 0

    @reacts(OrderPlaced)
    def on_ordered(self, _event: OrderPlaced) -> list[object]:
        if self.id == "o-4":
            return [Begun(), After(timedelta(days=30), Remind(order=self.id)), StreamClosed(reason="done")]
        return [Begun(), StreamClosed(reason="done")] if self.id != "o-3" else [Begun()]

    @reacts(Deposited, by="note")
    def on_paid(self, _event: Deposited) -> list[object]:
        return [Begun()]

    @applies(Begun)
    def _begun(self, _event: Begun) -> None:
        self.times += 1


PLACED = OrderPlaced(customer_id="c-1", total=Decimal(10))


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def follow_all(engine: Engine) -> None:
    worker = Worker(engine, Base)
    while worker.run_once():
        pass


@pytest.mark.parametrize("function", [archive, compact])
def test_a_late_event_for_an_archived_process_is_ignored(engine: Engine, function: Any) -> None:
    for order_id in ("o-1", "o-2", "o-3"):
        commit_events(engine, Order, order_id, PLACED)
    follow_all(engine)
    with Session(engine) as session:
        function(session, Sale, "o-1", reason="r")
        session.commit()
    for order_id in ("o-1", "o-2", "o-3"):
        commit_events(engine, Account, "a-1", Deposited(amount=10, note=order_id))
    follow_all(engine)
    with engine.connect() as connection:
        streams = text("SELECT aggregate_id, max(version) FROM events WHERE aggregate_type = 'archives_processes.Sale' GROUP BY 1")
        assert {row[0]: row[1] for row in connection.execute(streams)} == {"o-1": 2, "o-2": 2, "o-3": 2}
        failed = text("SELECT count(*) FROM projection_positions WHERE failed_position IS NOT NULL")
        assert connection.scalar(failed) == 0


def test_a_process_whose_time_outs_wait_is_not_archived(engine: Engine) -> None:
    for order_id in ("o-1", "o-4"):
        commit_events(engine, Order, order_id, PLACED)
    follow_all(engine)
    with Session(engine) as session:
        (waiting,) = waiting_commands(session, Base)
        with pytest.raises(ArchiveError, match=rf"yet to run: {waiting.command_id}\..*discard"):
            archive(session, Sale, "o-4", reason="r", dry_run=True)
        archive(session, Sale, "o-1", reason="r")
        session.commit()
        assert discard_command(session, Base, waiting.command_id)
        archive(session, Sale, "o-4", reason="r")
        session.commit()
