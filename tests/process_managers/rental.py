"""Bicycles that are rented: a process for each rental hears of it from two kinds of streams, and parks what it cannot take."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    After,
    AggregateRoot,
    Command,
    DomainEvent,
    EventSourceOptions,
    ProcessManager,
    applies,
    command_handler,
    reacts,
)
from tests.bank import AnyAccount, Deposited


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class BikeTaken(DomainEvent):
    __event_type__ = "rental.BikeTaken"
    rental_id: str | None = None
    weight: int = 1


class BikeReturned(DomainEvent):
    __event_type__ = "rental.BikeReturned"
    rental_id: str | None = None


class Bike(AggregateRoot[str], Base):
    __aggregate_type__ = "rental.Bike"
    __ignored_events__ = (BikeTaken, BikeReturned)


class Account(AnyAccount, Base):
    """Where a deposit is paid: its note names the rental."""

    __aggregate_type__ = "rental.Account"


class Charge(Command[None]):
    __command_type__ = "rental.Charge"
    rental_id: UUID


class Remind(Command[None]):
    __command_type__ = "rental.Remind"
    rental_id: UUID


class Extend(Command[None]):
    """Changes the process from outside of it."""

    __command_type__ = "rental.Extend"
    rental_id: UUID


class Unhandled(Command[None]):
    __command_type__ = "rental.Unhandled"


charged: list[UUID] = []
broken: set[str] = set()
"""Kinds of events that the process cannot take, for a while."""

meanwhile: list[Any] = []
"""What others do while the process is asked."""


@command_handler(Charge, base=Base)
def charge(command: Charge, session: Session) -> None:
    charged.append(command.rental_id)


@command_handler(Remind, base=Base)
def remind(command: Remind, session: Session) -> None:
    """Nothing that a test looks at."""


class RentalBegun(DomainEvent):
    __event_type__ = "rental.RentalBegun"


class RentalPaid(DomainEvent):
    __event_type__ = "rental.RentalPaid"
    days: int


class RentalExtended(DomainEvent):
    __event_type__ = "rental.RentalExtended"


class Rental(ProcessManager[UUID], Base):
    __aggregate_type__ = "rental.Rental"
    __on_error__: ClassVar[Any] = "park"
    has_begun: bool = False
    days: int = 1
    paid_for: int = 0

    @reacts(BikeTaken, by="rental_id")
    def on_taken(self, event: BikeTaken) -> list[object]:
        _fail("taken")
        if "impure" in broken:
            self.apply_event(RentalBegun())
        if event.weight < 0:
            return [Unhandled()]
        return [RentalBegun(), After(timedelta(hours=1), Remind(rental_id=self.id), key="reminder")]

    @reacts(Deposited, by="note")
    def on_paid(self, event: Deposited) -> list[object]:
        _fail("paid")
        for each in list(meanwhile):
            each()
        return [RentalPaid(days=self.days)] if self.has_begun else []

    @reacts(BikeReturned, by="rental_id")
    def on_returned(self, event: BikeReturned) -> Charge:
        return Charge(rental_id=self.id)

    @applies(RentalBegun)
    def _begun(self, event: RentalBegun) -> None:
        self.has_begun = True

    @applies(RentalPaid)
    def _paid(self, event: RentalPaid) -> None:
        self.paid_for = event.days

    @applies(RentalExtended)
    def _extended(self, event: RentalExtended) -> None:
        self.days += 1


@command_handler(Extend, base=Base)
def extend(command: Extend, session: Session) -> None:
    session.get_one(Rental, command.rental_id).apply_event(RentalExtended())


def _fail(kind: str) -> None:
    if kind in broken:
        raise ValueError(f"no {kind} today")
