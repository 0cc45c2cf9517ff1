"""Bookings with a field of every type that may be indexed, and read models with an index of every kind."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Engine, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, map_from_event
from sa_eventsource.read_models import count, day, sum_


class Base(DeclarativeBase):
    """The application's declarative base."""


class Kind(enum.Enum):
    """What was booked."""

    ROOM = "room"
    HALL = "hall"
    TENT = "tent"


class Booked(DomainEvent):
    """Somebody booked something."""

    __event_type__ = "bookings.Booked"
    code: str | None = None
    customer_id: str = "c-0"
    floor: int = 0
    price: Decimal = Decimal(0)
    guest: UUID = UUID(int=0)
    kind: Kind = Kind.ROOM
    ratio: float = 0.0
    paid: bool = False
    due: date = date(2024, 1, 1)


class AnyBooking(AggregateRoot):
    """The stream of one booking, on no base."""

    __ignored_events__: ClassVar[tuple[type[DomainEvent], ...]] = (Booked,)


class Booking(AnyBooking, Base):
    """The stream of one booking."""

    __aggregate_type__ = "bookings.Booking"


class Customer(Base):
    """An ordinary table of the application."""

    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    bookings: Mapped[list[BookingRow]] = relationship(back_populates="customer", viewonly=True, order_by="BookingRow.id")


class Bookings(ReadModel, Base):
    """Bookings in the shared table, with indexes of all kinds."""

    __projection_name__ = "bookings"
    __consistency__ = "strong"
    __indexes__ = (("customer_id", "due"), ("kind", "floor", "price"))

    id: Mapped[str]
    code: Mapped[str | None] = map_from_event(Booked, unique=True)
    customer_id: Mapped[str] = map_from_event(Booked)
    floor: Mapped[int] = map_from_event(Booked, index=True)
    price: Mapped[Decimal] = map_from_event(Booked, index=True)
    guest: Mapped[UUID] = map_from_event(Booked, index=True)
    kind: Mapped[Kind] = map_from_event(Booked)
    ratio: Mapped[float] = map_from_event(Booked, index=True)
    paid: Mapped[bool] = map_from_event(Booked, index=True)
    due: Mapped[date] = map_from_event(Booked, index=True)
    booked_at: Mapped[datetime] = map_from_event(Booked, source="occurred_at", index=True)
    status: Mapped[str] = map_from_event(Booked, source=lambda event: "of " + event.customer_id, index=True)


class ByFloor(ReadModel, Base):
    """A key that is a number."""

    __projection_name__ = "by 'floor'"  # to be quoted
    __consistency__ = "strong"
    floor: Mapped[int] = map_from_event(key=True)
    number: Mapped[int] = map_from_event(Booked, reduce=count(), index=True)


class ByGuest(ReadModel, Base):
    """A key that is a UUID."""

    __projection_name__ = "by_guest"
    __consistency__ = "strong"
    guest: Mapped[UUID] = map_from_event(key=True)
    total: Mapped[Decimal] = map_from_event(Booked, reduce=sum_("price"))


class ByKindAndDay(ReadModel, Base):
    """A key of several fields."""

    __projection_name__ = "by_kind_and_day"
    __consistency__ = "strong"
    kind: Mapped[Kind] = map_from_event(key=True)
    day: Mapped[date] = map_from_event(key=True, source=day())
    floor: Mapped[int] = map_from_event(key=True)
    number: Mapped[int] = map_from_event(Booked, reduce=count())


class BookingRow(ReadModel, Base):
    """Bookings in a table of their own."""

    __tablename__ = "booking_rows"
    __consistency__ = "strong"
    __indexes__ = (("kind", "floor"),)

    id: Mapped[str]
    code: Mapped[str | None] = map_from_event(Booked, unique=True)
    customer_id: Mapped[str] = map_from_event(Booked, column=mapped_column(ForeignKey("customers.id")), index=True)
    price: Mapped[Decimal] = map_from_event(Booked, index=True)
    kind: Mapped[Kind] = map_from_event(Booked)
    floor: Mapped[int] = map_from_event(Booked, column=mapped_column("storey"))
    customer: Mapped[Customer] = relationship(back_populates="bookings", viewonly=True)


START = datetime(2024, 1, 1, tzinfo=UTC)


def booking(number: int, **values: Any) -> Booking:
    """Make the booking of a number."""
    made = Booking(id=f"b-{number:04}")
    given: dict[str, Any] = {"code": f"code {number}", "customer_id": f"c-{number % 50}", "floor": number % 40}
    given |= {"guest": UUID(int=number % 200), "kind": list(Kind)[number % 3], "ratio": number / 8, "paid": number % 100 == 0}
    given |= {"price": Decimal(number) / 4, "due": date(2024, 1, 1) + timedelta(days=number % 60)}
    made.apply_event(Booked(**{**given, **values}), occurred_at=START + timedelta(hours=number * 7))
    return made


def fill(engine: Engine, number: int) -> None:
    """Create the tables and some bookings."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Customer(id=f"c-{each}", name=f"Customer {each}") for each in range(50)])
        session.commit()
        session.add_all([booking(each) for each in range(number)])
        session.commit()
