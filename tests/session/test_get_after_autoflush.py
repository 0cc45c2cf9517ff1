"""``session.get`` of an aggregate that its own autoflush makes persistent."""

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from tests.orders import Order


def test_it_returns_the_instance_that_was_added(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(order := Order.place())
        assert session.get(Order, order.id) is order
