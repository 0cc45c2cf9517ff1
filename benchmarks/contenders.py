"""What is compared: the same rows, written and read three ways."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, Index, Table, UniqueConstraint, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, foreign, mapped_column, relationship, selectinload

from benchmarks.domain import Base, Order, payload
from sa_eventsource.mapping import EVENT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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

    def new_streams(self, count: int, events: int) -> list[UUID]:
        """Store new streams of so many events each, for :meth:`load_many`."""
        return [self.new_stream(events) for _ in range(count)]

    @abstractmethod
    def load_many(self, streams: Sequence[UUID]) -> int:
        """Load streams by one query, as far as the contender can, and return the number of their events."""


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

    _SELECT_MANY = (
        "SELECT aggregate_id, version, event_type, event_version, event_data FROM events WHERE aggregate_type = %s "
        "AND aggregate_id = ANY(%s) ORDER BY aggregate_id, version"
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

    def load_many(self, streams: Sequence[UUID]) -> int:
        """BEGIN, SELECT, COMMIT; payloads become dicts, in a list for each stream."""
        connection = self._connection
        found: dict[str, list[Any]] = {}
        asked = ("Order", [str(each) for each in streams])
        for stream, *rest in connection.execute(self._SELECT_MANY, asked, prepare=True):
            found.setdefault(stream, []).append(rest)
        connection.commit()
        return sum(map(len, found.values()))


class RawPipeline(RawPsycopg):
    """The same in psycopg's pipelines: what needs no answer goes with what does."""

    name = "raw psycopg, pipeline"

    def new_stream(self, count: int) -> UUID:
        """BEGIN, INSERT, COMMIT at once."""
        stream = uuid4()
        connection = self._in_autocommit
        with connection.pipeline():
            connection.execute("BEGIN")
            if count == 1:
                connection.execute(self._INSERT, self._row(stream, 1), prepare=True)
            else:
                with connection.cursor() as cursor:
                    cursor.executemany(self._INSERT, [self._row(stream, version + 1) for version in range(count)])
            connection.execute("COMMIT")
        return stream

    def change(self, stream: UUID) -> None:
        """BEGIN and SELECT; INSERT and COMMIT."""
        connection = self._in_autocommit
        with connection.pipeline():
            connection.execute("BEGIN")
            cursor = connection.execute(self._SELECT, ("Order", str(stream)), prepare=True)
        rows = cursor.fetchall()
        with connection.pipeline():
            connection.execute(self._INSERT, self._row(stream, rows[-1][0] + 1), prepare=True)
            connection.execute("COMMIT")

    @property
    def _in_autocommit(self) -> psycopg.Connection[Any]:
        connection = self._connection
        if not connection.autocommit:
            connection.autocommit = True  # psycopg sends its own BEGIN by itself, and waits
        return connection


class _PlainBase(DeclarativeBase):
    metadata = Base.metadata


class EventRow(_PlainBase):
    """An event as an ordinary entity."""

    __table__ = _PLAIN_EVENTS
    __mapper_args__ = {"exclude_properties": ["metadata"]}  # noqa: RUF012 - SQLAlchemy's way


class OrderRow(_PlainBase):
    """An order as an ordinary entity, which has its events."""

    __tablename__ = "plain_orders"

    id: Mapped[str] = mapped_column(primary_key=True)
    events: Mapped[list[EventRow]] = relationship(
        primaryjoin=lambda: OrderRow.id == foreign(_PLAIN_EVENTS.c.aggregate_id),
        order_by=_PLAIN_EVENTS.c.version,
        viewonly=True,
    )


class PlainOrm(Contender):
    """An ORM row for each event, in a table as an application without the library would map it."""

    def __init__(self, engine: Engine, name: str = "plain ORM") -> None:
        """Remember the engine."""
        self._engine = engine
        self.name = name

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

    def new_streams(self, count: int, events: int) -> list[UUID]:
        """Store the orders too, whose events are loaded with them."""
        streams = super().new_streams(count, events)
        with Session(self._engine) as session:
            session.add_all([OrderRow(id=str(each)) for each in streams])
            session.commit()
        return streams

    def load_many(self, streams: Sequence[UUID]) -> int:
        """Select the orders, and their events by ``selectinload``: two statements, and one more for each 500 orders."""
        with Session(self._engine) as session:
            asked = select(OrderRow).where(OrderRow.id.in_([str(each) for each in streams]))
            return sum(len(each.events) for each in session.scalars(asked.options(selectinload(OrderRow.events))))


class SaEventsource(Contender):
    """This library, used as its README says."""

    def __init__(self, engine: Engine, name: str = "sa_eventsource") -> None:
        """Remember the engine."""
        self._engine = engine
        self.name = name

    def _session(self) -> AbstractContextManager[Session]:
        return Session(self._engine)

    def new_stream(self, count: int) -> UUID:
        """Apply events to a new aggregate, add it, commit."""
        with self._session() as session:
            order = Order(id=uuid4())
            for number in range(count):
                order.add(number)
            stream = order.id
            session.add(order)
            session.commit()
        return stream

    def change(self, stream: UUID) -> None:
        """Get the aggregate, apply an event, commit."""
        with self._session() as session:
            session.get_one(Order, stream).add(1)
            session.commit()

    def load(self, stream: UUID) -> int:
        """Get the aggregate: typed events, applied."""
        with self._session() as session:
            return session.get_one(Order, stream).items

    def load_many(self, streams: Sequence[UUID]) -> int:
        """Select the aggregates: typed events, applied."""
        with self._session() as session:
            return sum(each.items for each in session.scalars(select(Order).where(Order.id.in_(streams))))


class SaEventsourceSessionKept(SaEventsource):
    """This library, with one session for a thread's whole life: each piece of work is a transaction of it."""

    name = "sa_eventsource, a session kept"

    def __init__(self, engine: Engine) -> None:
        """Remember the engine; each thread gets a session."""
        super().__init__(engine)
        self._local = threading.local()

    def _session(self) -> AbstractContextManager[Session]:
        if not hasattr(self._local, "session"):
            self._local.session = Session(self._engine)
        return _emptied(self._local.session)


@contextmanager
def _emptied(session: Session) -> Iterator[Session]:
    """Let go of what a session holds after a block, and end its transaction."""
    try:
        yield session
    finally:
        session.rollback()
        session.expunge_all()
