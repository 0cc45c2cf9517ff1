"""retry_on_conflict runs a unit of work again for lost races, and for nothing else."""

from __future__ import annotations

import random
import threading
import time
from functools import partial

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sa_eventsource import ConcurrencyError
from sa_eventsource.session.retry import is_conflict, retry_on_conflict
from tests.orders import Customer, Order
from tests.session.helpers import note_elsewhere, place_order, stored_types
from tests.shop import OrderStatus
from tests.threads import together


def test_a_conflict_is_retried_on_a_fresh_session(postgres: Engine) -> None:
    order_id = place_order(postgres)
    attempts = []

    @retry_on_conflict()
    def pay(payment_id: str) -> int:
        """Pay the order."""
        with Session(postgres) as session:
            order = session.get_one(Order, order_id)
            attempts.append(order.version)
            if len(attempts) < 3:
                note_elsewhere(postgres, order_id)
            order.pay(payment_id)
            session.commit()
            return order.version

    assert pay("p-9") == 4
    assert attempts == [1, 2, 3]
    assert pay.__name__ == "pay"
    assert pay.__doc__ == "Pay the order."
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded", "NoteAdded", "OrderPaid"]


def test_the_waits_before_attempts_are_random_and_twice_as_long_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(random, "uniform", lambda _least, most: most)

    @retry_on_conflict(attempts=9)
    def lose() -> None:
        raise ConcurrencyError("Order", "o-1", expected_version=1, actual_version=2)

    with pytest.raises(ConcurrencyError):
        lose()
    assert waits == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0])


def test_the_last_error_is_raised_when_every_attempt_loses(postgres: Engine) -> None:
    order_id = place_order(postgres)
    attempts = []

    @retry_on_conflict(attempts=3, initial_wait=0.001)
    def pay() -> None:
        with Session(postgres) as session:
            order = session.get_one(Order, order_id)
            attempts.append(order.version)
            note_elsewhere(postgres, order_id)
            order.pay()
            session.commit()

    with pytest.raises(ConcurrencyError) as caught:
        pay()
    assert attempts == [1, 2, 3]
    assert (caught.value.expected_version, caught.value.actual_version) == (3, 4)


def test_other_errors_are_raised_at_once(postgres: Engine) -> None:
    attempts = []

    @retry_on_conflict()
    def add_twice() -> None:
        attempts.append(1)
        with Session(postgres) as session:
            session.add_all([Customer(id="c-1", email="a@example.com"), Customer(id="c-2", email="a@example.com"), Order.place()])
            session.commit()

    with pytest.raises(IntegrityError):
        add_twice()
    assert len(attempts) == 1

    @retry_on_conflict()
    def fail() -> None:
        attempts.append(1)
        raise ValueError("no conflict")

    with pytest.raises(ValueError, match="no conflict"):
        fail()
    assert len(attempts) == 2
    assert stored_types(postgres) == []


def test_a_serialization_failure_is_retried(postgres: Engine) -> None:
    with Session(postgres) as session:
        session.add(Customer(id="c-1", email="0"))
        session.commit()
    attempts = []

    @retry_on_conflict(initial_wait=0.001)
    def count_up() -> None:
        with Session(postgres.execution_options(isolation_level="REPEATABLE READ")) as session:
            customer = session.get_one(Customer, "c-1")
            attempts.append(1)
            if len(attempts) == 1:
                with postgres.begin() as connection:
                    connection.execute(text("UPDATE customers SET email = '10'"))
            customer.email = str(int(customer.email) + 1)
            session.commit()

    count_up()
    assert len(attempts) == 2
    with Session(postgres) as session:
        assert session.get_one(Customer, "c-1").email == "11"


def test_a_deadlock_is_retried(postgres: Engine) -> None:
    with Session(postgres) as session:
        session.add_all([Customer(id="c-1", email="1"), Customer(id="c-2", email="2")])
        session.commit()
    both_hold_one = threading.Barrier(2, timeout=60)
    failures: list[DBAPIError] = []
    done: list[str] = []

    def work(first: str, second: str) -> None:
        attempts: list[int] = []

        @retry_on_conflict()
        def change() -> None:
            attempts.append(1)
            with Session(postgres) as session:
                session.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
                session.get_one(Customer, first, with_for_update=True)
                if len(attempts) == 1:
                    both_hold_one.wait()
                try:
                    session.get_one(Customer, second, with_for_update=True)
                except DBAPIError as error:
                    failures.append(error)
                    raise
                session.add(Order.place())
                session.commit()

        change()
        done.append(first)

    together(lambda: work("c-1", "c-2"), lambda: work("c-2", "c-1"))
    assert sorted(done) == ["c-1", "c-2"]
    assert [getattr(failure.orig, "sqlstate", None) for failure in failures] == ["40P01"]
    assert isinstance(failures[0], OperationalError)
    assert stored_types(postgres) == ["OrderPlaced", "OrderPlaced"]


def test_writers_of_the_same_aggregates_in_opposite_order_do_not_deadlock(postgres: Engine) -> None:
    ids = sorted(place_order(postgres) for _ in range(2))
    errors: list[BaseException] = []

    def work(order_of_loading: list[str]) -> None:
        @retry_on_conflict(attempts=50, initial_wait=0.001, max_wait=0.01)
        def note() -> None:
            with Session(postgres) as session:
                for order in [session.get_one(Order, order_id) for order_id in order_of_loading]:
                    order.note("x")
                try:
                    session.commit()
                except ConcurrencyError:
                    raise
                except DBAPIError as error:
                    errors.append(error)
                    raise

        for _ in range(10):
            note()

    together(*(partial(work, each) for each in (ids, ids[::-1], ids)))
    assert errors == []
    with Session(postgres) as session:
        assert [order.version for order in session.scalars(select(Order))] == [31, 31]


def test_a_lock_timeout_is_no_conflict(postgres: Engine) -> None:
    with Session(postgres) as session:
        session.add(Customer(id="c-1", email="1"))
        session.commit()
    with Session(postgres) as holder, Session(postgres) as other:
        holder.get_one(Customer, "c-1", with_for_update=True)
        other.execute(text("SET LOCAL lock_timeout = '20ms'"))
        with pytest.raises(OperationalError) as caught:
            other.get_one(Customer, "c-1", with_for_update=True)
        assert not is_conflict(caught.value)


@pytest.mark.parametrize("attempts", [0, -1])
def test_attempts_must_be_positive(attempts: int) -> None:
    with pytest.raises(ValueError, match="1 or more, not"):
        retry_on_conflict(attempts=attempts)


def test_one_attempt_is_no_retry() -> None:
    attempts = []

    @retry_on_conflict(attempts=1)
    def lose() -> None:
        attempts.append(1)
        raise ConcurrencyError("Order", "o-1", expected_version=1, actual_version=2)

    with pytest.raises(ConcurrencyError):
        lose()
    assert len(attempts) == 1


async def test_a_coroutine_is_retried(async_database: AsyncEngine) -> None:
    async with AsyncSession(async_database, expire_on_commit=False) as session:
        order = Order.place()
        session.add(order)
        await session.commit()
        order_id = order.id
    attempts = []

    @retry_on_conflict(initial_wait=0.001)
    async def pay() -> int:
        async with AsyncSession(async_database, expire_on_commit=False) as session:
            order = await session.get_one(Order, order_id)
            await session.commit()
            attempts.append(order.version)
            if len(attempts) < 3:
                async with AsyncSession(async_database) as other:
                    (await other.get_one(Order, order_id)).note("between")
                    await other.commit()
            order.pay()
            await session.commit()
            assert order.status is OrderStatus.PAID
            return order.version

    assert await pay() == 4
    assert attempts == [1, 2, 3]


async def test_a_coroutine_that_fails_otherwise_is_not_retried() -> None:
    attempts = []

    @retry_on_conflict()
    async def fail() -> None:
        attempts.append(1)
        raise LookupError("gone")

    with pytest.raises(LookupError):
        await fail()
    assert len(attempts) == 1
