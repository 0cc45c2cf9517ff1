"""A log that is followed in every way, and ways to damage it behind the library's back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, RecordedEvent, Worker, applies, handles, map_from_event
from sa_eventsource.mapping import tables_on
from sa_eventsource.mapping.immutability import SWITCH, create_statements, drop_statements
from sa_eventsource.read_models import append, count, day, first, sum_
from tests.committing import commit_events


class Base(DeclarativeBase):
    """Base of what is verified."""


class Bought(DomainEvent):
    """Something went into a basket."""

    __event_type__ = "verified.Bought"
    article: str
    price: int


class Basket(AggregateRoot[str], Base):
    """With a snapshot every three events."""

    __aggregate_type__ = "verified.Basket"
    __snapshot_frequency__ = 3

    total: int = 0
    articles: tuple[str, ...] = ()

    @applies(Bought)
    def _bought(self, event: Bought) -> None:
        self.total += event.price
        self.articles = (*self.articles, event.article)


class Baskets(ReadModel, Base):
    """Written with the events; one row a stream."""

    __projection_name__ = "baskets"
    __consistency__ = "strong"

    first: Mapped[str] = map_from_event(Bought, reduce=first("article"))
    total: Mapped[int] = map_from_event(Bought, reduce=sum_("price"))
    articles: Mapped[list[str]] = map_from_event(Bought, reduce=append("article"))


class Articles(ReadModel, Base):
    """Rows that many streams feed, followed in three parts."""

    __projection_name__ = "articles"
    __shards__ = 3

    article: Mapped[str] = map_from_event(Bought, key=True)
    number: Mapped[int] = map_from_event(Bought, reduce=count())
    latest: Mapped[int] = map_from_event(Bought, source="price")


class PerDay(ReadModel, Base):
    """A table of its own, which puts aside what it cannot take: more than an integer holds."""

    __tablename__ = "per_day"
    __projection_name__ = "per_day"
    __on_error__ = "park"

    day: Mapped[date] = map_from_event(key=True, source=day())
    basket: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    latest: Mapped[int] = map_from_event(Bought, source="price")


class ByHand(ReadModel, Base):
    """What its handler does, no fold tells."""

    __tablename__ = "by_hand"
    __projection_name__ = "by_hand"

    id: Mapped[str] = mapped_column(primary_key=True)

    @classmethod
    @handles(Bought)
    def _bought(cls, event: RecordedEvent[Bought], session: Session) -> None:
        pass


EVENTS = tables_on(Base.metadata).events

COMPARED = ("articles", "baskets", "per_day")


def buy(engine: Engine, basket_id: str, *prices: int) -> None:
    """Put something into a basket, in a transaction of its own."""
    commit_events(engine, Basket, basket_id, *(Bought(article=f"article {price % 3}", price=price) for price in prices))


def fill(engine: Engine, baskets: int = 4) -> None:
    """Make a log that all have followed, except for what came last."""
    Base.metadata.create_all(engine)
    for number in range(baskets):
        buy(engine, f"b-{number}", *range(1, 6))
    Worker(engine, Base).run_once()
    buy(engine, "b-0", 7)


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
