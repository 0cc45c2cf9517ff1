"""The application that the session's tests use: orders, accounts and warehouses kept as events, beside ordinary tables."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship

from sa_eventsource import AggregateRoot, DomainEvent, applies


class Base(DeclarativeBase):
    """The application's declarative base."""


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

    __event_type__ = "orders.OrderPlaced"
    customer_id: str
    lines: tuple[Line, ...]
    total: Decimal


class OrderPaid(DomainEvent):
    """The order was paid."""

    __event_type__ = "orders.OrderPaid"
    payment_id: str


class OrderShipped(DomainEvent):
    """The parcel left the warehouse."""

    __event_type__ = "orders.OrderShipped"
    carrier: str
    tracking_number: str


class OrderCancelled(DomainEvent):
    """The order will not be delivered."""

    __event_type__ = "orders.OrderCancelled"
    reason: str


class NoteAdded(DomainEvent):
    """Somebody wrote something down."""

    __event_type__ = "orders.NoteAdded"
    text: str


class OrderViewed(DomainEvent):
    """Somebody looked; recorded for the audit, of no consequence."""

    __event_type__ = "orders.OrderViewed"


class OrderAlreadyPaidError(Exception):
    """An order is paid once."""


LINES = (Line(sku="lamp", quantity=2, price=Decimal("19.90")), Line(sku="bulb", quantity=1, price=Decimal("3.50")))


class Order(AggregateRoot, Base):
    """An order."""

    __ignored_events__ = (OrderViewed,)

    status: OrderStatus = OrderStatus.DRAFT
    customer_id: str | None = None
    lines: tuple[Line, ...] = ()
    total: Decimal = Decimal(0)
    payment_id: str | None = None
    tracking_number: str | None = None
    notes: list[str] = Field(default_factory=list)

    @classmethod
    def place(cls, customer_id: str = "c-1", lines: tuple[Line, ...] = LINES, *, order_id: str | None = None) -> Order:
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


class ParcelScanned(DomainEvent):
    """The courier scanned the parcel."""

    __event_type__ = "orders.ParcelScanned"
    place: str


class ExpressOrder(Order):
    """An order that is followed on its way: an aggregate type of its own, with all that an order has."""

    places: tuple[str, ...] = ()

    def scan(self, place: str) -> None:
        """Record where the parcel is."""
        self.apply_event(ParcelScanned(place=place))

    @applies(ParcelScanned)
    def _scanned(self, event: ParcelScanned) -> None:
        self.places = (*self.places, event.place)


class AccountOpened(DomainEvent):
    """An account was opened."""

    __event_type__ = "orders.AccountOpened"
    owner: str


class MoneyDeposited(DomainEvent):
    """Money came in."""

    __event_type__ = "orders.MoneyDeposited"
    amount: Decimal


class Account(AggregateRoot[UUID], Base):
    """An account, with a snapshot every five events."""

    __snapshot_frequency__ = 5

    owner: str = ""
    balance: Decimal = Decimal(0)
    deposits: int = 0

    @classmethod
    def open(cls, owner: str = "ann", *, account_id: UUID | None = None) -> Account:
        """Open an account."""
        account = cls(id=account_id)
        account.apply_event(AccountOpened(owner=owner))
        return account

    def deposit(self, amount: Decimal | int) -> None:
        """Take money in."""
        self.apply_event(MoneyDeposited(amount=Decimal(amount)))

    @applies(AccountOpened)
    def _opened(self, event: AccountOpened) -> None:
        self.owner = event.owner

    @applies(MoneyDeposited)
    def _deposited(self, event: MoneyDeposited) -> None:
        self.balance += event.amount
        self.deposits += 1


class GoodsReceived(DomainEvent):
    """Goods came into a warehouse."""

    __event_type__ = "orders.GoodsReceived"
    sku: str
    quantity: int


class Warehouse(AggregateRoot[int], Base):
    """A warehouse; the application numbers them."""

    stock: dict[str, int] = Field(default_factory=dict)

    def receive(self, sku: str, quantity: int) -> None:
        """Put goods on the shelf."""
        self.apply_event(GoodsReceived(sku=sku, quantity=quantity))

    @applies(GoodsReceived)
    def _received(self, event: GoodsReceived) -> None:
        self.stock = {**self.stock, event.sku: self.stock.get(event.sku, 0) + event.quantity}


class Customer(Base):
    """An ordinary table of the application."""

    __tablename__ = "customers"

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)


class Invoice(Base):
    """An ordinary table whose rows point at orders."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str]
    customer_id: Mapped[str | None] = mapped_column(ForeignKey("customers.id"))
    order: Mapped[Order | None] = relationship(Order, primaryjoin=lambda: foreign(Invoice.order_id) == _order_id(), viewonly=True)


def _order_id() -> Any:
    return Order.id
