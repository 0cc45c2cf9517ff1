"""Models of an application whose tenants share tables: one of each kind."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

from pydantic import BaseModel
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    Inbox,
    Personal,
    ReadModel,
    RecordedEvent,
    Roles,
    applies,
    command_handler,
    handles,
    map_from_event,
)
from sa_eventsource.read_models import count
from tests.privacy.keys import MASTER_KEYS

OWN = uuid4().hex[:8]
ROLES = Roles(app=f"t_app_{OWN}", worker=f"t_worker_{OWN}", reader=f"t_reader_{OWN}", privacy_officer=f"t_officer_{OWN}")
TENANT = "sa_eventsource.tenant"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(
        tenants=True, roles=ROLES, commands="commands", master_keys=MASTER_KEYS, anonymisations="anonymisations"
    )


class RoomBooked(DomainEvent):
    __event_type__ = "shared.RoomBooked"

    number: int
    guest: Annotated[str, Personal(subject="guest_id", placeholder="(forgotten)")]
    guest_id: str = "g-1"


class RoomLeft(DomainEvent):
    __event_type__ = "shared.RoomLeft"


class Room(AggregateRoot, Base):
    __aggregate_type__ = "shared.Room"
    __snapshot_frequency__ = 2

    guest: str | None = None

    @applies(RoomBooked)
    def _booked(self, event: RoomBooked) -> None:
        self.guest = event.guest

    @applies(RoomLeft)
    def _left(self, _event: RoomLeft) -> None:
        self.guest = None

    @classmethod
    def book(cls, room_id: str, guest: str, *, number: int = 1) -> Room:
        room = cls(id=room_id)
        room.apply_event(RoomBooked(number=number, guest=guest))
        return room


class Bookings(ReadModel, Base):
    """Strong, in a table of its own, with a unique value beside the key."""

    __tablename__ = "bookings"
    __projection_name__ = "shared.bookings"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(RoomBooked, key=True, source="aggregate_id")
    number: Mapped[int] = map_from_event(RoomBooked, unique=True)


class PerNumber(ReadModel, Base):
    """Eventual, in the shared table: a row takes events of many streams."""

    __projection_name__ = "shared.per_number"

    number: Mapped[int] = map_from_event(RoomBooked, key=True)
    bookings: Mapped[int] = map_from_event(RoomBooked, reduce=count())


class Guests(ReadModel, Base):
    """Eventual, in clear, in a table of its own."""

    __tablename__ = "guests"
    __projection_name__ = "shared.guests"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(RoomBooked, key=True, source="aggregate_id")
    guest: Mapped[str] = map_from_event(RoomBooked)


class Departures(ReadModel, Base):
    """Written by a handler."""

    __tablename__ = "departures"
    __projection_name__ = "shared.departures"

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")

    @classmethod
    @handles(RoomLeft)
    def _left(cls, recorded: RecordedEvent[RoomLeft], session: Session) -> None:
        session.merge(cls(id=recorded.aggregate_id))


class Book(BaseModel):
    __command_type__ = "shared.Book"

    room: str
    guest: str
    number: int = 1


@command_handler(Book)
def book(command: Book, session: Session) -> None:
    session.add(Room.book(command.room, command.guest, number=command.number))


inbox = Inbox(Base)


def engine_as(engine: Engine, role: str) -> Engine:
    """Connect to the database of an engine as a role."""
    return create_engine(engine.url.set(username=role, password=OWN))


def session_of(engine: Engine, tenant: str) -> Session:
    """Open a session of a tenant."""
    return Session(engine, info={TENANT: tenant})


def for_tenant(engine: Engine, tenant: str) -> Engine:
    """Give an engine whose sessions are a tenant's."""
    return engine.execution_options(**{TENANT: tenant})
