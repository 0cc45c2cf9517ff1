"""State is loaded and expired as a whole: SQLAlchemy does not take a state field for an attribute that it knows."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified, set_committed_value

from sa_eventsource import PartialStateError
from tests.orders import Order
from tests.session.helpers import place_order
from tests.shop import OrderStatus


@pytest.mark.parametrize("act", ["expire", "refresh"])
@pytest.mark.parametrize("names", [["status"], ["version", "status"], ("total",)])
def test_state_is_not_expired_or_refreshed_by_name(database: Engine, act: str, names: Any) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        with pytest.raises(PartialStateError, match=r"Order\.(status|total) is a state field") as caught:
            getattr(session, act)(order, names)
        assert (caught.value.aggregate_class, caught.value.field) == ("Order", names[-1])
        assert (order.status, order.version) == (OrderStatus.PAID, 2)
        session.commit()
        session.refresh(order)
        assert order.status is OrderStatus.PAID


@pytest.mark.parametrize("name", ["no_such_attribute", "metadata"])
def test_unknown_names_are_unknown(database: Engine, name: str) -> None:
    order_id = place_order(database)
    with Session(database) as session, pytest.raises(KeyError, match=name):
        session.expire(session.get_one(Order, order_id), [name])


@pytest.mark.parametrize(
    "act", [lambda order: flag_modified(order, "status"), lambda order: set_committed_value(order, "status", 1)]
)
def test_state_is_not_marked_or_set_behind_the_aggregate(act: Any) -> None:
    order = Order.place()
    with pytest.raises(PartialStateError, match=r"apply_event\(\)"):
        act(order)
    assert order.status is OrderStatus.PLACED
