"""The aggregate that is measured, and its tables."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import AggregateRoot, DomainEvent, applies


class Base(DeclarativeBase):
    """Declarative base of the benchmark."""


class ItemAdded(DomainEvent):
    """A line of an order: the event that every contender stores."""

    customer_id: str
    sku: str
    quantity: int
    price: Decimal


class Order(AggregateRoot[UUID], Base):
    """An order that counts its lines."""

    items: int = 0
    total: Decimal = Decimal(0)

    def add(self, number: int) -> None:
        """Add a line."""
        self.apply_event(ItemAdded(customer_id="c-1", sku=f"sku-{number}", quantity=1, price=Decimal("12.50")))

    @applies(ItemAdded)
    def _added(self, event: ItemAdded) -> None:
        self.items += event.quantity
        self.total += event.price * event.quantity


def payload(number: int) -> dict[str, Any]:
    """The same event as a dict, for those who have no event class."""
    return {"customer_id": "c-1", "sku": f"sku-{number}", "quantity": 1, "price": "12.50"}
