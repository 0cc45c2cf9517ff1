"""EventSourcedRepository: loading, saving, the past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from sa_eventsource import (
    AggregateIdError,
    AggregateNotFoundError,
    AggregateRoot,
    AsyncEventSourcedRepository,
    ConcurrencyError,
    DeclarationError,
    EventSourcedRepository,
    ReadOnlyAggregateError,
)
from tests.bank import Deposited
from tests.orders import Account, Order
from tests.session.helpers import note_elsewhere, place_order, stored_types
from tests.shop import NoteAdded, OrderPaid, OrderPlaced, OrderStatus

pytestmark = pytest.mark.slow_on_sqlite

START = datetime(2026, 1, 1, tzinfo=UTC)


def _day(number: int) -> datetime:
    return START + timedelta(days=number)


def _order_of_three_days(engine: Engine) -> str:
    order = Order()
    order.apply_event(OrderPlaced(customer_id="c-1", lines=(), total=Decimal(5)), occurred_at=_day(1))
    order.apply_event(OrderPaid(payment_id="p-1"), occurred_at=_day(2))
    order.apply_event(NoteAdded(text="third"), occurred_at=_day(3))
    with Session(engine) as session:
        session.add(order)
        session.commit()
        return order.id


def _account_of_days(engine: Engine, days: list[int]) -> UUID:
    account = Account.open()
    with Session(engine) as session:
        session.add(account)
        for day in days:
            account.apply_event(Deposited(amount=1), occurred_at=_day(day))
            session.flush()
        session.commit()
        return account.id


def test_get_and_get_or_none(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        order = repository.get(order_id)
        assert order.status is OrderStatus.PLACED
        assert repository.get_or_none(order_id) is order
        assert repository.get_or_none("nobody") is None
        with pytest.raises(AggregateNotFoundError) as caught:
            repository.get("nobody")
        assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("Order", "nobody")
        assert isinstance(caught.value, NoResultFound)
        with pytest.raises(AggregateNotFoundError, match="its last version before that is 1") as caught:
            repository.load_at_version(order_id, 9)
        assert caught.value.last_version == 1
        with pytest.raises(AggregateIdError):
            repository.get(5)


def test_save_flushes_and_leaves_the_commit_to_the_caller(database: Engine) -> None:
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        order = Order.place()
        repository.save(order)
        assert inspect(order).persistent
        order.pay()
        repository.save(order)
        session.rollback()
        assert stored_types(database) == []
        repository.save(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


def test_save_reports_a_conflict_at_once(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        repository = EventSourcedRepository(session, Order)
        order = repository.get(order_id)
        note_elsewhere(postgres, order_id)
        order.pay()
        with pytest.raises(ConcurrencyError):
            repository.save(order)
        session.rollback()


def test_a_repository_needs_a_mapped_aggregate(database: Engine) -> None:
    class Loose(AggregateRoot):
        """Has no declarative base."""

    with Session(database) as session:
        for wrong in (Loose, AggregateRoot, str):
            with pytest.raises(DeclarationError, match="not a mapped aggregate"):
                EventSourcedRepository(session, wrong)  # type: ignore[type-var]


def test_load_at_time(database: Engine) -> None:
    order_id = _order_of_three_days(database)
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        with pytest.raises(AggregateNotFoundError) as caught:
            repository.load_at_time(order_id, _day(1) - timedelta(microseconds=1))
        assert caught.value.moment == _day(1) - timedelta(microseconds=1)
        exactly = repository.load_at_time(order_id, _day(1))
        assert (exactly.version, exactly.status) == (1, OrderStatus.PLACED)
        assert repository.load_at_time(order_id, _day(2) - timedelta(microseconds=1)).version == 1
        assert repository.load_at_time(order_id, _day(2)).status is OrderStatus.PAID
        assert repository.load_at_time(order_id, _day(300)).notes == ["third"]
        with pytest.raises(AggregateNotFoundError):
            repository.load_at_time("nobody", _day(2))


@pytest.mark.parametrize("kind", [EventSourcedRepository, AsyncEventSourcedRepository])
@pytest.mark.parametrize("moment", [None, START], ids=["all", "until a moment"])
def test_the_history_of_no_id_is_not_that_of_all_aggregates(kind: type[Any], moment: datetime | None) -> None:
    session: Any = Session() if kind is EventSourcedRepository else AsyncSession()
    with pytest.raises(AggregateIdError, match="None"):
        kind(session, Order).history(None, moment)


def test_a_moment_without_time_zone_is_refused(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session, pytest.raises(ValueError, match="time zone"):
        EventSourcedRepository(session, Order).load_at_time(order_id, datetime(2026, 1, 1))  # noqa: DTZ001


def test_load_at_time_of_events_that_are_out_of_order(database: Engine) -> None:
    order = Order()
    order.apply_event(NoteAdded(text="first, on day 3"), occurred_at=_day(3))
    order.apply_event(NoteAdded(text="second, on day 1"), occurred_at=_day(1))
    with Session(database) as session:
        session.add(order)
        session.commit()
        view = EventSourcedRepository(session, Order).load_at_time(order.id, _day(2))
        assert (view.notes, view.version) == (["second, on day 1"], 2)
        assert EventSourcedRepository(session, Order).load_at_time(order.id, _day(3)).notes == order.notes


@pytest.mark.parametrize(("day", "deposits"), [(1, 1), (3, 3), (4, 4), (5, 5), (7, 7), (100, 12)])
def test_load_at_time_before_and_after_a_snapshot(database: Engine, day: int, deposits: int) -> None:
    account = Account()
    for number in range(1, 13):
        account.apply_event(Deposited(amount=1), occurred_at=_day(number))
    with Session(database) as session:
        session.add(account)
        session.commit()
        assert session.scalar(text("SELECT count(*) FROM snapshots")) == 1
        view = EventSourcedRepository(session, Account).load_at_time(account.id, _day(day))
        assert (view.balance, view.version) == (deposits, deposits)


def test_a_snapshot_that_holds_a_later_event_is_not_used_for_an_earlier_moment(database: Engine) -> None:
    account = Account()
    with Session(database) as session:
        session.add(account)
        for day in (1, 2, 30, 4, 5, 6, 7):
            account.apply_event(Deposited(amount=day), occurred_at=_day(day))
            session.flush()
        session.commit()
        repository = EventSourcedRepository(session, Account)
        assert repository.load_at_time(account.id, _day(10)).balance == 1 + 2 + 4 + 5 + 6 + 7
        assert repository.load_at_time(account.id, _day(30)).balance == account.balance
        account.apply_event(Deposited(amount=100), occurred_at=_day(8))
        for _ in range(5):
            account.apply_event(Deposited(amount=0), occurred_at=_day(9))
        session.commit()
        assert repository.load_at_time(account.id, _day(10)).balance == 125


def test_load_at_version(database: Engine) -> None:
    order_id = _order_of_three_days(database)
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        assert [repository.load_at_version(order_id, version).status for version in (1, 2, 3)] == [
            OrderStatus.PLACED,
            OrderStatus.PAID,
            OrderStatus.PAID,
        ]
        for version in (4, 1000):
            with pytest.raises(AggregateNotFoundError) as caught:
                repository.load_at_version(order_id, version)
            assert caught.value.version == version
        for version in (0, -1):
            with pytest.raises(ValueError, match="count from 1"):
                repository.load_at_version(order_id, version)


def test_load_at_version_before_and_after_a_snapshot(database: Engine) -> None:
    account_id = _account_of_days(database, list(range(1, 12)))
    with Session(database) as session:
        repository = EventSourcedRepository(session, Account)
        for version in range(1, 13):
            view = repository.load_at_version(account_id, version)
            assert (view.version, view.balance) == (version, version - 1)


def test_a_view_of_the_past_belongs_to_no_session_and_takes_no_events(database: Engine) -> None:
    order_id = _order_of_three_days(database)
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        present = repository.get(order_id)
        views: list[Any] = [repository.load_at_version(order_id, 1), repository.load_at_time(order_id, _day(2))]
        for view in views:
            assert view is not present
            assert view not in session
            with pytest.raises(ReadOnlyAggregateError) as caught:
                view.note("rewriting history")
            assert (caught.value.aggregate_id, caught.value.version) == (order_id, view.version)
            assert view.pending_events == ()
        assert present.version == 3
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid", "NoteAdded"]


def test_a_view_of_the_past_cannot_be_stored(database: Engine) -> None:
    order_id = _order_of_three_days(database)
    with Session(database) as session:
        view = EventSourcedRepository(session, Order).load_at_version(order_id, 1)
        session.add(view)
        with pytest.raises(Exception, match="no events"):
            session.commit()
        session.rollback()


def test_reading_the_past_sees_the_sessions_own_events(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        repository.get(order_id).pay()
        assert repository.load_at_version(order_id, 2).status is OrderStatus.PAID
        assert [each.version for each in repository.history(order_id)] == [1, 2]


@pytest.mark.parametrize("read", ["load_at_version", "load_at_time", "known then"])
def test_reading_the_past_flushes_as_a_query_does_not_where_autoflush_is_off(database: Engine, read: str) -> None:
    order_id = place_order(database)
    with Session(database, autoflush=False) as session:
        repository = EventSourcedRepository(session, Order)
        order = repository.get(order_id)
        order.pay()
        session.add(Order())  # a flush would refuse it
        if read == "load_at_version":
            view = repository.load_at_version(order_id, 1)
        else:
            view = repository.load_at_time(order_id, datetime.now(UTC), axis="occurred" if read == "load_at_time" else "recorded")
        assert (view.version, view.status, len(order.pending_events)) == (1, OrderStatus.PLACED, 1)


def test_a_view_of_the_past_is_not_saved(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        with pytest.raises(ReadOnlyAggregateError, match="view of version 1"):
            repository.save(repository.load_at_version(order_id, 1))
