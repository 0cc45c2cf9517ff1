"""The shop on a base, beside accounts, warehouses and ordinary tables: what tests of the session, of commands and of pages use."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import Field
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship

from sa_eventsource import AggregateRoot, DomainEvent, applies
from tests.shop import AnyOrder


class Base(DeclarativeBase):
    """The application's declarative base."""


class Order(AnyOrder, Base):
    """An order."""


class ParcelScanned(DomainEvent):
    """The courier scanned the parcel."""

    __event_type__ = "shop.ParcelScanned"
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

    __event_type__ = "shop.AccountOpened"
    owner: str


class MoneyDeposited(DomainEvent):
    """Money came in."""

    __event_type__ = "shop.MoneyDeposited"
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

    __event_type__ = "shop.GoodsReceived"
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
