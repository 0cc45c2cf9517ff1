"""Read models as an application uses them: queries, what a session sees, refusals, statement counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sa_eventsource import EventRecord, EventStore, ReadModelError, ReadModelWriteError, fold
from tests.read_models.shop import Base, Customer, OrderList, Rating, Reviewed, UserOrders, place
from tests.shop import OrderCancelled, OrderPaid

Log = Callable[[Engine], AbstractContextManager[list[str]]]


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session on the shop's tables."""
    with Session(engine) as session:
        yield session


def test_a_strong_model_is_there_after_the_flush_and_gone_with_the_rollback(session: Session) -> None:
    session.add(place("o-1", total="12.50"))
    session.flush()
    row = session.get_one(OrderList, "o-1")
    assert (row.status, row.total, row.version) == ("pending", Decimal("12.50"), 1)
    session.rollback()
    assert session.get(OrderList, "o-1") is None


def test_an_autoflush_brings_the_rows_to_the_query(session: Session) -> None:
    session.add(place("o-1"))
    assert [row.id for row in session.scalars(select(OrderList))] == ["o-1"]


def test_a_row_that_was_loaded_shows_what_the_flush_made_of_it(session: Session) -> None:
    session.add(order := place("o-1"))
    session.flush()
    row = session.get_one(OrderList, "o-1")
    order.pay()
    session.flush()
    assert row.status == "paid"
    assert row.version == 2


def test_a_rollback_to_a_savepoint_takes_the_rows_back(session: Session) -> None:
    session.add(order := place("o-1"))
    session.flush()
    with session.begin_nested() as savepoint:
        order.pay()
        session.flush()
        savepoint.rollback()
    assert session.get_one(OrderList, "o-1").status == "pending"


def test_a_removed_row_is_gone_and_a_later_event_begins_a_new_one(session: Session) -> None:
    session.add(order := place("o-1"))
    session.commit()
    order.apply_event(OrderCancelled(reason="late"))
    session.commit()
    assert session.get(OrderList, "o-1") is None
    order.apply_event(OrderPaid(payment_id="p-1"))
    session.commit()
    row = session.get_one(OrderList, "o-1")
    assert (row.status, row.customer_id, row.version) == ("paid", None, 1)


def test_removal_and_a_new_beginning_in_one_flush(session: Session) -> None:
    session.add(order := place("o-1"))
    session.commit()
    order.apply_event(OrderCancelled(reason="late"))
    order.apply_event(OrderPaid(payment_id="p-1"))
    session.commit()
    row = session.get_one(OrderList, "o-1")
    assert (row.status, row.customer_id, row.version) == ("paid", None, 1)


def test_models_are_queried_like_any_entity(session: Session) -> None:
    session.add_all([Customer(id="c-1", name="Ann"), Customer(id="c-2", name="Ben")])
    session.add_all(place(f"o-{number}", f"c-{number % 2 + 1}", f"{number}.50") for number in range(6))
    session.commit()
    dear = select(OrderList).where(OrderList.total > 3).order_by(OrderList.total.desc())
    assert [row.id for row in session.scalars(dear)] == ["o-5", "o-4", "o-3"]
    by_name = (
        select(Customer.name, func.count(), func.sum(OrderList.total))
        .join(OrderList, OrderList.customer_id == Customer.id)
        .group_by(Customer.name)
        .order_by(Customer.name)
    )
    assert session.execute(by_name).all() == [("Ann", 3, Decimal("7.50")), ("Ben", 3, Decimal("10.50"))]
    both = select(OrderList.id).join(UserOrders, UserOrders.order_id == OrderList.id).where(UserOrders.customer_id == "c-2")
    assert sorted(session.scalars(both)) == ["o-1", "o-3", "o-5"]
    assert session.get_one(UserOrders, ("c-2", "o-1")).total == Decimal("1.50")
    assert session.get(UserOrders, ("c-1", "o-1")) is None


async def test_models_are_queried_through_an_async_session(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        session.add(place("o-1"))
        await session.commit()
        assert (await session.get_one(OrderList, "o-1")).status == "pending"
        assert [row.id for row in await session.scalars(select(OrderList))] == ["o-1"]


def test_a_handler_counts_in_the_same_transaction(session: Session) -> None:
    for number, stars in enumerate([5, 3, 5]):
        session.add(order := place(f"o-{number}"))
        order.apply_event(Reviewed(stars=stars))
    session.commit()
    assert {row.stars: row.number for row in session.scalars(select(Rating))} == {5: 2, 3: 1}


def test_a_failing_handler_fails_the_flush_and_nothing_is_written(session: Session) -> None:
    session.add(place("o-0"))
    session.commit()
    session.add(order := place("o-1"))
    order.apply_event(Reviewed(stars=6))
    with pytest.raises(ReadModelError) as caught:
        session.commit()
    session.rollback()
    assert caught.value.model == "Rating"
    assert "there are five stars" in caught.value.reason
    assert "shop.Reviewed" in str(caught.value)
    assert "'o-1' version 2" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)
    assert [row.id for row in session.scalars(select(OrderList))] == ["o-0"]
    assert session.scalar(select(func.count()).select_from(EventRecord)) == 1


def test_a_row_that_the_database_refuses_fails_the_flush(postgres_engine: Engine) -> None:
    with Session(postgres_engine) as session:
        session.add(place("o" * 250, "c" * 10))  # the key of user_orders is longer than the column
        with pytest.raises(ReadModelError) as caught:
            session.commit()
        assert caught.value.model == "user_orders"
        assert "is longer than the 255 characters" in caught.value.reason
        assert "o" * 250 in str(caught.value.rows)
        session.rollback()
        assert session.scalar(select(func.count()).select_from(EventRecord)) == 0


@pytest.mark.parametrize("deed", ["adding", "changing", "deleting"])
def test_rows_cannot_be_written_by_hand(session: Session, deed: str) -> None:
    session.add(place("o-1"))
    session.commit()
    if deed == "adding":
        session.add(OrderList(id="o-2", status="made up"))
    else:
        row = session.get_one(OrderList, "o-1")
        if deed == "changing":
            row.status = "made up"
        else:
            session.delete(row)
    with pytest.raises(ReadModelWriteError, match=deed):
        session.flush()


@pytest.mark.parametrize("statement", [update(Rating).values(number=7), delete(Rating)])
def test_statements_cannot_write_rows_either(session: Session, statement: Any) -> None:
    with pytest.raises(ReadModelWriteError, match="Rating"):
        session.execute(statement)


def test_one_statement_more_for_one_model(postgres_engine: Engine, statements: Log) -> None:
    """The flush writes its events with one INSERT, and the rows of each model with one more."""
    with Session(postgres_engine) as session:
        session.add(order := place("o-1"))
        session.commit()
        order.pay()
        with statements(postgres_engine) as log:
            session.commit()
    # The second is WITH ... INSERT: it sees to the model's checkpoint, too. The transaction began when the order was loaded.
    assert [each.split()[0] for each in log] == ["INSERT", "WITH", "COMMIT"]
    assert "INSERT INTO projections" in log[1]


def test_ten_aggregates_and_two_models_are_two_statements_more(postgres_engine: Engine, statements: Log) -> None:
    with Session(postgres_engine) as session:
        session.add_all(place(f"o-{number}") for number in range(10))
        with statements(postgres_engine) as log:
            session.commit()
    assert sum("INSERT INTO" in each for each in log) == 3
    assert len(log) == 5


def test_a_commit_without_their_events_costs_no_statement(postgres_engine: Engine, statements: Log) -> None:
    with Session(postgres_engine) as session:
        session.add(order := place("o-1"))
        session.commit()
        order.apply_event(Reviewed(stars=1))
        with statements(postgres_engine) as log:
            session.commit()
    assert not any("projections" in each for each in log)


def test_the_fold_says_what_the_rows_must_be(session: Session) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(100):
        session.add(order := place(f"o-{number}", f"c-{number % 7}", f"{number}.25", start + timedelta(days=number % 30)))
        if number % 3 == 0:
            order.pay()
    session.commit()
    meant = fold(OrderList, EventStore(session, Base).events.all())
    rows = {row.id: row for row in session.scalars(select(OrderList))}
    assert rows.keys() == meant.keys()
    assert all((rows[key].status, rows[key].total) == (meant[key]["status"], meant[key]["total"]) for key in meant)
    assert meant["o-3"]["created_at"].date() == date(2026, 1, 4)
