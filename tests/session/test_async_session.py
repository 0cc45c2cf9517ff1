"""AsyncSession, on psycopg and aiosqlite."""

from __future__ import annotations

import gc
from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker

from sa_eventsource import (
    AggregateNotFoundError,
    AsyncEventSourcedRepository,
    AsyncEventStore,
    ConcurrencyError,
    EventAlreadyAppendedError,
    ExpectedVersion,
)
from sa_eventsource.time_ordered_ids import uuid7
from tests.orders import Order
from tests.shop import NoteAdded, OrderPaid, OrderPlaced, OrderStatus


async def _place(engine: AsyncEngine) -> str:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        order = Order.place()
        session.add(order)
        await session.commit()
        return order.id


async def test_add_commit_and_get(async_database: AsyncEngine) -> None:
    order_id = await _place(async_database)
    async with AsyncSession(async_database) as session:
        order = await session.get_one(Order, order_id)
        assert (order.status, order.version) == (OrderStatus.PLACED, 1)
        order.pay()
        await session.commit()
        await session.refresh(order)
        assert (order.status, order.version) == (OrderStatus.PAID, 2)
        assert await session.get(Order, "nobody") is None


async def test_select_loads_the_state_of_all(async_database: AsyncEngine) -> None:
    ids = [await _place(async_database) for _ in range(3)]
    async with AsyncSession(async_database) as session:
        orders = (await session.scalars(select(Order).order_by(Order.id))).all()
        assert [order.id for order in orders] == sorted(ids)
        assert {order.status for order in orders} == {OrderStatus.PLACED}
        assert (await session.scalars(select(Order).where(Order.id == ids[0]))).one().customer_id == "c-1"


async def test_a_streamed_select_loads_the_state(async_database: AsyncEngine) -> None:
    ids = {await _place(async_database) for _ in range(5)}
    async with AsyncSession(async_database) as session:
        result = await session.stream_scalars(select(Order).execution_options(yield_per=2))
        assert {order.id async for order in result if order.status is OrderStatus.PLACED} == ids


async def test_rollback_and_savepoints(async_database: AsyncEngine) -> None:
    order_id = await _place(async_database)
    async with AsyncSession(async_database) as session:
        order = await session.get_one(Order, order_id)
        nested = await session.begin_nested()
        order.pay()
        await session.flush()
        await nested.rollback()
        await session.refresh(order)
        assert order.status is OrderStatus.PLACED
        async with session.begin_nested():
            order.note("kept")
        await session.commit()
        assert [each.event_type async for each in AsyncEventStore(session).events] == ["shop.OrderPlaced", "shop.NoteAdded"]


async def test_a_conflict_is_reported_and_the_session_goes_on_after_rollback(async_database: AsyncEngine) -> None:
    order_id = await _place(async_database)
    async with AsyncSession(async_database, expire_on_commit=False) as loser:
        stale = await loser.get_one(Order, order_id)
        await loser.commit()
        async with AsyncSession(async_database) as winner:
            (await winner.get_one(Order, order_id)).note("first")
            await winner.commit()
        stale.pay()
        with pytest.raises(ConcurrencyError) as caught:
            await loser.commit()
        assert (caught.value.expected_version, caught.value.actual_version) == (1, 2)
        await loser.rollback()
        await loser.refresh(stale)
        stale.pay()
        await loser.commit()
        assert (stale.version, stale.status) == (3, OrderStatus.PAID)


@pytest.mark.filterwarnings("ignore:coroutine 'AsyncConnection.connect' was never awaited:RuntimeWarning")
async def test_an_expired_state_field_needs_refresh_or_run_sync_as_any_attribute(async_database: AsyncEngine) -> None:
    async with AsyncSession(async_database) as session:
        order = Order.place()
        session.add(order)
        await session.commit()
        with pytest.raises(MissingGreenlet):
            _ = order.status
        gc.collect()  # from Python 3.12 on, SQLAlchemy leaves a coroutine behind, which warns in whatever test it is collected in
        assert await session.run_sync(lambda _: order.status) is OrderStatus.PLACED


async def test_async_scoped_session(async_database: AsyncEngine) -> None:
    registry = async_scoped_session(async_sessionmaker(async_database), scopefunc=lambda: 1)
    order = Order.place()
    registry.add(order)
    await registry.commit()
    await registry.refresh(order)
    assert order.status is OrderStatus.PLACED
    await registry.remove()


async def test_the_repository_does_all_with_await(async_database: AsyncEngine) -> None:
    async with AsyncSession(async_database, expire_on_commit=False) as session:
        repository = AsyncEventSourcedRepository(session, Order)
        order = Order.place()
        await repository.save(order)
        order.pay()
        await repository.save(order)
        await session.commit()
        assert await repository.get(order.id) is order
        assert await repository.get_or_none("nobody") is None
        with pytest.raises(AggregateNotFoundError):
            await repository.get("nobody")
        assert (await repository.load_at_version(order.id, 1)).status is OrderStatus.PLACED
        assert (await repository.load_at_time(order.id, datetime.now(UTC))).status is OrderStatus.PAID
        history = await repository.history(order.id).all()
        assert [type(each.event) for each in history] == [OrderPlaced, OrderPaid]


async def test_append_without_loading(async_database: AsyncEngine) -> None:
    order_id = await _place(async_database)
    event_id = uuid7()
    async with AsyncSession(async_database) as session:
        repository = AsyncEventSourcedRepository(session, Order)
        moment = datetime.now(UTC)
        note = NoteAdded(text="appended")
        version = await repository.append(order_id, [note], expected_version=1, event_ids=[event_id], occurred_at=moment)
        assert version == 2
        with pytest.raises(EventAlreadyAppendedError):
            await repository.append(order_id, [note], expected_version=1, event_ids=[event_id], occurred_at=moment)
        with pytest.raises(ConcurrencyError):
            await repository.append(order_id, [note], expected_version=ExpectedVersion.NO_STREAM)
        assert await repository.append(order_id, [note], expected_version=ExpectedVersion.ANY) == 3
        await session.commit()
        assert (await repository.get(order_id)).notes == ["appended", "appended"]


async def test_the_event_store_does_all_with_await(async_database: AsyncEngine) -> None:
    order_id = await _place(async_database)
    async with AsyncSession(async_database) as session:
        order = await session.get_one(Order, order_id)
        for number in range(5):
            order.note(str(number))
        await session.commit()
        store = AsyncEventStore(session)
        events = store.events.of(Order, order_id)
        assert await events.count() == 6
        notes = events.of_type(NoteAdded)
        assert [each.event.text async for each in notes.stream(batch_size=2)] == ["0", "1", "2", "3", "4"]
        last = await notes.backward().first()
        assert last is not None
        assert last.event.text == "4"
        assert await store.get(last.event_id) == last
        assert await store.get(uuid7()) is None
        assert await store.last_position() == last.position
