"""A question of the library's own that takes too long, or is canceled by hand, is asked again: it blames and ends nobody."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    Command,
    EventSourceOptions,
    RecordedEvent,
    RetryPolicy,
    Worker,
    command_handler,
    schedule,
    subscribe,
)
from sa_eventsource.checkpoints import Batch, read_batch
from sa_eventsource.consumers import Follower
from tests.bank import AnyAccount, Deposited
from tests.databases import HERE
from tests.waiting import wait_until

ONCE = RetryPolicy(attempts=1)


class Base(DeclarativeBase):
    """Base of a bell tower."""

    __eventsource__ = EventSourceOptions(commands="commands")


class Bell(AnyAccount[UUID], Base):
    """What strikes, an event each time."""

    __aggregate_type__ = "cut_off.Bell"


class Strike(Command[None]):
    """Strike the hour."""

    __command_type__ = "cut_off.Strike"


heard: list[str] = []
slow: list[bool] = []


@subscribe("cut_off.listener", Deposited, base=Base)
def listen(recorded: RecordedEvent[Deposited], session: Session) -> None:
    if slow:
        session.execute(text("SELECT pg_sleep(60)"))
    heard.append("event")


@command_handler(Strike)
def strike(command: Strike, session: Session) -> None:
    heard.append("command")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    heard.clear()
    slow.clear()


@pytest.fixture
def others(postgres_database_url: str) -> Iterator[Engine]:
    """An engine without the limit."""
    engine = create_engine(postgres_database_url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def limited(postgres_database_url: str) -> Iterator[Engine]:
    """The worker's."""
    engine = create_engine(postgres_database_url, connect_args={"options": "-c statement_timeout=200"})
    yield engine
    engine.dispose()


def happen(engine: Engine) -> None:
    with Session(engine) as session:
        bell = Bell()
        bell.apply_event(Deposited(amount=1))
        session.add(bell)
        schedule(session, Strike(), base=Base)
        session.commit()


def status(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.execute(text("SELECT status, attempts FROM projection_positions")).one()


@pytest.mark.parametrize("table", ["events", "projection_positions", "commands"])
def test_a_table_that_is_locked_for_longer_than_a_statement_may_last(
    table: str, others: Engine, limited: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Worker(limited, Base, retries=ONCE) as worker:
        happen(others)
        wait_until(lambda: sorted(heard) == ["command", "event"])
        with others.begin() as connection:
            connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            wait_until(lambda: caplog.text.count("statement timeout") >= 3)
        happen(others)
        wait_until(lambda: sorted(heard) == ["command", "command", "event", "event"])
        assert worker.error is None
    assert tuple(status(others)) == ("running", 0)


def test_one_that_is_canceled_by_hand(others: Engine, postgres_database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    cancel = text(f"SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted AND database = ({HERE})")
    engine = create_engine(postgres_database_url)
    autocommit = others.execution_options(isolation_level="AUTOCOMMIT")
    with Worker(engine, Base, retries=ONCE) as worker, others.connect() as holder, autocommit.connect() as canceler:
        happen(others)
        wait_until(lambda: sorted(heard) == ["command", "event"])
        holder.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
        wait_until(lambda: canceler.scalars(cancel).all() and "user request" in caplog.text)
        holder.rollback()
        happen(others)
        wait_until(lambda: sorted(heard) == ["command", "command", "event", "event"])
        assert worker.error is None
    engine.dispose()


def test_a_batch_that_cannot_be_read_in_time_is_read_in_parts(others: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading is the library's, and takes longer for more events."""
    sizes = []

    def read(connection: Connection, follower: Follower, batch: Batch, *rest: Any) -> list[RecordedEvent[Any]]:
        sizes.append(batch.count)
        if batch.count > 1:
            connection.execute(text("DO $$ BEGIN RAISE query_canceled; END $$"))
        return read_batch(connection, follower, batch, *rest)

    monkeypatch.setattr("sa_eventsource.projections.processing.read_batch", read)
    for _ in range(4):
        happen(others)
    worker = Worker(others, Base, only=["cut_off.listener"], retries=ONCE)
    for _ in range(4):
        worker.run_once()
    assert (len(heard), max(sizes) > 1, tuple(status(others))) == (4, True, ("running", 0))


def test_a_statement_of_a_handler_is_the_handler_s(others: Engine, limited: Engine) -> None:
    slow.append(True)
    happen(others)
    Worker(limited, Base, only=["cut_off.listener"], retries=ONCE).run_once()
    assert tuple(status(others)) == ("stopped", 1)
