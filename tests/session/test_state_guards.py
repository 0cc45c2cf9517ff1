"""State changes only through events, and @applies methods only set state."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import del_attribute, set_attribute

from sa_eventsource import AggregateStateError, EventPayloadError, EventRecord, NestedEventError
from tests.bank import Closed
from tests.orders import Order
from tests.session.careless import CarelessAccount
from tests.session.helpers import place_order, state_of, stored_types
from tests.shop import NoteAdded, OrderPlaced, OrderStatus, OrderViewed

pytestmark = pytest.mark.slow_on_sqlite


@pytest.mark.parametrize(("field", "value"), [("status", OrderStatus.PAID), ("notes", []), ("version", 7), ("id", "other")])
@pytest.mark.parametrize("loaded", [True, False])
def test_state_id_and_version_cannot_be_assigned(database: Engine, field: str, value: Any, loaded: bool) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id) if loaded else Order.place()
        before = state_of(order), order.id, order.version
        with pytest.raises(AggregateStateError, match=rf"Order\.{field} can only change in an @applies method") as caught:
            setattr(order, field, value)
        assert (caught.value.aggregate_class, caught.value.field, caught.value.declared) == ("Order", field, True)
        assert (state_of(order), order.id, order.version) == before
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


@pytest.mark.parametrize(("field", "value"), [("id", "other"), ("version", 7)])
@pytest.mark.parametrize("of", ["loaded", "expired", "new"])
def test_neither_does_sqlalchemy_set_them(database: Engine, field: str, value: Any, of: str) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = Order.place() if of == "new" else session.get_one(Order, order_id)
        if of == "expired":
            session.expire(order)
        with pytest.raises(AggregateStateError, match=rf"Order\.{field} can only change") as caught:
            set_attribute(order, field, value)
        with pytest.raises(AggregateStateError, match=rf"Order\.{field} can only change"):
            del_attribute(order, field)
        assert (caught.value.aggregate_class, caught.value.field, caught.value.declared) == ("Order", field, True)
        assert getattr(order, field) != value
        if of != "new":
            assert session.get(Order, order_id) is order
            assert session.get(Order, "other") is None


def test_an_undeclared_attribute_set_by_an_applies_method_is_refused() -> None:
    account = CarelessAccount()
    with pytest.raises(AggregateStateError, match="not a state field") as caught:
        account.apply_event(Closed())
    assert (caught.value.field, caught.value.declared) == ("closed", False)
    assert (account.version, account.pending_events) == (0, ())


def test_an_event_applied_by_an_applies_method_is_refused() -> None:
    account = CarelessAccount.open(3)
    with pytest.raises(NestedEventError) as caught:
        account.withdraw(1)
    assert (caught.value.aggregate_class, caught.value.event_class) == ("CarelessAccount", "Deposited")
    assert (account.version, account.balance, len(account.pending_events)) == (2, 3, 2)


def test_other_attributes_are_the_applications_business() -> None:
    order: Any = Order.place()
    order.shown_to = "ann"
    assert order.shown_to == "ann"
    assert order.version == 1


def test_an_ignored_event_is_stored_and_changes_no_state(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        before = state_of(order)
        order.apply_event(OrderViewed())
        session.commit()
        assert state_of(order) == before
        assert order.version == 2
    assert stored_types(database) == ["OrderPlaced", "OrderViewed"]


def test_an_event_that_could_not_be_stored_is_refused_before_it_changes_anything(database: Engine) -> None:
    order = Order.place()
    with pytest.raises(EventPayloadError) as caught:
        order.apply_event(NoteAdded(text="a\x00b"))
    assert caught.value.field == "text"
    assert (order.version, order.notes, len(order.pending_events)) == (1, [], 1)
    with Session(database) as session:
        session.add(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_a_time_without_zone_is_refused() -> None:
    order = Order.place()
    with pytest.raises(ValueError, match="time zone"):
        order.apply_event(NoteAdded(text="x"), occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001
    assert order.version == 1


def test_an_event_keeps_the_id_and_time_it_is_given(database: Engine) -> None:
    event_id = UUID("01952f00-0000-7000-8000-00000000000a")
    moment = datetime(2020, 2, 29, 23, 59, 59, 999999, tzinfo=UTC)
    order = Order()
    order.apply_event(OrderPlaced(customer_id="c", lines=(), total=Decimal(0)), occurred_at=moment, event_id=event_id)
    with Session(database) as session:
        session.add(order)
        session.commit()
        record = session.scalars(select(EventRecord)).one()
        assert (record.event_id, record.occurred_at, record.version) == (event_id, moment, 1)


def test_a_default_that_is_mutable_is_not_shared() -> None:
    first, second = Order.place(), Order.place()
    first.notes.append("by mistake")
    assert second.notes == []
    assert Order().notes == []
