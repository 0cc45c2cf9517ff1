"""python-event-sourcery: its SQLAlchemy backend on psycopg2, and a subscription in batches, each with one statement for its rows.

A session and a backend for each unit of work, as in its README: a session keeps every stream that it has appended to. What a batch
does to the rows, and where the position is kept, the library leaves to the application; here both are one transaction.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID, uuid4

from event_sourcery import StreamId
from event_sourcery.event import Event
from event_sourcery_sqlalchemy import SQLAlchemyBackend, SQLAlchemyConfig, configure_models
from sqlalchemy import URL, Integer, Numeric, String, create_engine, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.peers.orders import line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from event_sourcery.event import Recorded

_BATCH = 1000
_CONFIG = SQLAlchemyConfig(gap_retry_interval=timedelta(milliseconds=10))
_TIME_LIMIT = 0.1
"""Seconds until a batch that is not full is given out: the least that the library takes."""


class Base(DeclarativeBase):
    """Declarative base of the application."""


configure_models(Base)


class ItemAdded(Event):
    """A line of an order."""

    customer_id: str
    sku: str
    quantity: int
    price: Decimal


class OrderTotal(Base):
    """The read model."""

    __tablename__ = "peers_sourcery_totals"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    lines: Mapped[int] = mapped_column(Integer)
    total: Mapped[Decimal] = mapped_column(Numeric)


class Position(Base):
    """How far a read model has come."""

    __tablename__ = "peers_sourcery_positions"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    position: Mapped[int]


class EventSourcery:
    """The library as its documentation says."""

    view = OrderTotal.__tablename__

    def __init__(self, url: URL, connections: int) -> None:
        """Connect through psycopg2, which the library brings."""
        self._engine = create_engine(url.set(drivername="postgresql+psycopg2"), pool_size=connections)

    def create_tables(self) -> None:
        """Create the library's tables and the read model's."""
        Base.metadata.create_all(self._engine)

    def append(self, lines: int) -> UUID:
        """Append to a new stream."""
        order_id = uuid4()
        with Session(self._engine) as session:
            store = SQLAlchemyBackend().configure(session, _CONFIG).event_store
            store.append(*(ItemAdded(**line(number)) for number in range(lines)), stream_id=StreamId(order_id, category="order"))
            session.commit()
        return order_id

    def catch_up(self) -> None:
        """Take batches up to the last event that is there."""
        with Session(self._engine) as session:
            last = SQLAlchemyBackend().configure(session).event_store.position or 0
            self._take(session, until=last)

    def rebuild(self) -> None:
        """Forget the rows, and take all batches from the beginning."""
        self.forget()
        self.catch_up()

    def forget(self) -> None:
        """Empty the read model and its position."""
        with self._engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {self.view}, {Position.__tablename__}"))

    def follow(self) -> NoReturn:
        """Take batches for ever."""
        with Session(self._engine) as session:
            self._take(session, until=None)
        raise RuntimeError("the subscription has ended")

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    def _take(self, session: Session, until: int | None) -> None:
        position = session.scalar(select(Position.position)) or 0
        subscriber = SQLAlchemyBackend().configure(session, _CONFIG).subscriber
        batches = subscriber.start_from(position).to_events([ItemAdded]).build_batch(_BATCH, _TIME_LIMIT)
        while until is None or position < until:
            batch = next(batches)
            if batch:
                position = batch[-1].position
                _write(session, batch, position)
            session.commit()


def _write(session: Session, batch: Iterable[Recorded], position: int) -> None:
    lines: dict[str, int] = defaultdict(int)
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for recorded in batch:
        order_id = str(recorded.stream_id)
        lines[order_id] += 1
        totals[order_id] += recorded.wrapped_event.event.price
    add = insert(OrderTotal)
    add = add.on_conflict_do_update(
        index_elements=[OrderTotal.id],
        set_={"lines": OrderTotal.lines + add.excluded.lines, "total": OrderTotal.total + add.excluded.total},
    )
    session.execute(add, [{"id": key, "lines": lines[key], "total": totals[key]} for key in lines])
    move = insert(Position).values(name="totals", position=position)
    session.execute(move.on_conflict_do_update(index_elements=[Position.name], set_={"position": position}))


def contender(url: URL, connections: int) -> EventSourcery:
    """Connect to the database."""
    return EventSourcery(url, connections)
