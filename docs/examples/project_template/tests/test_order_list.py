"""The rows of the list of orders: in memory, and by the worker on PostgreSQL."""

from decimal import Decimal
from typing import Any

from sa_eventsource.testing import example, projected, recorded
from sqlalchemy.orm import Session, sessionmaker

from project_name.models import Order, OrderList
from project_name.orders import OrderPaid, OrderPlaced, OrderStatus


def test_a_paid_order_is_paid_in_the_list() -> None:
    events = recorded(example(OrderPlaced), example(OrderPaid), of=Order, id="o-1")
    assert projected(OrderList, events)["o-1"].status is OrderStatus.PAID


def test_the_worker_writes_the_list(eventsource_sessions: sessionmaker[Session], eventsource_worker: Any) -> None:
    with eventsource_sessions() as session:
        order = Order.place("Ann", Decimal("56.90"))
        session.add(order)
        session.commit()
        order_id = order.id
    eventsource_worker.run()
    with eventsource_sessions() as session:
        row = session.get_one(OrderList, order_id)
        assert (row.customer, row.total, row.status) == (
            "Ann",
            Decimal("56.90"),
            OrderStatus.PLACED,
        )
