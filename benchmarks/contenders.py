"""What is compared: the same rows, written and read three ways."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, Index, Table, UniqueConstraint, select
from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.domain import Base, Order, payload
from sa_eventsource.mapping import EVENT_COLUMNS

# The log is written by the library alone: an ordinary entity has a table of the same shape.
_PLAIN_EVENTS = Table(
    "plain_events",
    Base.metadata,
    *(each.column() for each in EVENT_COLUMNS),
    UniqueConstraint("aggregate_type", "aggregate_id", "version"),
    UniqueConstraint("position"),
)
for _name in ("event_type", "occurred_at", "transaction_id"):
    Index(f"ix_plain_events_{_name}", _PLAIN_EVENTS.c[_name])
Index(
    "ix_plain_events_correlation_id", _PLAIN_EVENTS.c.correlation_id, postgresql_where=_PLAIN_EVENTS.c.correlation_id.is_not(None)
)


class Contender(ABC):
    """One way to do the work. A stream's id comes from :meth:`new_stream`."""

    name: str

    @abstractmethod
    def new_stream(self, count: int) -> UUID:
        """Store a new stream of *count* events in one transaction."""

    @abstractmethod
    def change(self, stream: UUID) -> None:
        """Load a stream, add one event with a version check, commit."""

    @abstractmethod
    def load(self, stream: UUID) -> int:
        """Load a stream and return the number of its events."""


class RawPsycopg(Contender):
    """The least a careful person would write by hand: prepared statements on a connection of one's own."""

    name = "raw psycopg"

    _INSERT = (
        "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, metadata, "
        "occurred_at, correlation_id, causation_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    )
    _SELECT = (
        "SELECT version, event_type, event_version, event_data FROM events WHERE aggregate_type = %s AND aggregate_id = %s "
        "ORDER BY version"
    )

    def __init__(self, dsn: str) -> None:
        """Remember where to connect; each thread gets a connection."""
        self._dsn = dsn
        self._local = threading.local()

    @property
    def _connection(self) -> psycopg.Connection[Any]:
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(self._dsn)
        connection: psycopg.Connection[Any] = self._local.connection
        return connection

    def close(self) -> None:
        """Close the connection of this thread."""
        self._connection.close()

    def _row(self, stream: UUID, version: int) -> tuple[Any, ...]:
        now = datetime.now(UTC)
        return (uuid4(), "Order", str(stream), version, "ItemAdded", 1, Jsonb(payload(version)), None, now, None, None)

    def new_stream(self, count: int) -> UUID:
        """BEGIN, INSERT (executemany for several), COMMIT."""
        stream = uuid4()
        connection = self._connection
        if count == 1:
            connection.execute(self._INSERT, self._row(stream, 1), prepare=True)
        else:
            with connection.cursor() as cursor:
                cursor.executemany(self._INSERT, [self._row(stream, version + 1) for version in range(count)])
        connection.commit()
        return stream

    def change(self, stream: UUID) -> None:
        """BEGIN, SELECT, INSERT, COMMIT."""
        connection = self._connection
        rows = connection.execute(self._SELECT, ("Order", str(stream)), prepare=True).fetchall()
        connection.execute(self._INSERT, self._row(stream, rows[-1][0] + 1), prepare=True)
        connection.commit()

    def load(self, stream: UUID) -> int:
        """BEGIN, SELECT, COMMIT; payloads become dicts."""
        connection = self._connection
        rows = connection.execute(self._SELECT, ("Order", str(stream)), prepare=True).fetchall()
        connection.commit()
        return len(rows)


class _PlainBase(DeclarativeBase):
    metadata = Base.metadata


class EventRow(_PlainBase):
    """An event as an ordinary entity."""

    __table__ = _PLAIN_EVENTS
    __mapper_args__ = {"exclude_properties": ["metadata"]}  # noqa: RUF012 - SQLAlchemy's way


class PlainOrm(Contender):
    """An ORM row for each event, in a table as an application without the library would map it."""

    name = "plain ORM"

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    def _row(self, stream: UUID, version: int) -> EventRow:
        return EventRow(
            event_id=uuid4(),
            aggregate_type="Order",
            aggregate_id=str(stream),
            version=version,
            event_type="ItemAdded",
            event_version=1,
            event_data=payload(version),
            occurred_at=datetime.now(UTC),
        )

    def new_stream(self, count: int) -> UUID:
        """Add the rows and commit."""
        stream = uuid4()
        with Session(self._engine) as session:
            session.add_all([self._row(stream, version + 1) for version in range(count)])
            session.commit()
        return stream

    def _load(self, session: Session, stream: UUID) -> list[EventRow]:
        table = EventRow.__table__
        statement = select(EventRow).where(table.c.aggregate_type == "Order", table.c.aggregate_id == str(stream))
        return list(session.scalars(statement.order_by(table.c.version)))

    def change(self, stream: UUID) -> None:
        """Select the rows, add one, commit."""
        with Session(self._engine) as session:
            rows = self._load(session, stream)
            session.add(self._row(stream, len(rows) + 1))
            session.commit()

    def load(self, stream: UUID) -> int:
        """Select the rows."""
        with Session(self._engine) as session:
            return len(self._load(session, stream))


class SaEventsource(Contender):
    """This library, used as its README says."""

    name = "sa_eventsource"

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    def new_stream(self, count: int) -> UUID:
        """Apply events to a new aggregate, add it, commit."""
        with Session(self._engine) as session:
            order = Order(id=uuid4())
            for number in range(count):
                order.add(number)
            stream = order.id
            session.add(order)
            session.commit()
        return stream

    def change(self, stream: UUID) -> None:
        """Get the aggregate, apply an event, commit."""
        with Session(self._engine) as session:
            session.get_one(Order, stream).add(1)
            session.commit()

    def load(self, stream: UUID) -> int:
        """Get the aggregate: typed events, applied."""
        with Session(self._engine) as session:
            return session.get_one(Order, stream).items
