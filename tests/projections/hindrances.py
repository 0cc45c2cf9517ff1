"""A log of notes, followed by models and subscriptions that something may keep from going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, RecordedEvent, handles, map_from_event, subscribe
from sa_eventsource.read_models import count
from tests.committing import commit_events


class Base(DeclarativeBase):
    """Base of the notes."""


class Written(DomainEvent):
    """A note was written."""

    __event_type__ = "hindrances.Written"
    text: str


class Note(AggregateRoot[str], Base):
    """What is written once."""

    __aggregate_type__ = "hindrances.Note"
    __ignored_events__ = (Written,)


hindering: list[Callable[[RecordedEvent[Written], Session], object]] = []
"""Called by the handler first."""


class Declared(ReadModel, Base):
    """Written by one statement a batch."""

    __tablename__ = "hindered_declared"
    __projection_name__ = "declared"
    __on_error__ = "park"

    id: Mapped[str]
    text: Mapped[str] = map_from_event(Written, index=True)


class Handled(ReadModel, Base):
    """Written by a handler."""

    __tablename__ = "hindered_handled"
    __projection_name__ = "handled"
    __on_error__ = "park"

    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")

    @classmethod
    @handles(Written)
    def _written(cls, event: RecordedEvent[Written], session: Session) -> None:
        for hindrance in hindering:
            hindrance(event, session)
        session.add(cls(id=event.aggregate_id, text=event.event.text))


class Innocent(ReadModel, Base):
    """Always able to go on; its name comes last."""

    __projection_name__ = "innocent"

    id: Mapped[str]
    number: Mapped[int] = map_from_event(Written, reduce=count())


class Numbered(ReadModel, Base):
    """Keyed by numbers, which not every note's id is."""

    __projection_name__ = "numbered"
    __on_error__ = "park"

    id: Mapped[int]
    number: Mapped[int] = map_from_event(Written, reduce=count())


called: list[str] = []


@subscribe("archive", Written, base=Base, on_error="park")
def _archive(written: RecordedEvent[Written], session: Session) -> None:
    called.append(written.aggregate_id)
    session.execute(text("INSERT INTO archive VALUES (:id)"), {"id": written.aggregate_id})


def write(engine: Engine, **notes: str) -> None:
    """Commit a note for each keyword, in this order."""
    for note_id, content in notes.items():
        commit_events(engine, Note, note_id, Written(text=content))


def ids(engine: Engine, model: type[Any]) -> list[str]:
    """The ids of a model's rows."""
    with Session(engine) as session:
        return sorted(row.id for row in session.scalars(select(model)))


def parked(engine: Engine) -> list[tuple[str, str]]:
    """Who has parked which notes."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT projection_name, aggregate_id FROM parked_events ORDER BY 1, 2"))
        return [tuple(row) for row in rows]
