"""A worker whose process is frozen in the middle of a batch: others take over, and each event counts once, also when it wakes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    RetryPolicy,
    handles,
    load_for_update,
    map_from_event,
    subscribe,
)
from sa_eventsource.read_models import count
from sa_eventsource.workers import Pace, Worker
from tests.bank import AnyAccount, Deposited
from tests.committing import commit_events
from tests.processes import fork, pipe
from tests.waiting import wait_until

QUICK = Pace(longest_idle=0.4, longest_call=0.4, every_follower=0.1)
ONCE = RetryPolicy(attempts=1)
"""An event that is charged with the freezing would stop its model."""


class Base(DeclarativeBase):
    """Base of what is frozen."""


class Account(AnyAccount, Base):
    """What is counted."""

    __aggregate_type__ = "frozen.Account"


class Declared(ReadModel, Base):
    """Counts in SQL."""

    __projection_name__ = "declared"
    __tablename__ = "declared"
    id: Mapped[str] = map_from_event(Deposited, key=True, source="aggregate_id")
    number: Mapped[int] = map_from_event(Deposited, reduce=count())


class Handled(ReadModel, Base):
    """Counts in Python."""

    __projection_name__ = "handled"
    __tablename__ = "handled"
    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Deposited)
    def _deposited(cls, event: RecordedEvent[Deposited], session: Session) -> None:
        load_for_update(session, cls, event.aggregate_id).number += 1
        session.flush()


@subscribe("called", Deposited, base=Base)
def _called(event: RecordedEvent[Deposited], session: Session) -> None:
    """Count what is committed with the checkpoint."""
    session.execute(
        text("INSERT INTO called VALUES (:id, 1) ON CONFLICT (id) DO UPDATE SET number = called.number + 1"),
        {"id": event.aggregate_id},
    )


def deposit(engine: Engine, times: int = 1) -> None:
    commit_events(engine, Account, "a", *[Deposited(amount=1)] * times)


def follow(url: str, name: str, statement: str, channel: Any) -> None:
    """Follow in a process of its own; before the first statement of a kind, say so, and wait to be told to go on."""
    engine = create_engine(url)
    has_paused = False

    @event.listens_for(engine, "before_cursor_execute")
    def pause(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        nonlocal has_paused
        if not has_paused and sql.startswith(statement):
            has_paused = True
            channel.send("in the midst")
            channel.recv()

    Worker(engine, Base, only=[name], pace=QUICK, retries=ONCE).run()


@contextmanager
def frozen(engine: Engine, name: str, statement: str) -> Iterator[Callable[[], None]]:
    """Freeze a worker in the middle of a batch, for the block or until what is given is called."""
    here, there = pipe()
    process = fork(follow, engine.url.render_as_string(hide_password=False), name, statement, there)
    assert here.poll(60)
    assert here.recv() == "in the midst"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    here.send("go on")  # it reads that when it wakes

    def wake() -> None:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGCONT)

    yield wake
    assert process.is_alive()


def counted(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(text(f"SELECT number FROM {table}")) or 0


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def accounts(postgres_engine: Engine) -> Engine:
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE called (id text PRIMARY KEY, number int)"))
    deposit(postgres_engine, 5)
    return postgres_engine


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("declared", "UPDATE projection_positions"),
        ("handled", "UPDATE handled"),
        pytest.param("handled", "UPDATE projection_positions", marks=pytest.mark.slow),
        ("called", "INSERT INTO called"),
        pytest.param("called", "UPDATE projection_positions", marks=pytest.mark.slow),
    ],
)
def test_another_worker_takes_over_and_each_event_counts_once(accounts: Engine, name: str, statement: str) -> None:
    with frozen(accounts, name, statement) as wake:
        with Worker(accounts, Base, only=[name], pace=QUICK, retries=ONCE):
            wait_until(lambda: counted(accounts, name) == 5)
            wake()
            deposit(accounts, 3)
            wait_until(lambda: counted(accounts, name) == 8)
        deposit(accounts, 2)  # nobody else is there to take these
        wait_until(lambda: counted(accounts, name) == 10)
        wait_until(lambda: not any(each.lag_events for each in ReadModelManager(accounts, Base).status() if each.name == name))
    (status,) = (each for each in ReadModelManager(accounts, Base).status() if each.name == name)
    assert (status.state, status.error, status.parked_events) == ("running", None, 0)


def test_a_shorter_limit_of_the_connections_own_holds(accounts: Engine) -> None:
    found: list[str] = []
    for own in ("0", "100ms", "1h"):
        engine = create_engine(accounts.url, connect_args={"options": f"-c idle_in_transaction_session_timeout={own}"})

        @event.listens_for(engine, "before_cursor_execute")
        def look(connection: Any, cursor: Any, sql: str, *_: Any) -> None:
            if sql.startswith("UPDATE projection_positions"):
                cursor.execute("SHOW idle_in_transaction_session_timeout")
                found.append(cursor.fetchone()[0])

        deposit(accounts)
        Worker(engine, Base, only=["declared"], pace=QUICK).run_once()
        engine.dispose()
    assert found == ["400ms", "100ms", "400ms"]


def test_a_handler_that_takes_too_long_is_told_which_limit_that_was(accounts: Engine) -> None:
    slow = create_engine(accounts.url)

    @event.listens_for(slow, "before_cursor_execute")
    def dawdle(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if sql.startswith("INSERT INTO called"):
            time.sleep(1.2)

    pace = Pace(longest_call=0.4)  # which no step of the worker's own comes to on a busy machine
    assert Worker(slow, Base, only=["called"], pace=pace, retries=ONCE).run_once() == 0
    slow.dispose()
    (problem,) = ReadModelManager(accounts, Base).problems()
    assert problem.startswith("called is stopped: ")
    assert "Pace(longest_idle, longest_call)" in problem


def test_a_checkpoint_that_nobody_can_read_hinders_no_other_follower(accounts: Engine) -> None:
    Worker(accounts, Base, pace=QUICK).run_once()
    with Worker(accounts, Base, only=["declared", "handled"], pace=QUICK, retries=ONCE) as worker:
        with accounts.begin() as connection:
            connection.execute(text("UPDATE projection_positions SET snapshot_cursor = 'zzz' WHERE projection_name = 'declared'"))
        deposit(accounts)
        wait_until(lambda: counted(accounts, "handled") == 6)
        deposit(accounts)
        wait_until(lambda: counted(accounts, "handled") == 7)
        assert worker.error is None
    states = {each.name: each.state for each in ReadModelManager(accounts, Base).status()}
    assert (states["declared"], states["handled"]) == ("unreadable", "running")
