"""A task that is cancelled, wherever it waits, leaves an aggregate and its twin as they were, or as the commit made them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from tests.twin.accounts import Account, SnapshotAccount, Twin
from tests.twin.worlds import create_tables


class CancelledAt:
    """A coroutine whose task is cancelled when it waits for the nth time."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], number: int) -> None:
        self.coroutine = coroutine
        self.number = number
        self.was_cancelled = False

    def __await__(self) -> Generator[Any, Any, None]:
        waits = 0
        to_send: Any = None
        error: BaseException | None = None
        while True:
            try:
                awaited = self.coroutine.send(to_send) if error is None else self.coroutine.throw(error)
            except StopIteration:
                return
            waits += 1
            if waits == self.number:
                self.was_cancelled = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            to_send, error = None, None
            try:
                to_send = yield awaited
            except BaseException as thrown:
                error = thrown


async def work(session: AsyncSession, kind: type[Any], key: str) -> None:
    """Do a bit of everything that waits."""
    account = await session.get_one(kind, key)
    account.change("m1")
    await session.flush()
    async with session.begin_nested():
        other = kind(id=f"{key}-other")
        other.change("n1")
        session.add(other)
    await session.refresh(account)
    account.change("m2")
    await session.commit()


async def stored(engine: AsyncEngine, kind: type[Any], key: str) -> tuple[Any, Any]:
    """Read what another session sees of the two accounts."""
    async with AsyncSession(engine) as session:
        account, other = await session.get_one(kind, key), await session.get(kind, f"{key}-other")
        return account.marks, None if other is None else other.marks


BEFORE = (("a0",), None)
AFTER = (("a0", "m1", "m2"), ("n1",))


@pytest.fixture
async def async_engine(postgres_database_url: str) -> AsyncIterator[AsyncEngine]:
    """Engine on PostgreSQL: on SQLite, the thread of a connection goes on with what was cancelled, and keeps its lock."""
    engine = create_async_engine(postgres_database_url, poolclass=NullPool)
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("kind", [Twin, Account, SnapshotAccount])
async def test_a_task_that_is_cancelled_leaves_all_or_nothing_and_its_session_goes_on(
    async_engine: AsyncEngine, kind: type[Any]
) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(create_tables)
    number, was_cancelled, outcomes = 0, True, []
    while was_cancelled:
        number += 1
        key = f"{kind.__name__}-{number}"
        async with AsyncSession(async_engine) as session:
            account = kind(id=key)
            account.change("a0")
            session.add(account)
            await session.commit()
        async with AsyncSession(async_engine) as session:
            running = CancelledAt(work(session, kind, key), number)
            try:
                await running
            except asyncio.CancelledError:
                assert running.was_cancelled
            was_cancelled = running.was_cancelled
            await session.rollback()
            left = await stored(async_engine, kind, key)
            outcomes.append(left)
            account = await session.get_one(kind, key)
            assert account.marks == left[0]
            account.change("m3")
            await session.commit()
            assert (await stored(async_engine, kind, key))[0] == (*left[0], "m3")
    assert number > 5
    assert set(outcomes) <= {BEFORE, AFTER}
    assert (outcomes[0], outcomes[-1]) == (BEFORE, AFTER)
