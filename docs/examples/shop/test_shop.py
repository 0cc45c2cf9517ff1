"""The tests of the shop: rules in memory, the rest on a database that pytest's plugin brings.

cd docs/examples && pytest shop --eventsource-base=shop.ordering:Base
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource import After
from sa_eventsource.testing import aggregate_laws, called, example, histories_of, like, projected, read_model_laws, scenario
from shop.ordering import (
    CancelUnpaidOrder,
    Line,
    Order,
    OrderCancelled,
    OrderIsClosedError,
    OrderPaid,
    OrderPlaced,
    OrderStatus,
    PayOrder,
    PlaceOrder,
    place_order,
)
from shop.views import Customers, OrderList

if TYPE_CHECKING:
    from collections.abc import Callable

TEA = Line(article="tea", quantity=2, price=Decimal("4.25"))

placed = scenario(Order).given(OrderPlaced(customer="ann", lines=(TEA,), total=Decimal("8.50")))
order_id = placed.aggregate.id


def test_an_order_is_paid_once() -> None:
    """A second payment is refused."""
    paid = placed.when(PayOrder(order_id=order_id, payment_id="p-1")).then(like(OrderPaid, total=Decimal("8.50"), payment_id="p-1"))
    paid.when(PayOrder(order_id=order_id, payment_id="p-2")).raises(OrderIsClosedError, match="is paid").then_nothing()


def test_an_order_that_nobody_pays_is_cancelled() -> None:
    """The command is put off when the order is placed, and looks whether it is still needed."""
    outcome = scenario(Order).when(PlaceOrder(customer="ann", lines=(TEA,)))
    outcome.then(like(OrderPlaced, customer="ann", total=Decimal("8.50"))).returns(outcome.aggregate.id)
    outcome.expect_commands(After(timedelta(minutes=30), CancelUnpaidOrder(order_id=outcome.aggregate.id)))
    late = outcome.after(timedelta(minutes=30))
    late.when(*late.commands).then(OrderCancelled).state(status=OrderStatus.CANCELLED)
    paid = outcome.when(lambda order: order.pay("p-1"))
    paid.when(*late.commands).then_nothing()


def test_the_list_shows_how_far_an_order_has_come() -> None:
    """A row an order."""
    paid = placed.when(lambda order: order.pay("p-1"))
    row = projected(OrderList, paid.events)[order_id]
    assert (row.customer, row.total, row.status) == ("ann", Decimal("8.50"), "paid")


def test_what_customers_spent() -> None:
    """A row a customer."""
    spent = projected(Customers, [example(OrderPaid, customer="ann", total=Decimal(each)) for each in (3, 5)])
    assert (spent["ann"].orders, spent["ann"].spent) == (2, Decimal(8))


def test_all_of_it_on_a_database(
    eventsource_sessions: sessionmaker[Session], eventsource_worker: Any, assert_statements: Callable[..., Any]
) -> None:
    """An order is listed, and cancelled when its time is over."""
    with eventsource_sessions() as session:
        new_id = place_order(PlaceOrder(customer="ann", lines=(TEA,)), session)
        with assert_statements(1):  # the event; the command was scheduled before
            session.commit()
        eventsource_worker.run()
        assert session.get_one(OrderList, new_id).status == "placed"
        session.rollback()
        eventsource_worker.run(after=timedelta(minutes=30))
        assert session.get_one(OrderList, new_id, populate_existing=True).status == "cancelled"


few = settings(max_examples=10)
lines = st.lists(
    st.builds(Line, article=st.just("tea"), quantity=st.integers(1, 9), price=st.just(Decimal("4.25"))), min_size=1, max_size=2
)
commands = [called(Order.place, lines=lines.map(tuple)), Order.pay, Order.cancel_if_unpaid]

histories = histories_of(Order, commands=commands)

TestOrder = aggregate_laws(Order, commands=commands)
TestOrder.settings = settings(few, deadline=None)  # type: ignore[attr-defined]
test_order_list = read_model_laws(OrderList, histories=histories, settings=few)
test_customers = read_model_laws(Customers, histories=histories, settings=few)
