"""Rooms that are booked and paid for in time, or given to others: the process of a booking decides by what it has been told."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    After,
    Command,
    DomainEvent,
    EventSourceOptions,
    ProcessManager,
    applies,
    command_handler,
    reacts,
)
from tests.bank import AnyAccount, Deposited
from tests.shop import AnyOrder, OrderPlaced


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class Booking(AnyOrder, Base):
    """An order for a room."""

    __aggregate_type__ = "bookings.Booking"


class Account(AnyAccount, Base):
    """Where guests pay: the note of a deposit names the booking."""

    __aggregate_type__ = "bookings.Account"


BOOKED = OrderPlaced(customer_id="c-1", total=Decimal(80))


def paid(booking_id: str) -> Deposited:
    """Give the event that pays for a booking."""
    return Deposited(amount=80, note=booking_id)


class GiveAway(Command[None]):
    """The time for the payment is over."""

    __command_type__ = "bookings.GiveAway"
    booking_id: str


class Wave(Command[None]):
    """Has nothing to do with time-outs."""

    __command_type__ = "bookings.Wave"


class StayBegun(DomainEvent):
    __event_type__ = "bookings.StayBegun"


class StayPaid(DomainEvent):
    __event_type__ = "bookings.StayPaid"


class StayCancelled(DomainEvent):
    __event_type__ = "bookings.StayCancelled"


PATIENCE = timedelta(minutes=30)

broken: set[str] = set()
"""Bookings whose payment the process cannot take, for a while."""

waved: list[int] = []


class Stay(ProcessManager, Base):
    __aggregate_type__ = "bookings.Stay"
    __on_error__: ClassVar[Any] = "stop"
    stage: str = "new"

    @reacts(OrderPlaced)
    def on_booked(self, event: OrderPlaced) -> list[object]:
        return [StayBegun(), After(PATIENCE, GiveAway(booking_id=self.id), key="payment")]

    @reacts(Deposited, by="note")
    def on_paid(self, event: Deposited) -> list[object]:
        if self.id in broken:
            raise ValueError("no money today")
        return [StayPaid()] if self.stage == "waiting" else []

    @applies(StayBegun)
    def _begun(self, event: StayBegun) -> None:
        self.stage = "waiting"

    @applies(StayPaid)
    def _paid(self, event: StayPaid) -> None:
        self.stage = "paid"

    @applies(StayCancelled)
    def _cancelled(self, event: StayCancelled) -> None:
        self.stage = "cancelled"


@command_handler(GiveAway, base=Base)
def give_away(command: GiveAway, session: Session) -> None:
    stay = session.get_one(Stay, command.booking_id)
    if stay.stage == "waiting":
        stay.apply_event(StayCancelled())


@command_handler(Wave, base=Base)
def wave(command: Wave, session: Session) -> None:
    waved.append(1)
