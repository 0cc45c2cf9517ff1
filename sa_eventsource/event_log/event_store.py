"""The event log as an application reads and follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from sqlalchemy import func, inspect, select

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.arguments import check_uuid, whole_number
from sa_eventsource.consumers import Reader, check_place
from sa_eventsource.events import DomainEvent
from sa_eventsource.mapping import (
    EventRecord,
    check_async_session,
    check_session,
    present_session,
    tables_of_base,
    tables_on,
)
from sa_eventsource.projections import next_events
from sa_eventsource.store import AsyncEventQuery, EventQuery, autoflush, stored_names

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Mapper, Session, scoped_session

    from sa_eventsource.consumers import Start
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.mapping import EventSourceTables

F = TypeVar("F", bound=DomainEvent)


class EventStore:
    """The event log, through a session.

    Example: ``EventStore(session).events.of(Order, order_id).from_version(3).all()``
    """

    def __init__(self, session: Session | scoped_session[Session], base: Any = None) -> None:
        """Open the log.

        Args:
            session: The session whose connection and transaction are used.
            base: The declarative base (or an aggregate class) whose log it is; needed where ``__eventsource__`` names other tables
                or a schema, or where the session has several binds (an aggregate class, where they are by class).
        """
        check_session("EventStore()", session, instead="AsyncEventStore")
        self._given = session
        self._tables = _tables_of(base)
        self._table = self._tables.events
        self._mapper = _mapper_of(base)

    @property
    def _session(self) -> Session:
        return present_session(self._given)

    @property
    def events(self) -> EventQuery:
        """All events, as a query to narrow down."""
        return EventQuery(self._session, self._table, mapper=self._mapper)

    def get(self, event_id: UUID) -> RecordedEvent[DomainEvent] | None:
        """Read one event by its id; None if there is none.

        Raises:
            EventDecodeError: Its payload does not fit its class.
            UnknownEventTypeError: No class declares its type.
        """
        check_uuid("event_id", event_id)
        return self.events.where(self._table.c.event_id == event_id).first()

    def last_position(self) -> int:
        """Read the highest position that this transaction can see; 0 for an empty log. Lower ones may yet become visible."""
        statement = select(func.max(self._table.c.position))
        autoflush(self._session)
        position: int | None = self._session.scalar(statement, bind_arguments=self.events.bind_arguments)
        return position or 0

    @overload
    def follow(self, name: str, /, *, batch: int = ..., start: Start = ...) -> list[RecordedEvent[DomainEvent]]: ...
    @overload
    def follow(
        self, name: str, first: type[F], /, *others: type[F], batch: int = ..., start: Start = ...
    ) -> list[RecordedEvent[F]]: ...
    def follow(
        self, name: str, /, *event_types: type[Any], batch: int = 1_000, start: Start = "beginning"
    ) -> list[RecordedEvent[Any]]:
        """Read the next events for code that follows the log by itself: each once, and every stream in order.

        Example::

            while events := store.follow("warehouse", batch=500):
                load(events)
                session.commit()
            session.commit()

        How far it has come is kept under the name and moves in the session's transaction: a commit keeps it together with what else
        was written, and after a rollback the same events come again. Until then it is locked: whoever asks under the same name
        waits, and gets what follows. Events come as their transactions are committed, and in the order of positions among those
        that are new: one that is committed late comes late, and is never passed over, as it would be by
        :meth:`EventQuery.after_position() <sa_eventsource.EventQuery.after_position>`. What this transaction has written itself
        comes to a later one; on SQLite to this one.

        At an isolation level above READ COMMITTED, the database refuses one of two that ask at the same time; begin again then. The
        status shows the name as a ``"reader"``; :meth:`EventReplayer.rewind() <sa_eventsource.EventReplayer.rewind>` sends it
        back, and ``retire()`` drops it.

        Args:
            name: What its progress is kept under: not the name of a read model or a subscription.
            *event_types: Event classes, which stand for those that inherit from them; none for all events. Of a class that is
                added later come those events that lie ahead.
            batch: How many events at most.
            start: Where a new name begins, as for :func:`~sa_eventsource.subscribe`; the first call is what counts.

        Returns:
            The events, upcast to their present classes; none if there is nothing new.

        Raises:
            AutocommitError: The session is in autocommit mode.
            DeclarationError: The name is impossible, or that of a read model or a subscription.
            EventDecodeError: A payload does not fit its class. Correct the class, or write an upcaster: the event comes again.
            UnknownEventTypeError: No class declares an event's type. Import its module: the event comes again.
            MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
            TypeError: A type is no ``DomainEvent`` class, *batch* is no whole number, or *start* is no place.
            ValueError: *batch* is below 1, or *start* is negative or without a time zone.
        """
        check_place("start", start, words=("beginning", "now"))
        stored_names("follow", event_types)
        reader = Reader(
            name=name,
            tables=self._tables,
            event_types=event_types or None,
            start=start,
            events_at_a_time=whole_number("batch", batch, minimum=1, meaning="how many events at most, 1 or more"),
            mapper=self._mapper,
        )
        return next_events(self._session, reader)


class AsyncEventStore:
    """The event log, through an ``AsyncSession``: :class:`EventStore` with ``await``."""

    def __init__(self, session: AsyncSession, base: Any = None) -> None:
        """Open the log. Arguments as for :class:`EventStore`."""
        check_async_session("AsyncEventStore()", session, instead="EventStore")
        self._session = session
        self._base = base

    @property
    def events(self) -> AsyncEventQuery:
        """All events, as a query to narrow down."""
        return AsyncEventQuery(self._session, _tables_of(self._base).events, mapper=_mapper_of(self._base))

    async def get(self, event_id: UUID) -> RecordedEvent[DomainEvent] | None:
        """Read one event by its id. As :meth:`EventStore.get`."""
        return await self._session.run_sync(lambda session: EventStore(session, self._base).get(event_id))

    async def last_position(self) -> int:
        """Read the highest position that this transaction can see. As :meth:`EventStore.last_position`."""
        return await self._session.run_sync(lambda session: EventStore(session, self._base).last_position())

    @overload
    async def follow(self, name: str, /, *, batch: int = ..., start: Start = ...) -> list[RecordedEvent[DomainEvent]]: ...
    @overload
    async def follow(
        self, name: str, first: type[F], /, *others: type[F], batch: int = ..., start: Start = ...
    ) -> list[RecordedEvent[F]]: ...
    async def follow(
        self, name: str, /, *event_types: type[Any], batch: int = 1_000, start: Start = "beginning"
    ) -> list[RecordedEvent[Any]]:
        """Read the next events for code that follows the log by itself. As :meth:`EventStore.follow`."""

        def follow(session: Session) -> list[RecordedEvent[Any]]:
            return EventStore(session, self._base).follow(name, *event_types, batch=batch, start=start)

        return await self._session.run_sync(follow)


def _tables_of(base: Any) -> EventSourceTables:
    if base is None:
        return tables_on(inspect(EventRecord).local_table.metadata)
    if isinstance(base, type) and issubclass(base, AggregateRoot):
        return definition_of(base).tables
    return tables_of_base("EventStore()", base)


def _mapper_of(base: Any) -> Mapper[Any] | None:
    """Find a mapper that leads a session with several binds to the right one."""
    if base is None:
        return None
    own: Mapper[Any] | None = inspect(base, raiseerr=False)
    return own if own is not None else next(iter(base.registry.mappers), None)
