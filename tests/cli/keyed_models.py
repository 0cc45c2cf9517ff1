"""Models whose rows have keys of other types than text."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, map_from_event
from sa_eventsource.read_models import count


class Base(DeclarativeBase):
    """The declarative base."""


class Named(DomainEvent):
    """What the rows are of."""

    __event_type__ = "keyed.Named"

    number: int
    word: str


class Thing(AggregateRoot[UUID], Base):
    """Has the events."""

    __aggregate_type__ = "keyed.Thing"
    __ignored_events__ = (Named,)


class ById(ReadModel, Base):
    """A row a thing."""

    __projection_name__ = "by_id"

    id: Mapped[UUID] = map_from_event(key=True, source="aggregate_id")
    word: Mapped[str] = map_from_event(Named)


class ByNumber(ReadModel, Base):
    """A row a number."""

    __projection_name__ = "by_number"

    number: Mapped[int] = map_from_event(Named, key=True)
    things: Mapped[int] = map_from_event(Named, reduce=count())


class ByBoth(ReadModel, Base):
    """A row a number and a word."""

    __projection_name__ = "by_both"

    number: Mapped[int] = map_from_event(Named, key=True)
    word: Mapped[str] = map_from_event(Named, key=True)
    things: Mapped[int] = map_from_event(Named, reduce=count())
