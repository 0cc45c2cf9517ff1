"""Whatever code of the application raises is its own failure: tried again, then parked or stopped, and the worker goes on."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from uuid import UUID

import pytest
from faststream.rabbit import RabbitBroker
from sqlalchemy import Engine, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AsyncWorker,
    Command,
    EventSourceOptions,
    ProcessManager,
    Publisher,
    ReadModel,
    RecordedEvent,
    RetryPolicy,
    Worker,
    command_handler,
    evolves,
    handles,
    map_from_event,
    reacts,
    schedule,
    subscribe,
)
from sa_eventsource.commands import waiting_commands
from sa_eventsource.consumers import consumers_on
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import parked_streams
from tests.shop import AnyTill, Sold

TWICE = RetryPolicy(attempts=2, first_pause=0)


class Base(DeclarativeBase):
    """Base of a shop."""

    __eventsource__ = EventSourceOptions(commands="commands")


class Till(AnyTill[UUID], Base):
    """What is followed."""

    __aggregate_type__ = "any_kind.Till"


class Misbehave(Command[None]):
    """Do what the test says."""

    __command_type__ = "any_kind.Misbehave"


class Stop(BaseException):
    """Of a library of its own kind."""


class Wordless(Exception):
    """Cannot be written."""

    def __str__(self) -> str:
        raise ValueError("no words")


async def wait_for_a_cancelled_task() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task


def raise_error(error: BaseException) -> NoReturn:
    raise error


def run_a_loop() -> None:
    """Run one, in a thread without one; in the worker's own, what it would have raised."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(wait_for_a_cancelled_task())
    else:
        raise asyncio.CancelledError


KINDS: dict[str, Callable[[], object]] = {
    "half of a surrogate pair": lambda: raise_error(OSError("no such file: \udcff")),
    "in a group": lambda: raise_error(ExceptionGroup("two", [OSError("\udcff"), ValueError("\x00")])),
    "without words": lambda: raise_error(Wordless()),
    "sys.exit": lambda: sys.exit(3),
    "cancelled": run_a_loop,
    "of its own kind": lambda: raise_error(Stop("stop")),
    "long": lambda: raise_error(ValueError("x" * 1_000_000)),
}
deed: list[Callable[[], object]] = []
with_session: list[Callable[[Session], object]] = []


def misbehave(session: Session | None = None) -> None:
    for each in deed:
        each()
    if session is not None:
        for one in with_session:
            one(session)


@subscribe("any_kind.bad", Sold, base=Base)
def bad(recorded: RecordedEvent[Sold], session: Session) -> None:
    misbehave(session)


taken: list[UUID] = []


@subscribe("any_kind.good", Sold, base=Base)
def good(recorded: RecordedEvent[Sold], session: Session) -> None:
    taken.append(recorded.event_id)


class Handled(ReadModel, Base):
    """Changes rows by a method."""

    __tablename__ = "any_kind_handled"

    id: Mapped[str] = mapped_column(primary_key=True)

    @classmethod
    @handles(Sold)
    def _sold(cls, recorded: RecordedEvent[Sold], session: Session) -> None:
        misbehave(session)


class Evolved(ReadModel, Base):
    """Works out rows in Python."""

    id: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    number: Mapped[int] = mapped_column(default=0)

    @evolves(Sold)
    def _sold(self, recorded: RecordedEvent[Sold]) -> None:
        misbehave()


class Reacting(ProcessManager[UUID], Base):
    """Reacts to what is sold."""

    __aggregate_type__ = "any_kind.Reacting"
    __on_error__ = "park"

    @reacts(Sold)
    def on_sold(self, event: Sold) -> None:
        misbehave()


def subject(recorded: RecordedEvent[Any]) -> str:
    misbehave()
    raise ValueError("there is no broker here")


Publisher("any_kind.publisher", Sold, broker=RabbitBroker("amqp://127.0.0.1:1/"), base=Base, subject=subject)


@command_handler(Misbehave)
def obey(command: Misbehave, session: Session) -> None:
    misbehave(session)


@pytest.fixture(autouse=True)
def _well_behaved() -> Iterator[None]:
    yield
    deed.clear()
    with_session.clear()
    taken.clear()


def prepare(session: Session) -> None:
    """Have an event and a command at which everybody fails."""
    Base.metadata.create_all(session.connection())
    session.add(till := Till())
    till.sell("rocket")
    schedule(session, Misbehave(), base=Base)
    session.commit()


STOPPED = {"any_kind.bad", "Handled", "Evolved"}
PARKED = {"any_kind.Reacting", "any_kind.publisher"}


def outcome(session: Session) -> dict[str, tuple[str, str | None]]:
    """What became of everybody, and why."""
    found: dict[str, tuple[str, str | None]] = {
        name: (status, error)
        for name, status, error in session.execute(text("SELECT projection_name, status, error FROM projection_positions"))
        if name not in PARKED or status == "stopped"
    }
    session.rollback()
    for consumer in consumers_on(tables_on(Base.metadata)):
        for each in parked_streams(session, consumer):
            found[each.name] = "parked", each.error
        session.rollback()
    for command in waiting_commands(session, Base):
        found["command"] = command.status, command.error
    session.rollback()
    return found


def is_over(session: Session) -> bool:
    statuses = {name: status for name, (status, _) in outcome(session).items()}
    expected = dict.fromkeys(STOPPED, "stopped") | dict.fromkeys({*PARKED, "command"}, "parked") | {"any_kind.good": "running"}
    return statuses == expected and len(taken) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_worker_goes_on(kind: str, postgres_engine: Engine) -> None:
    deed.append(KINDS[kind])
    with Session(postgres_engine) as session:
        prepare(session)
        for _ in range(3):
            Worker(postgres_engine, Base, retries=TWICE).run_once()
        assert is_over(session), outcome(session)
        assert all(error for name, (_, error) in outcome(session).items() if name != "any_kind.good")


@pytest.mark.parametrize("kind", ["half of a surrogate pair", "sys.exit", "cancelled"])
async def test_the_async_worker_goes_on(kind: str, async_engine: AsyncEngine) -> None:
    deed.append(KINDS[kind])
    maker = async_sessionmaker(async_engine)
    async with maker() as session:
        await session.run_sync(prepare)
        async with AsyncWorker(maker, Base, retries=TWICE):
            while not await session.run_sync(is_over):  # noqa: ASYNC110 - the database is to tell
                await asyncio.sleep(0.01)


def test_one_that_has_closed_the_connection_too_is_the_handler_s(engine: Engine) -> None:
    def close(session: Session) -> NoReturn:
        driver: Any = session.connection().connection.dbapi_connection
        driver.close()
        raise ValueError("closed")

    with_session.append(close)
    with Session(engine) as session:
        prepare(session)
        for _ in range(2):
            Worker(engine, Base, only=["any_kind.bad", "any_kind.good", "Handled", "commands"], retries=TWICE).run_once()
        found = outcome(session)
    assert {name: status for name, (status, _) in found.items()} == {
        "any_kind.bad": "stopped",
        "any_kind.good": "running",
        "Handled": "stopped",
        "command": "parked",
    }
    assert all("ValueError: closed" in (error or "") for name, (_, error) in found.items() if name != "any_kind.good")


def test_an_interrupt_ends_it(engine: Engine) -> None:
    deed.append(lambda: raise_error(KeyboardInterrupt()))
    with Session(engine) as session:
        prepare(session)
    for only in ([*STOPPED], ["any_kind.publisher"], ["commands"]):
        with pytest.raises(KeyboardInterrupt):
            Worker(engine, Base, only=only, retries=TWICE).run_once()
    with engine.connect() as connection:
        assert set(connection.scalars(text("SELECT attempts FROM projection_positions"))) <= {0}
        assert connection.scalar(select(Base.metadata.tables["commands"].c.attempts)) == 0


def test_a_signal_s_handler_ends_it(engine: Engine) -> None:
    """``sys.exit()`` for SIGTERM comes wherever the program is, which may be within a handler."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        deed.append(lambda: signal.raise_signal(signal.SIGTERM))
        with Session(engine) as session:
            prepare(session)
        for only in ([*STOPPED], ["commands"]):
            with pytest.raises(SystemExit):
                Worker(engine, Base, only=only, retries=TWICE).run_once()
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_worker_that_is_cancelled_within_a_handler_ends(async_engine: AsyncEngine) -> None:
    maker = async_sessionmaker(async_engine)
    async with maker() as session:
        await session.run_sync(prepare)
    task = asyncio.create_task(AsyncWorker(maker, Base, only=["any_kind.bad"], retries=TWICE).run())
    begun = asyncio.Event()

    def cancel() -> None:
        task.cancel()
        begun.set()
        raise asyncio.CancelledError  # as at the handler's next statement

    deed.append(cancel)
    await begun.wait()
    with pytest.raises(asyncio.CancelledError):
        await task
