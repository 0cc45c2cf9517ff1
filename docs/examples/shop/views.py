"""What people look at: rows that follow the events by themselves."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Mapped

from sa_eventsource import ReadModel, map_from_event
from sa_eventsource.read_models import count, sum_
from shop.ordering import Base, OrderCancelled, OrderPaid, OrderPlaced


class OrderList(ReadModel, Base):
    """A row an order. It follows the log soon after each commit."""

    id: Mapped[UUID]
    customer: Mapped[str] = map_from_event(OrderPlaced, index=True)
    total: Mapped[Decimal] = map_from_event(OrderPlaced)
    status: Mapped[str] = map_from_event({OrderPlaced: "placed", OrderPaid: "paid", OrderCancelled: "cancelled"}, index=True)


class Customers(ReadModel, Base):
    """A row a customer, written in the transaction of the payment itself."""

    __consistency__ = "strong"

    customer: Mapped[str] = map_from_event(OrderPaid, key=True)
    orders: Mapped[int] = map_from_event(OrderPaid, reduce=count())
    spent: Mapped[Decimal] = map_from_event(OrderPaid, source="total", reduce=sum_())
