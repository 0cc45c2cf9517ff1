"""What an order allows: no database is needed."""

from decimal import Decimal

from sa_eventsource.testing import scenario

from project_name.orders import Order, OrderNotOpenError, OrderPaid, OrderPlaced, OrderStatus

placed = scenario(Order).given(OrderPlaced(customer="Ann", total=Decimal(10)))


def test_an_order_is_placed() -> None:
    scenario(Order).when(lambda: Order.place("Ann", Decimal(10))).then(OrderPlaced(customer="Ann", total=Decimal(10)))


def test_an_order_is_paid() -> None:
    paid = placed.when(lambda order: order.pay("p-1")).then(OrderPaid(payment_id="p-1"))
    paid.state(status=OrderStatus.PAID)


def test_an_order_is_paid_once() -> None:
    paid = placed.given(OrderPaid(payment_id="p-1"))
    paid.when(lambda order: order.pay("p-2")).raises(OrderNotOpenError, match="is paid")
