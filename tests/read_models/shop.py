"""A shop whose orders feed several read models."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import DomainEvent, ReadModel, RecordedEvent, handles, load_for_update, map_from_event
from sa_eventsource.read_models import count, day, sum_
from tests.shop import AnyOrder, OrderCancelled, OrderPaid, OrderPlaced


class Base(DeclarativeBase):
    """The application's declarative base."""


class Reviewed(DomainEvent):
    """A customer gave stars."""

    __event_type__ = "shop.Reviewed"
    stars: int


class Order(AnyOrder, Base):
    """An order."""

    __aggregate_type__ = "shop.Order"
    __ignored_events__ = (Reviewed,)


def place(order_id: str, customer_id: str = "c-1", total: Decimal | str = "10.00", at: datetime | None = None) -> Order:
    """Start an order."""
    order = Order(id=order_id)
    order.apply_event(OrderPlaced(customer_id=customer_id, total=Decimal(total)), occurred_at=at)
    return order


class OrderList(ReadModel, Base):
    """One row an order."""

    __projection_name__ = "order_list"
    __consistency__ = "strong"
    __removed_by__ = (OrderCancelled,)

    id: Mapped[str]
    customer_id: Mapped[str | None] = map_from_event(OrderPlaced)
    status: Mapped[str] = map_from_event({OrderPlaced: "pending", OrderPaid: "paid"}, index=True)
    total: Mapped[Decimal] = map_from_event(OrderPlaced)


class UserOrders(ReadModel, Base):
    """The orders of each customer, to look up by both."""

    __projection_name__ = "user_orders"
    __consistency__ = "strong"

    customer_id: Mapped[str] = map_from_event(OrderPlaced, key=True)
    order_id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    total: Mapped[Decimal] = map_from_event(OrderPlaced)


class OrderStats(ReadModel, Base):
    """What was sold on each day."""

    __projection_name__ = "order_stats"

    day: Mapped[date] = map_from_event(key=True, source=day())
    order_count: Mapped[int] = map_from_event(OrderPlaced, reduce=count())
    daily_total: Mapped[Decimal] = map_from_event(OrderPlaced, reduce=sum_("total"))


class Rating(ReadModel, Base):
    """Stars by number, counted by a handler that takes no sixth star."""

    __tablename__ = "ratings"
    __consistency__ = "strong"

    stars: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Reviewed)
    def _reviewed(cls, event: RecordedEvent[Reviewed], session: Session) -> None:
        if event.event.stars > 5:
            raise ValueError("there are five stars")
        load_for_update(session, cls, event.event.stars).number += 1


class Customer(Base):
    """An ordinary table of the application."""

    __tablename__ = "customers"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
