"""An asynchronous worker that is cancelled: what it was at ends as it should, and the application's pool is as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AsyncWorker, Command, EventSourceOptions, command_handler, schedule
from tests.bank import AnyAccount
from tests.projections import hindrances
from tests.projections.hindrances import Base, write


@pytest.fixture
async def engine_of_one(postgres_engine: Engine) -> AsyncIterator[AsyncEngine]:
    """With one connection, for the worker and the application, whose level is another one than the worker's."""
    Base.metadata.create_all(postgres_engine)
    engine = create_async_engine(postgres_engine.url, pool_size=1, max_overflow=0, isolation_level="SERIALIZABLE")
    yield engine
    await engine.dispose()


def cutting(
    original: Callable[..., Awaitable[None]], when: Callable[[Any], bool], task: list[asyncio.Task[int]]
) -> Callable[..., Awaitable[None]]:
    """Do what the driver does, and be cancelled before anybody knows that it is done."""

    async def switch(connection: Any, value: Any) -> None:
        await original(connection, value)
        if task and when(value):
            task.pop().cancel()
            await asyncio.sleep(0)

    return switch


SWITCHES: list[tuple[str, Callable[[Any], bool]]] = [
    ("set_autocommit", bool),
    ("set_autocommit", lambda value: not value),
    ("set_isolation_level", lambda value: value is IsolationLevel.READ_COMMITTED),
    ("set_isolation_level", lambda value: value is IsolationLevel.SERIALIZABLE),
]


@pytest.mark.parametrize(("switch", "when"), SWITCHES, ids=["autocommit", "and back", "read committed", "and back again"])
async def test_connections_go_back_as_they_were(
    engine_of_one: AsyncEngine,
    postgres_engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    switch: str,
    when: Callable[[Any], bool],
) -> None:
    write(postgres_engine, a="x", b="y")
    async with engine_of_one.connect():
        pass
    to_cancel: list[asyncio.Task[int]] = []
    monkeypatch.setattr(psycopg.AsyncConnection, switch, cutting(getattr(psycopg.AsyncConnection, switch), when, to_cancel))
    task = asyncio.create_task(AsyncWorker(async_sessionmaker(engine_of_one), Base, only=["declared"]).run())
    to_cancel.append(task)
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(20), engine_of_one.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        assert not driver.autocommit
        assert await connection.scalar(text("SHOW transaction_isolation")) == "serializable"


async def test_a_statement_of_a_handler_is_cancelled(engine_of_one: AsyncEngine, postgres_engine: Engine) -> None:
    write(postgres_engine, a="x")
    begun = asyncio.Event()

    def sleep(_event: Any, session: Session) -> None:
        begun.set()
        session.execute(text("SELECT pg_sleep(60)"))

    hindrances.hindering.append(sleep)
    try:
        task = asyncio.create_task(AsyncWorker(async_sessionmaker(engine_of_one), Base, only=["handled"]).run())
        await begun.wait()
        async with asyncio.timeout(20):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    finally:
        hindrances.hindering.clear()
    with postgres_engine.connect() as connection:
        assert connection.scalar(text("SELECT attempts FROM projection_positions WHERE projection_name = 'handled'")) is None


class Kitchen(DeclarativeBase):
    """Base of a log with commands."""

    __eventsource__ = EventSourceOptions(commands="commands")


class Account(AnyAccount, Kitchen):
    """What makes a log of the base."""

    __aggregate_type__ = "cancelled_workers.Account"


class Cook(Command[None]):
    """Takes an hour."""

    __command_type__ = "cancelled_workers.Cook"


cooking: list[asyncio.Event] = []


@command_handler(Cook)
async def _cook(_command: Cook, session: AsyncSession) -> None:
    await session.execute(text("SELECT 1"))
    cooking[-1].set()
    await asyncio.sleep(3600)


async def test_the_handler_of_a_command_is_cancelled(engine_of_one: AsyncEngine, postgres_engine: Engine) -> None:
    Kitchen.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        schedule(session, Cook(), base=Kitchen)
        session.commit()
    cooking.append(asyncio.Event())
    task = asyncio.create_task(AsyncWorker(async_sessionmaker(engine_of_one), Kitchen).run())
    await cooking[-1].wait()
    async with asyncio.timeout(20):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.sleep(0)  # tasks that were cancelled end
    assert asyncio.all_tasks() == {asyncio.current_task()}
    with postgres_engine.connect() as connection:
        assert connection.execute(text("SELECT status, attempts FROM commands")).one() == ("scheduled", 0)
