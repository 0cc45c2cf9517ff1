"""A shop: orders that are placed, paid and shipped, and tills where things are sold at once.

Events and aggregates lie on no base. Each folder puts them on one of its own, with what follows from them there.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeVar

from sa_eventsource import AggregateRoot, DomainEvent, applies

IdT = TypeVar("IdT", bound=str | UUID | int, default=str)


class Line(BaseModel):
    """One line of an order."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int
    price: Decimal


class OrderStatus(enum.Enum):
    """How far an order has come."""

    DRAFT = "draft"
    PLACED = "placed"
    PAID = "paid"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


class OrderPlaced(DomainEvent):
    """A customer placed an order."""

    __event_type__ = "shop.OrderPlaced"
    customer_id: str
    lines: tuple[Line, ...] = ()
    total: Decimal


class OrderPaid(DomainEvent):
    """The order was paid."""

    __event_type__ = "shop.OrderPaid"
    payment_id: str


class OrderShipped(DomainEvent):
    """The parcel left the warehouse."""

    __event_type__ = "shop.OrderShipped"
    carrier: str
    tracking_number: str


class ParcelScanned(DomainEvent):
    """The courier scanned the parcel; not every order is followed on its way."""

    __event_type__ = "shop.ParcelScanned"
    place: str


class OrderCancelled(DomainEvent):
    """The order will not be delivered."""

    __event_type__ = "shop.OrderCancelled"
    reason: str


class NoteAdded(DomainEvent):
    """Somebody wrote something down."""

    __event_type__ = "shop.NoteAdded"
    text: str


class OrderViewed(DomainEvent):
    """Somebody looked; recorded for the audit, of no consequence."""

    __event_type__ = "shop.OrderViewed"


class Sold(DomainEvent):
    """Something was sold over the counter."""

    __event_type__ = "shop.Sold"
    what: str = "pen"
    number: int = 1


class TillClosed(DomainEvent):
    """No more is sold there."""

    __event_type__ = "shop.TillClosed"


class OrderAlreadyPaidError(Exception):
    """An order is paid once."""


LINES = (Line(sku="lamp", quantity=2, price=Decimal("19.90")), Line(sku="bulb", quantity=1, price=Decimal("3.50")))


class AnyOrder(AggregateRoot[IdT]):
    """An order."""

    __ignored_events__: ClassVar[tuple[type[DomainEvent], ...]] = (OrderViewed,)

    status: OrderStatus = OrderStatus.DRAFT
    customer_id: str | None = None
    lines: tuple[Line, ...] = ()
    total: Decimal = Decimal(0)
    payment_id: str | None = None
    tracking_number: str | None = None
    notes: list[str] = Field(default_factory=list)

    @classmethod
    def place(cls, customer_id: str = "c-1", lines: tuple[Line, ...] = LINES, *, order_id: IdT | None = None) -> Self:
        """Start an order."""
        order = cls(id=order_id)
        total = sum((line.quantity * line.price for line in lines), Decimal(0))
        order.apply_event(OrderPlaced(customer_id=customer_id, lines=lines, total=total))
        return order

    def pay(self, payment_id: str = "p-1") -> None:
        """Take the payment."""
        if self.status is not OrderStatus.PLACED:
            raise OrderAlreadyPaidError(self.id)
        self.apply_event(OrderPaid(payment_id=payment_id))

    def ship(self, carrier: str = "post", tracking_number: str = "t-1") -> None:
        """Hand the parcel over."""
        self.apply_event(OrderShipped(carrier=carrier, tracking_number=tracking_number))

    def note(self, text: str) -> None:
        """Write something down."""
        self.apply_event(NoteAdded(text=text))

    @applies(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.status = OrderStatus.PLACED
        self.customer_id = event.customer_id
        self.lines = event.lines
        self.total = event.total

    @applies(OrderPaid)
    def _paid(self, event: OrderPaid) -> None:
        self.status = OrderStatus.PAID
        self.payment_id = event.payment_id

    @applies(OrderShipped)
    def _shipped(self, event: OrderShipped) -> None:
        self.status = OrderStatus.SHIPPED
        self.tracking_number = event.tracking_number

    @applies(OrderCancelled)
    def _cancelled(self, event: OrderCancelled) -> None:
        self.status = OrderStatus.CANCELLED

    @applies(NoteAdded)
    def _noted(self, event: NoteAdded) -> None:
        self.notes = [*self.notes, event.text]


class AnyTill(AggregateRoot[IdT]):
    """A till, which knows all that was sold there: what is lost, or comes twice, shows."""

    __ignored_events__: ClassVar[tuple[type[DomainEvent], ...]] = (TillClosed,)

    sold: tuple[str, ...] = ()

    def sell(self, *goods: str) -> None:
        """Sell goods, an event each."""
        for what in goods:
            self.apply_event(Sold(what=what))

    @applies(Sold)
    def _sold(self, event: Sold) -> None:
        self.sold = (*self.sold, event.what)
