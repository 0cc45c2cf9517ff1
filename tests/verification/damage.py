"""A log that is followed in every way, and ways to damage it behind the library's back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import ReadModel, RecordedEvent, Worker, applies, handles, map_from_event
from sa_eventsource.mapping import tables_on
from sa_eventsource.mapping.immutability import SWITCH, create_statements, drop_statements
from sa_eventsource.read_models import append, count, day, first, sum_
from tests.committing import commit_events
from tests.shop import AnyTill, Sold


class Base(DeclarativeBase):
    """Base of what is verified."""


class Till(AnyTill, Base):
    """It knows the numbers too; with a snapshot every three events."""

    __aggregate_type__ = "verified.Till"
    __snapshot_frequency__ = 3

    total: int = 0

    @applies(Sold)
    def _sold(self, event: Sold) -> None:
        super()._sold(event)
        self.total += event.number


class Tills(ReadModel, Base):
    """Written with the events; one row a stream."""

    __projection_name__ = "tills"
    __consistency__ = "strong"

    first: Mapped[str] = map_from_event(Sold, reduce=first("what"))
    total: Mapped[int] = map_from_event(Sold, reduce=sum_("number"))
    articles: Mapped[list[str]] = map_from_event(Sold, reduce=append("what"))


class Articles(ReadModel, Base):
    """Rows that many streams feed, followed in three parts."""

    __projection_name__ = "articles"
    __shards__ = 3

    article: Mapped[str] = map_from_event(Sold, key=True, source="what")
    number: Mapped[int] = map_from_event(Sold, reduce=count())
    latest: Mapped[int] = map_from_event(Sold, source="number")


class PerDay(ReadModel, Base):
    """A table of its own, which puts aside what it cannot take: more than an integer holds."""

    __tablename__ = "per_day"
    __projection_name__ = "per_day"
    __on_error__ = "park"

    day: Mapped[date] = map_from_event(key=True, source=day())
    till: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    latest: Mapped[int] = map_from_event(Sold, source="number")


class ByHand(ReadModel, Base):
    """What its handler does, no fold tells."""

    __tablename__ = "by_hand"
    __projection_name__ = "by_hand"

    id: Mapped[str] = mapped_column(primary_key=True)

    @classmethod
    @handles(Sold)
    def _sold(cls, event: RecordedEvent[Sold], session: Session) -> None:
        pass


EVENTS = tables_on(Base.metadata).events

COMPARED = ("articles", "tills", "per_day")


def sell(engine: Engine, till_id: str, *numbers: int) -> None:
    """Sell so many of something at a till, an event each, in a transaction of its own."""
    commit_events(engine, Till, till_id, *(Sold(what=f"article {number % 3}", number=number) for number in numbers))


def fill(engine: Engine, tills: int = 4) -> None:
    """Make a log that all have followed, except for what came last."""
    Base.metadata.create_all(engine)
    for number in range(tills):
        sell(engine, f"t-{number}", *range(1, 6))
    Worker(engine, Base).run_once()
    sell(engine, "t-0", 7)


def execute(engine: Engine, *statements: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> None:
    """Change what is stored, with nobody to refuse it."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL {SWITCH} = 'on'"))
        else:
            for guard in drop_statements(EVENTS, "sqlite"):
                connection.execute(guard)
        for each in statements:
            connection.execute(text(each), parameters or None)
        if engine.dialect.name == "sqlite":
            for guard in create_statements(EVENTS, "sqlite"):
                connection.execute(guard)
