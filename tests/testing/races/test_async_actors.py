"""Actors that are coroutine functions, each with an ``AsyncSession``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from sa_eventsource import ActorHungError, RaceFoundError
from sa_eventsource.testing.races import ActorOutcome, async_races
from tests.testing.races.bank import Account, Row, Totals
from tests.waiting import wait_until


@pytest.fixture
async def async_postgres_engine(postgres_engine: Engine) -> Any:
    """An asynchronous engine for the test's database, which is left as it was."""
    engine = create_async_engine(postgres_engine.url, pool_size=10)
    yield engine
    assert "_has_events" not in engine.sync_engine.__dict__
    assert "_has_events" not in engine.sync_engine.dialect.__dict__
    assert engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await engine.dispose()


async def row(session: AsyncSession) -> int:
    account = Row()
    session.add(account)
    await session.flush()
    return account.id


async def read_and_write(session: AsyncSession, account_id: int) -> None:
    account = await session.get_one(Row, account_id)
    account.balance += 10
    await session.commit()


async def lock_and_write(session: AsyncSession, account_id: int) -> None:
    account = await session.get_one(Row, account_id, with_for_update=True)
    account.balance += 10
    await session.commit()


async def adds_up(session: AsyncSession, account_id: int, outcomes: tuple[ActorOutcome, ...]) -> None:
    assert (await session.get_one(Row, account_id)).balance == 100 + 10 * sum(each.succeeded for each in outcomes)


async def test_a_race_is_found(async_postgres_engine: AsyncEngine) -> None:
    sessions = async_sessionmaker(async_postgres_engine)
    with pytest.raises(RaceFoundError, match="assert 110 == ") as caught:
        await async_races(row, [read_and_write, read_and_write], invariant=adds_up, sessions=sessions)
    assert caught.value.schedule == "ABBBAA"
    assert caught.value.is_repeatable
    with pytest.raises(RaceFoundError):
        await async_races(row, [read_and_write] * 2, invariant=adds_up, sessions=sessions, schedule="ABBBAA")


async def test_actors_wait_for_locks(async_postgres_engine: AsyncEngine) -> None:
    sessions = async_sessionmaker(async_postgres_engine)
    report = await async_races(row, [lock_and_write] * 2, invariant=adds_up, sessions=sessions)
    assert (report.is_exhaustive, report.schedules) == (True, 6)


async def test_aggregates_and_strong_models_take_part(async_postgres_engine: AsyncEngine) -> None:
    async def account(session: AsyncSession) -> str:
        opened = Account()
        opened.open(opened.id)
        session.add(opened)
        return opened.id

    async def deposit(session: AsyncSession, account_id: str) -> None:
        (await session.get_one(Account, account_id)).deposit(10)
        await session.commit()

    async def model_agrees(session: AsyncSession, account_id: str, outcomes: tuple[ActorOutcome, ...]) -> None:
        balance = (await session.get_one(Account, account_id)).balance
        assert balance == 10 * sum(each.succeeded for each in outcomes)
        assert await session.scalar(select(Totals.total).where(Totals.owner == account_id)) == balance

    sessions = async_sessionmaker(async_postgres_engine)
    report = await async_races(account, [deposit, deposit], invariant=model_agrees, sessions=sessions)
    assert report.is_exhaustive
    assert report.conflicts > 0


async def test_a_task_that_hangs_is_told(async_postgres_engine: AsyncEngine, postgres_engine: Engine) -> None:
    comes = asyncio.Event()

    async def hang(session: AsyncSession, account_id: int) -> None:
        await session.get_one(Row, account_id, with_for_update=True)
        await comes.wait()
        await session.commit()

    sessions = async_sessionmaker(async_postgres_engine)
    with pytest.raises(ActorHungError, match=r"no progress in 2 s") as caught:
        await async_races(row, [read_and_write, hang], invariant=adds_up, sessions=sessions, step_timeout=2)
    assert caught.value.actor == "B"
    comes.set()
    with Session(postgres_engine) as session:  # its lock is gone
        session.execute(update(Row).values(balance=1))
        session.commit()


async def test_a_cancelled_search_leaves_nothing(async_postgres_engine: AsyncEngine, postgres_engine: Engine) -> None:
    searching: list[asyncio.Task[Any]] = []

    async def cancel(session: AsyncSession, account_id: int) -> None:
        await session.get_one(Row, account_id, with_for_update=True)
        searching[0].cancel()
        await session.commit()

    sessions = async_sessionmaker(async_postgres_engine)
    searching.append(
        asyncio.ensure_future(async_races(row, [read_and_write, cancel, lock_and_write], invariant=adds_up, sessions=sessions))
    )
    with pytest.raises(asyncio.CancelledError):
        await searching[0]
    left = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'")
    with postgres_engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        wait_until(lambda: connection.scalar(left) == 0)
