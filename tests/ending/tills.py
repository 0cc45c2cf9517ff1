"""Streams that are archived: tills of a shop, with all that follows them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    DomainEvent,
    EventSourceOptions,
    ReadModel,
    StreamClosed,
    Worker,
    archive,
    compact,
    event_context,
    grow_tree,
    handles,
    map_from_event,
    subscribe,
    unarchive,
    verify,
)
from sa_eventsource.read_models import count
from tests.shop import AnyTill, Sold


class Base(DeclarativeBase):
    """With archives and proofs."""

    __eventsource__ = EventSourceOptions(archives="archives", proofs=True)


class Till(AnyTill, Base):
    """A till, with a snapshot every two events."""

    __aggregate_type__ = "archiving.Till"
    __snapshot_frequency__ = 2


class Tills(ReadModel, Base):
    """One row a stream, written with the events."""

    __projection_name__ = "archiving_tills"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    what: Mapped[str] = map_from_event(Sold)
    is_open: Mapped[bool] = map_from_event({Sold: True, StreamClosed: False})


class Goods(ReadModel, Base):
    """Rows that many streams feed."""

    __projection_name__ = "archiving_goods"

    what: Mapped[str] = map_from_event(Sold, key=True)
    times: Mapped[int] = map_from_event(Sold, reduce=count())


class Labels(ReadModel, Base):
    """Written by a handler."""

    __tablename__ = "archiving_labels"
    __projection_name__ = "archiving_labels"

    till: Mapped[str] = mapped_column(primary_key=True)

    @classmethod
    @handles(Sold)
    def label(cls, recorded: Any, session: Session) -> None:
        session.execute(text("INSERT INTO archiving_labels VALUES (:till) ON CONFLICT DO NOTHING"), {"till": recorded.aggregate_id})


EVENTS = Base.metadata.tables["events"]
ARCHIVED = Base.metadata.tables["archived_events"]

heard: list[tuple[str, int]] = []


@subscribe("archiving_heard", DomainEvent, base=Base)
def _hear(recorded: Any, _session: Session) -> None:
    heard.append((recorded.aggregate_id, recorded.version))


def sell(engine: Engine, till_id: str, *goods: str, close: bool = True) -> None:
    """Commit a till where something was sold, an event each, and its end."""
    with Session(engine) as session:
        till = Till(id=till_id)
        till.sell(*goods)
        if close:
            till.close_stream("sold out")
        session.add(till)
        session.commit()


def follow_all(engine: Engine) -> None:
    """Bring all followers and the tree to the end of the log."""
    worker = Worker(engine, Base)
    while worker.run_once():
        pass
    with Session(engine) as session:
        grow_tree(session, base=Base)


def all_rows(connection: Connection, till_id: str) -> list[tuple[Any, ...]]:
    """Read all columns of a stream in the log, as text."""
    columns = (
        "event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, metadata, occurred_at, "
        "correlation_id, causation_id, position, transaction_id, recorded_at"
    )
    casts = ", ".join(f"CAST({each.strip()} AS TEXT)" for each in columns.split(","))
    statement = text(f"SELECT {casts} FROM events WHERE aggregate_id = :till ORDER BY version")
    return [tuple(row) for row in connection.execute(statement, {"till": till_id})]


def before_a_move(engine: Engine, name: str) -> list[tuple[Any, ...]]:
    """Bring all to the end of the log, and t-1 to where a move of that name can begin; give its rows before."""
    follow_all(engine)
    with engine.connect() as connection:
        before = all_rows(connection, "t-1")
    if name == "unarchive":
        with Session(engine) as session:
            compact(session, Till, "t-1", reason="r")
            session.commit()
    return before


def put_away(engine: Engine, till_id: str = "t-1") -> Any:
    """Archive a stream, and commit."""
    with Session(engine) as session, event_context(user="ann"):
        done = archive(session, Till, till_id, reason="year 2026")
        session.commit()
        return done


def bring_back(engine: Engine, till_id: str = "t-1") -> Any:
    """Bring a stream back, and commit."""
    with Session(engine) as session:
        done = unarchive(session, Till, till_id, reason="an inspection")
        session.commit()
        return done


def sales(engine: Engine) -> dict[str, int]:
    """Count what was sold, by the model that many streams feed."""
    with Session(engine) as session:
        return {row.what: row.times for row in session.scalars(select(Goods))}


def wrong(engine: Engine) -> list[str]:
    """List what is wrong with the log, its followers and its proofs."""
    return [str(each) for each in verify(engine, Base, proofs=True).findings if not each.is_warning]
