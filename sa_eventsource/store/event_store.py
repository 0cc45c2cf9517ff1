"""The event log as an application reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, inspect, select

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.arguments import check_uuid
from sa_eventsource.mapping import EventRecord, check_async_session, check_session, present_session, tables_of_base
from sa_eventsource.store.event_query import AsyncEventQuery, EventQuery

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Mapper, Session, scoped_session

    from sa_eventsource.events import DomainEvent, RecordedEvent


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
        self._table: Table = _events_of(base)
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
        if self._session.autoflush:
            self._session.flush()  # SQLAlchemy 2.0 does not by itself for a statement without entities
        position: int | None = self._session.scalar(statement, bind_arguments=self.events.bind_arguments)
        return position or 0


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
        return AsyncEventQuery(self._session, _events_of(self._base), mapper=_mapper_of(self._base))

    async def get(self, event_id: UUID) -> RecordedEvent[DomainEvent] | None:
        """Read one event by its id. As :meth:`EventStore.get`."""
        return await self._session.run_sync(lambda session: EventStore(session, self._base).get(event_id))

    async def last_position(self) -> int:
        """Read the highest position that this transaction can see. As :meth:`EventStore.last_position`."""
        return await self._session.run_sync(lambda session: EventStore(session, self._base).last_position())


def _events_of(base: Any) -> Table:
    if base is None:
        table: Table = inspect(EventRecord).local_table
        return table
    if isinstance(base, type) and issubclass(base, AggregateRoot):
        return definition_of(base).tables.events
    return tables_of_base("EventStore()", base).events


def _mapper_of(base: Any) -> Mapper[Any] | None:
    """Find a mapper that leads a session with several binds to the right one."""
    if base is None:
        return None
    own: Mapper[Any] | None = inspect(base, raiseerr=False)
    return own if own is not None else next(iter(base.registry.mappers), None)
