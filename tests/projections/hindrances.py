"""A log of orders that get notes, followed by models and subscriptions that something may keep from going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import ReadModel, RecordedEvent, handles, map_from_event, subscribe
from sa_eventsource.read_models import count
from tests.committing import commit_events
from tests.shop import AnyOrder, NoteAdded


class Base(DeclarativeBase):
    """Base of the orders."""


class Order(AnyOrder, Base):
    """What the notes are about."""

    __aggregate_type__ = "hindrances.Order"


hindering: list[Callable[[RecordedEvent[NoteAdded], Session], object]] = []
"""Called by the handler first."""


class Declared(ReadModel, Base):
    """NoteAdded by one statement a batch."""

    __tablename__ = "hindered_declared"
    __projection_name__ = "declared"
    __on_error__ = "park"

    id: Mapped[str]
    text: Mapped[str] = map_from_event(NoteAdded, index=True)


class Handled(ReadModel, Base):
    """NoteAdded by a handler."""

    __tablename__ = "hindered_handled"
    __projection_name__ = "handled"
    __on_error__ = "park"

    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")

    @classmethod
    @handles(NoteAdded)
    def _noted(cls, event: RecordedEvent[NoteAdded], session: Session) -> None:
        for hindrance in hindering:
            hindrance(event, session)
        session.add(cls(id=event.aggregate_id, text=event.event.text))


class Innocent(ReadModel, Base):
    """Always able to go on; its name comes last."""

    __projection_name__ = "innocent"

    id: Mapped[str]
    number: Mapped[int] = map_from_event(NoteAdded, reduce=count())


class Numbered(ReadModel, Base):
    """Keyed by numbers, which not every order's id is."""

    __projection_name__ = "numbered"
    __on_error__ = "park"

    id: Mapped[int]
    number: Mapped[int] = map_from_event(NoteAdded, reduce=count())


called: list[str] = []


@subscribe("archive", NoteAdded, base=Base, on_error="park")
def _archive(noted: RecordedEvent[NoteAdded], session: Session) -> None:
    called.append(noted.aggregate_id)
    session.execute(text("INSERT INTO archive VALUES (:id)"), {"id": noted.aggregate_id})


def write(engine: Engine, **notes: str) -> None:
    """Commit a note for each keyword, which is the order's id, one after the other."""
    for order_id, content in notes.items():
        commit_events(engine, Order, order_id, NoteAdded(text=content))


def ids(engine: Engine, model: type[Any]) -> list[str]:
    """The ids of a model's rows."""
    with Session(engine) as session:
        return sorted(row.id for row in session.scalars(select(model)))


def parked(engine: Engine) -> list[tuple[str, str]]:
    """Who has parked the notes of which orders."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT projection_name, aggregate_id FROM parked_events ORDER BY 1, 2"))
        return [tuple(row) for row in rows]
