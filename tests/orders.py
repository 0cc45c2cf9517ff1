"""The shop and the bank on a base, beside ordinary tables: what tests of the session, of commands and of pages use."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship

from sa_eventsource import applies
from tests.bank import AnyAccount, Opened
from tests.shop import AnyOrder, AnyTill, ParcelScanned


class Base(DeclarativeBase):
    """The application's declarative base."""


class Order(AnyOrder, Base):
    """An order."""


class ExpressOrder(Order):
    """An order that is followed on its way: an aggregate type of its own, with all that an order has."""

    places: tuple[str, ...] = ()

    def scan(self, place: str) -> None:
        """Record where the parcel is."""
        self.apply_event(ParcelScanned(place=place))

    @applies(ParcelScanned)
    def _scanned(self, event: ParcelScanned) -> None:
        self.places = (*self.places, event.place)


class Till(AnyTill[int], Base):
    """A till; the application numbers them."""


class Account(AnyAccount[UUID], Base):
    """An account, with a snapshot every five events."""

    __snapshot_frequency__ = 5

    @classmethod
    def open(cls, owner: str = "ann", *, account_id: UUID | None = None) -> Account:
        """Open an account."""
        account = cls(id=account_id)
        account.apply_event(Opened(owner=owner))
        return account


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
