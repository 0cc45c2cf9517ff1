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
    AggregateRoot,
    DomainEvent,
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
from tests.processes import fork, pipe
from tests.waiting import wait_until

QUICK = Pace(longest_idle=0.4, longest_call=0.4, every_follower=0.1)
ONCE = RetryPolicy(attempts=1)
"""An event that is charged with the freezing would stop its model."""


class Base(DeclarativeBase):
    """Base of what is frozen."""


class Turned(DomainEvent):
    """What is counted."""

    __event_type__ = "frozen.Turned"


class Wheel(AggregateRoot[str], Base):
    """What it happens to."""

    __aggregate_type__ = "frozen.Wheel"
    __ignored_events__ = (Turned,)


class Declared(ReadModel, Base):
    """Counts in SQL."""

    __projection_name__ = "declared"
    __tablename__ = "declared"
    id: Mapped[str] = map_from_event(Turned, key=True, source="aggregate_id")
    turns: Mapped[int] = map_from_event(Turned, reduce=count())


class Handled(ReadModel, Base):
    """Counts in Python."""

    __projection_name__ = "handled"
    __tablename__ = "handled"
    id: Mapped[str] = mapped_column(primary_key=True)
    turns: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Turned)
    def _turned(cls, event: RecordedEvent[Turned], session: Session) -> None:
        load_for_update(session, cls, event.aggregate_id).turns += 1
        session.flush()


@subscribe("called", Turned, base=Base)
def _called(event: RecordedEvent[Turned], session: Session) -> None:
    """Count what is committed with the checkpoint."""
    session.execute(
        text("INSERT INTO called VALUES (:id, 1) ON CONFLICT (id) DO UPDATE SET turns = called.turns + 1"),
        {"id": event.aggregate_id},
    )


def turn(engine: Engine, times: int = 1) -> None:
    with Session(engine) as session:
        wheel = session.get(Wheel, "a")
        if wheel is None:
            session.add(wheel := Wheel(id="a"))
        for _ in range(times):
            wheel.apply_event(Turned())
        session.commit()


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


def turns(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(text(f"SELECT turns FROM {table}")) or 0


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def wheels(postgres_engine: Engine) -> Engine:
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE called (id text PRIMARY KEY, turns int)"))
    turn(postgres_engine, 5)
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
def test_another_worker_takes_over_and_each_event_counts_once(wheels: Engine, name: str, statement: str) -> None:
    with frozen(wheels, name, statement) as wake:
        with Worker(wheels, Base, only=[name], pace=QUICK, retries=ONCE):
            wait_until(lambda: turns(wheels, name) == 5)
            wake()
            turn(wheels, 3)
            wait_until(lambda: turns(wheels, name) == 8)
        turn(wheels, 2)  # nobody else is there to take these
        wait_until(lambda: turns(wheels, name) == 10)
        wait_until(lambda: not any(each.lag_events for each in ReadModelManager(wheels, Base).status() if each.name == name))
    (status,) = (each for each in ReadModelManager(wheels, Base).status() if each.name == name)
    assert (status.state, status.error, status.parked_events) == ("running", None, 0)


def test_a_shorter_limit_of_the_connections_own_holds(wheels: Engine) -> None:
    found: list[str] = []
    for own in ("0", "100ms", "1h"):
        engine = create_engine(wheels.url, connect_args={"options": f"-c idle_in_transaction_session_timeout={own}"})

        @event.listens_for(engine, "before_cursor_execute")
        def look(connection: Any, cursor: Any, sql: str, *_: Any) -> None:
            if sql.startswith("UPDATE projection_positions"):
                cursor.execute("SHOW idle_in_transaction_session_timeout")
                found.append(cursor.fetchone()[0])

        turn(wheels)
        Worker(engine, Base, only=["declared"], pace=QUICK).run_once()
        engine.dispose()
    assert found == ["400ms", "100ms", "400ms"]


def test_a_handler_that_takes_too_long_is_told_which_limit_that_was(wheels: Engine) -> None:
    slow = create_engine(wheels.url)

    @event.listens_for(slow, "before_cursor_execute")
    def dawdle(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if sql.startswith("INSERT INTO called"):
            time.sleep(1.2)

    pace = Pace(longest_call=0.4)  # which no step of the worker's own comes to on a busy machine
    assert Worker(slow, Base, only=["called"], pace=pace, retries=ONCE).run_once() == 0
    slow.dispose()
    (problem,) = ReadModelManager(wheels, Base).problems()
    assert problem.startswith("called is stopped: ")
    assert "Pace(longest_idle, longest_call)" in problem


def test_a_checkpoint_that_nobody_can_read_hinders_no_other_follower(wheels: Engine) -> None:
    Worker(wheels, Base, pace=QUICK).run_once()
    with Worker(wheels, Base, only=["declared", "handled"], pace=QUICK, retries=ONCE) as worker:
        with wheels.begin() as connection:
            connection.execute(text("UPDATE projection_positions SET snapshot_cursor = 'zzz' WHERE projection_name = 'declared'"))
        turn(wheels)
        wait_until(lambda: turns(wheels, "handled") == 6)
        turn(wheels)
        wait_until(lambda: turns(wheels, "handled") == 7)
        assert worker.error is None
    states = {each.name: each.state for each in ReadModelManager(wheels, Base).status()}
    assert (states["declared"], states["handled"]) == ("unreadable", "running")
