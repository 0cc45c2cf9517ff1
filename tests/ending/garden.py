"""Streams that are archived: beds of a garden, with all that follows them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    ReadModel,
    StreamClosed,
    Worker,
    applies,
    grow_tree,
    handles,
    map_from_event,
    subscribe,
)
from sa_eventsource.read_models import count


class Base(DeclarativeBase):
    """With archives and proofs."""

    __eventsource__ = EventSourceOptions(archives="archives", proofs=True)


class Planted(DomainEvent):
    """Something was planted."""

    __event_type__ = "archiving.Planted"
    plant: str


class Bed(AggregateRoot, Base):
    """A bed."""

    __aggregate_type__ = "archiving.Bed"
    __snapshot_frequency__ = 2

    plants: tuple[str, ...] = ()

    @applies(Planted)
    def _planted(self, event: Planted) -> None:
        self.plants = (*self.plants, event.plant)


class Beds(ReadModel, Base):
    """One row a stream, written with the events."""

    __projection_name__ = "archiving_beds"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Planted, key=True, source="aggregate_id")
    plant: Mapped[str] = map_from_event(Planted)
    is_open: Mapped[bool] = map_from_event({Planted: True, StreamClosed: False})


class Plants(ReadModel, Base):
    """Rows that many streams feed."""

    __projection_name__ = "archiving_plants"

    plant: Mapped[str] = map_from_event(Planted, key=True)
    times: Mapped[int] = map_from_event(Planted, reduce=count())


class Labels(ReadModel, Base):
    """Written by a handler."""

    __tablename__ = "archiving_labels"
    __projection_name__ = "archiving_labels"

    bed: Mapped[str] = mapped_column(primary_key=True)

    @classmethod
    @handles(Planted)
    def planted(cls, recorded: Any, session: Session) -> None:
        session.execute(text("INSERT INTO archiving_labels VALUES (:bed) ON CONFLICT DO NOTHING"), {"bed": recorded.aggregate_id})


heard: list[tuple[str, int]] = []


@subscribe("archiving_heard", DomainEvent, base=Base)
def _hear(recorded: Any, _session: Session) -> None:
    heard.append((recorded.aggregate_id, recorded.version))


def plant(engine: Engine, bed_id: str, *plants: str, close: bool = True) -> None:
    """Commit a bed, an event a plant, and its end."""
    with Session(engine) as session:
        bed = Bed(id=bed_id)
        for each in plants:
            bed.apply_event(Planted(plant=each))
        if close:
            bed.close_stream("frost")
        session.add(bed)
        session.commit()


def follow_all(engine: Engine) -> None:
    """Bring all followers and the tree to the end of the log."""
    worker = Worker(engine, Base)
    while worker.run_once():
        pass
    with Session(engine) as session:
        grow_tree(session, base=Base)


def all_rows(connection: Connection, bed_id: str) -> list[tuple[Any, ...]]:
    """Read all columns of a stream in the log, as text."""
    columns = (
        "event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, metadata, occurred_at, "
        "correlation_id, causation_id, position, transaction_id, recorded_at"
    )
    casts = ", ".join(f"CAST({each.strip()} AS TEXT)" for each in columns.split(","))
    statement = text(f"SELECT {casts} FROM events WHERE aggregate_id = :bed ORDER BY version")
    return [tuple(row) for row in connection.execute(statement, {"bed": bed_id})]
