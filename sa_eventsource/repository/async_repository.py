"""The repository for ``AsyncSession``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.mapping import check_async_session, check_class
from sa_eventsource.repository.repository import EventSourcedRepository
from sa_eventsource.store import AsyncEventQuery

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from sa_eventsource.arguments import TimeAxis
    from sa_eventsource.events import DomainEvent
    from sa_eventsource.repository.unloaded_streams import Expected

A = TypeVar("A", bound=AggregateRoot[Any])


class AsyncEventSourcedRepository(Generic[A]):
    """The aggregates of one class in one ``AsyncSession``: :class:`EventSourcedRepository` with ``await``."""

    def __init__(self, session: AsyncSession, aggregate_class: type[A]) -> None:
        """Bind the repository to a session. As :class:`EventSourcedRepository`."""
        check_async_session("AsyncEventSourcedRepository()", session, instead="EventSourcedRepository")
        check_class("AsyncEventSourcedRepository()", aggregate_class, "an aggregate's class, such as Order")
        definition_of(aggregate_class)
        self._session = session
        self._aggregate_class = aggregate_class

    async def get(self, aggregate_id: Any) -> A:
        """Load an aggregate. As :meth:`EventSourcedRepository.get`."""
        return await self._session.run_sync(lambda session: self._on(session).get(aggregate_id))

    async def get_or_none(self, aggregate_id: Any) -> A | None:
        """Load an aggregate; None if it has no events. As :meth:`EventSourcedRepository.get_or_none`."""
        return await self._session.run_sync(lambda session: self._on(session).get_or_none(aggregate_id))

    async def save(self, aggregate: A) -> None:
        """Put an aggregate into the session and flush it. As :meth:`EventSourcedRepository.save`."""
        await self._session.run_sync(lambda session: self._on(session).save(aggregate))

    async def load_at_time(self, aggregate_id: Any, moment: datetime, *, axis: TimeAxis = "occurred") -> A:
        """Rebuild an aggregate as it stood at one moment, or was known then. As :meth:`EventSourcedRepository.load_at_time`."""
        return await self._session.run_sync(lambda session: self._on(session).load_at_time(aggregate_id, moment, axis=axis))

    async def load_at_version(self, aggregate_id: Any, version: int) -> A:
        """Rebuild an aggregate as it stood after some events. As :meth:`EventSourcedRepository.load_at_version`."""
        return await self._session.run_sync(lambda session: self._on(session).load_at_version(aggregate_id, version))

    def history(self, aggregate_id: Any, moment: datetime | None = None, *, axis: TimeAxis = "occurred") -> AsyncEventQuery:
        """The aggregate's events, as a query: ``await repository.history(order_id).all()``.

        Arguments and errors as for :meth:`EventSourcedRepository.history`.
        """
        conditions = self._on(self._session.sync_session).history(aggregate_id, moment, axis=axis).conditions
        events = definition_of(self._aggregate_class).tables.events
        return AsyncEventQuery(self._session, events).of(self._aggregate_class).where(*conditions)

    async def append(
        self,
        aggregate_id: Any,
        events: Sequence[DomainEvent],
        *,
        expected_version: Expected,
        occurred_at: datetime | None = None,
        event_ids: Sequence[UUID] | None = None,
    ) -> int:
        """Append events without loading the aggregate. As :meth:`EventSourcedRepository.append`."""
        return await self._session.run_sync(
            lambda session: self._on(session).append(
                aggregate_id, events, expected_version=expected_version, occurred_at=occurred_at, event_ids=event_ids
            )
        )

    def _on(self, session: Session) -> EventSourcedRepository[A]:
        return EventSourcedRepository(session, self._aggregate_class)
