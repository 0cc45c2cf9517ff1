"""Shelves, of which models with ``@evolves`` methods say what lies on them."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Enum, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, object_session

from sa_eventsource import REMOVED, AggregateRoot, DomainEvent, Evolved, ReadModel, RecordedEvent, evolves, map_from_event, upcast


class Base(DeclarativeBase):
    """The application's declarative base."""


class State(enum.Enum):
    """The column has the members' names."""

    OPEN = "o"
    DONE = "d"


class Put(DomainEvent):
    """Something was put on a shelf; once told in dozens."""

    __event_type__ = "evolving.Put"
    __event_version__ = 2
    article: str
    number: int


@upcast(Put, from_version=1)
def _from_dozens(payload: dict[str, Any]) -> dict[str, Any]:
    return {"article": payload["article"], "number": 12 * payload["dozens"]}


class Taken(DomainEvent):
    """Something was taken off it."""

    __event_type__ = "evolving.Taken"
    article: str
    number: int


class Cleared(DomainEvent):
    """It was cleared."""

    __event_type__ = "evolving.Cleared"


class Shelf(AggregateRoot, Base):
    """A shelf."""

    __aggregate_type__ = "evolving.Shelf"
    __ignored_events__ = (Put, Taken, Cleared)


class Trolley(AggregateRoot, Base):
    """It moves, and has what shelves have."""

    __aggregate_type__ = "evolving.Trolley"
    __ignored_events__ = (Put, Taken)


class _Stock(ReadModel):
    __abstract__ = True
    __removed_by__ = (Cleared,)
    __aggregates__ = (Shelf,)
    least: ClassVar[int] = -100

    number: Mapped[int] = mapped_column(default=0)
    is_full: Mapped[bool] = mapped_column(default=False)
    articles: Mapped[list[str]] = mapped_column(default=list)

    @evolves(Put)
    def put(self, recorded: RecordedEvent[Put]) -> None:
        assert object_session(self) is None
        if recorded.event.number < self.least:
            raise ArithmeticError(f"cannot put {recorded.event.number}")
        self.number += recorded.event.number
        self.articles.append(recorded.event.article)
        self.is_full = self.number >= 10

    @evolves(Taken)
    def take(self, recorded: RecordedEvent[Taken]) -> Evolved:
        self.number -= recorded.event.number
        return REMOVED if self.number <= 0 else None


class Stock(_Stock, Base):
    """What is on each shelf, in the shared table."""

    __projection_name__ = "evolving.stock"


class StrongStock(_Stock, Base):
    """The same, with the events."""

    __projection_name__ = "evolving.strong_stock"
    __consistency__ = "strong"


class OwnStock(_Stock, Base):
    """The same in a table of its own, in several parts."""

    __tablename__ = "evolving_own_stock"
    __shards__ = 3
    __on_error__ = "park"
    least: ClassVar[int] = 0


class StrongArticles(ReadModel, Base):
    """How many there are of each article, on all shelves and trolleys."""

    __tablename__ = "evolving_articles"
    __consistency__ = "strong"

    article: Mapped[str] = map_from_event(key=True)
    number: Mapped[int] = mapped_column(BigInteger, default=0)
    cost: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=0)
    state: Mapped[State] = mapped_column(Enum(State), default=State.OPEN)
    word: Mapped[str | None] = mapped_column(String(5))
    written_by: Mapped[str] = mapped_column(server_default="the database")

    @evolves(Put, Taken)
    def count(self, recorded: RecordedEvent[Put | Taken]) -> None:
        sign = 1 if isinstance(recorded.event, Put) else -1
        self.number += sign * recorded.event.number
        self.cost += Decimal("0.005")
        self.state = State.DONE
        self.word = recorded.event.article


def put(number: int = 1, article: str = "tea") -> Put:
    return Put(article=article, number=number)


def take(number: int = 1, article: str = "tea") -> Taken:
    return Taken(article=article, number=number)
