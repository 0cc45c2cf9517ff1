"""Ferries, whose log has four partitions."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, ReadModel, applies, event_record, map_from_event
from sa_eventsource.read_models import append, sum_


class Base(DeclarativeBase):
    """Base of the ferries."""

    __eventsource__ = EventSourceOptions(partitions=4)


class SeatsBooked(DomainEvent):
    """Seats were booked."""

    __event_type__ = "ferries.SeatsBooked"
    seats: int


class Ferry(AggregateRoot[str], Base):
    """A ferry."""

    __aggregate_type__ = "ferries.Ferry"
    seats: int = 0

    @applies(SeatsBooked)
    def _booked(self, event: SeatsBooked) -> None:
        self.seats += event.seats


class Passengers(ReadModel, Base):
    """What was booked on each ferry, in order: what is skipped, or comes twice, shows."""

    __projection_name__ = "ferries.passengers"
    id: Mapped[str]
    booked: Mapped[list[int]] = map_from_event(SeatsBooked, reduce=append("seats"))
    seats: Mapped[int] = map_from_event(SeatsBooked, source="seats", reduce=sum_())


EVENTS = event_record(Base).__table__
PARTITIONS = [f"events_p{number}" for number in range(4)]


def book(engine: Engine, ferry_id: str, *seats: int, event_id: UUID | None = None) -> None:
    """Book seats, in one transaction."""
    with Session(engine) as session:
        ferry = session.get(Ferry, ferry_id) or Ferry(id=ferry_id)
        session.add(ferry)
        for each in seats:
            ferry.apply_event(SeatsBooked(seats=each), event_id=event_id)
        session.commit()


def partition_of(engine: Engine, ferry_id: str) -> str:
    """Name the partition that a ferry's events lie in."""
    with engine.connect() as connection:
        found = connection.scalars(
            text("SELECT DISTINCT tableoid::regclass::text FROM events WHERE aggregate_id = :id"), {"id": ferry_id}
        )
        return str(found.one())


def in_two_partitions(engine: Engine) -> tuple[str, str]:
    """Book on ferries until two lie in different partitions; name these."""
    book(engine, "f-0", 1)
    for number in range(1, 100):
        book(engine, f"f-{number}", 1)
        if partition_of(engine, f"f-{number}") != partition_of(engine, "f-0"):
            return "f-0", f"f-{number}"
    raise AssertionError("all ferries are in one partition")
