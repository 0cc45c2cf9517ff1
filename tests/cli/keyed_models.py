"""Models whose rows have keys of other types than text."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import ReadModel, map_from_event
from sa_eventsource.read_models import count
from tests.shop import AnyTill, Sold


class Base(DeclarativeBase):
    """The declarative base."""


class Till(AnyTill[UUID], Base):
    """Its ids are of another type, too."""

    __aggregate_type__ = "keyed.Till"


class ById(ReadModel, Base):
    """A row a till."""

    __projection_name__ = "by_id"

    id: Mapped[UUID] = map_from_event(key=True, source="aggregate_id")
    what: Mapped[str] = map_from_event(Sold)


class ByNumber(ReadModel, Base):
    """A row a number."""

    __projection_name__ = "by_number"

    number: Mapped[int] = map_from_event(Sold, key=True)
    times: Mapped[int] = map_from_event(Sold, reduce=count())


class ByBoth(ReadModel, Base):
    """A row a number and what was sold."""

    __projection_name__ = "by_both"

    number: Mapped[int] = map_from_event(Sold, key=True)
    what: Mapped[str] = map_from_event(Sold, key=True)
    times: Mapped[int] = map_from_event(Sold, reduce=count())
