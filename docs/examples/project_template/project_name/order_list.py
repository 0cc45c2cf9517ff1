"""The list of orders: rows that follow from the events, for queries."""

from decimal import Decimal

from sa_eventsource import ReadModel, map_from_event
from sqlalchemy.orm import Mapped

from project_name.base import Base
from project_name.orders import OrderPaid, OrderPlaced, OrderStatus


class OrderList(ReadModel, Base):
    """A row for each order, which the worker writes soon after the commit."""

    id: Mapped[str]
    customer: Mapped[str] = map_from_event(OrderPlaced)
    total: Mapped[Decimal] = map_from_event(OrderPlaced)
    status: Mapped[OrderStatus] = map_from_event(
        {OrderPlaced: OrderStatus.PLACED, OrderPaid: OrderStatus.PAID}, index=True
    )
