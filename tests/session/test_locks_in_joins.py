"""``with_for_update`` locks rows of ordinary tables, beside aggregates too; these have no rows to lock."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from sa_eventsource import UnitOfWorkBypassError
from tests.orders import Invoice, Order
from tests.session.helpers import place_order
from tests.shop import OrderStatus


@pytest.mark.parametrize("of", [Invoice, [Invoice], Invoice.id, Invoice.__table__], ids=["class", "list", "column", "table"])
def test_an_entity_is_locked_beside_an_aggregate(database: Engine, of: Any) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        session.add(Invoice(id=1, order_id=order_id))
        session.commit()
        joined = select(Invoice, Order).join(Order, Order.id == Invoice.order_id).with_for_update(of=of)
        invoice, order = session.execute(joined).one()
        assert (invoice.order_id, order.status) == (order_id, OrderStatus.PLACED)


@pytest.mark.parametrize("of", [None, Order, [Invoice, Order], Order.id])
def test_an_aggregate_is_not(database: Engine, of: Any) -> None:
    joins = [
        select(Invoice, Order).join(Order, Order.id == Invoice.order_id),
        select(Invoice).join(Order, Order.id == Invoice.order_id),
        select(Invoice).join(Invoice.order),
    ]
    with Session(database) as session:
        for joined in joins:
            with pytest.raises(UnitOfWorkBypassError, match=r"with_for_update\(of=Invoice\)"):
                session.execute(joined.with_for_update(of=of)).all()
