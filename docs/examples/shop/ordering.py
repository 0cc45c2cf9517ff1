"""Orders: events, the aggregate, the commands that people send and the function that handles each."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateRoot,
    Command,
    DomainEvent,
    DomainRuleError,
    EventSourceOptions,
    applies,
    command_handler,
    schedule,
)

TIME_TO_PAY = timedelta(minutes=30)


class Base(DeclarativeBase):
    """The shop's declarative base."""

    __eventsource__ = EventSourceOptions(commands="commands")


class OrderStatus(StrEnum):
    """How far an order has come."""

    NEW = "new"
    PLACED = "placed"
    PAID = "paid"
    CANCELLED = "cancelled"


class Line(BaseModel, frozen=True):
    """So many of one article."""

    article: Annotated[str, Field(min_length=1)]
    quantity: Annotated[int, Field(gt=0)]
    price: Annotated[Decimal, Field(ge=0, decimal_places=2)]


class OrderPlaced(DomainEvent):
    """A customer ordered something."""

    customer: str
    lines: tuple[Line, ...]
    total: Decimal


class OrderPaid(DomainEvent):
    """The money came."""

    customer: str
    total: Decimal
    payment_id: str


class OrderCancelled(DomainEvent):
    """Nothing comes of it."""

    reason: str


class OrderIsClosedError(DomainRuleError):
    """An order is paid or cancelled, so that it cannot be paid."""

    def __init__(self, order_id: UUID, status: OrderStatus) -> None:
        """Say which, and why."""
        self.order_id = order_id
        self.status = status
        super().__init__(f"order {order_id} is {status}")


class Order(AggregateRoot[UUID], Base):
    """An order. It is paid within half an hour, or cancelled."""

    status: OrderStatus = OrderStatus.NEW
    customer: str = ""
    total: Decimal = Decimal(0)

    def place(self, customer: str, lines: tuple[Line, ...]) -> None:
        """Order something."""
        total = sum((line.price * line.quantity for line in lines), Decimal(0))
        self.apply_event(OrderPlaced(customer=customer, lines=lines, total=total))

    def pay(self, payment_id: str) -> None:
        """Take the money."""
        if self.status is not OrderStatus.PLACED:
            raise OrderIsClosedError(self.id, self.status)
        self.apply_event(OrderPaid(customer=self.customer, total=self.total, payment_id=payment_id))

    def cancel_if_unpaid(self) -> None:
        """Give up waiting for the money."""
        if self.status is OrderStatus.PLACED:
            self.apply_event(OrderCancelled(reason="it was not paid in time"))

    @applies(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.status, self.customer, self.total = OrderStatus.PLACED, event.customer, event.total

    @applies(OrderPaid)
    def _paid(self, _: OrderPaid) -> None:
        self.status = OrderStatus.PAID

    @applies(OrderCancelled)
    def _cancelled(self, _: OrderCancelled) -> None:
        self.status = OrderStatus.CANCELLED


class PlaceOrder(Command[UUID]):
    """Place an order; gives its id."""

    customer: Annotated[str, Field(min_length=1)]
    lines: Annotated[tuple[Line, ...], Field(min_length=1)]


class PayOrder(Command[None]):
    """Pay an order."""

    order_id: UUID
    payment_id: str


class CancelUnpaidOrder(Command[None]):
    """Cancel an order, unless it was paid."""

    order_id: UUID


@command_handler(PlaceOrder)
def place_order(command: PlaceOrder, session: Session) -> UUID:
    """Place an order, which is cancelled by itself if no money comes."""
    order = Order()
    order.place(command.customer, command.lines)
    session.add(order)
    schedule(session, CancelUnpaidOrder(order_id=order.id), after=TIME_TO_PAY)
    return order.id


@command_handler(PayOrder)
def pay_order(command: PayOrder, session: Session) -> None:
    """Pay an order."""
    session.get_one(Order, command.order_id).pay(command.payment_id)


@command_handler(CancelUnpaidOrder)
def cancel_unpaid_order(command: CancelUnpaidOrder, session: Session) -> None:
    """Cancel an order, unless it was paid."""
    session.get_one(Order, command.order_id).cancel_if_unpaid()
