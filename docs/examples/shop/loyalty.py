"""Loyalty points: another service, which knows of the shop what it hears on the bus. It has tables of its own, and no event log."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from faststream import AckPolicy
from faststream.rabbit import ExchangeType, RabbitExchange, RabbitQueue, RabbitRouter
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sa_eventsource import Inbox
from sa_eventsource.publishing.faststream_inbox import handled_once

EXCHANGE = RabbitExchange("shop", type=ExchangeType.TOPIC, durable=True)

router = RabbitRouter()
sessions = sessionmaker()
"""What makes this service's sessions; whoever starts it binds them to an engine."""


class LoyaltyBase(DeclarativeBase):
    """The declarative base of this service."""


class Points(LoyaltyBase):
    """How many points a customer has: one for each full unit of money."""

    __tablename__ = "loyalty_points"

    customer: Mapped[str] = mapped_column(primary_key=True)
    points: Mapped[int] = mapped_column(default=0)


inbox = Inbox(LoyaltyBase, table="loyalty_inbox")


class Paid(BaseModel):
    """What this service reads of the message."""

    customer: str
    total: Decimal


@router.subscriber(
    RabbitQueue("loyalty", durable=True, routing_key="Order.OrderPaid"),
    EXCHANGE,
    ack_policy=AckPolicy.NACK_ON_ERROR,  # what was rolled back comes again
)
def reward(paid: Paid, session: Annotated[Session, handled_once(inbox, sessions)]) -> None:
    """Give points for a payment, once, however often the message comes."""
    row = session.get(Points, paid.customer, with_for_update=True)
    if row is None:
        row = Points(customer=paid.customer, points=0)
        session.add(row)
    row.points += int(paid.total)
