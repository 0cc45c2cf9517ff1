"""Reading events through a session."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, overload

from sqlalchemy import func, not_, select
from typing_extensions import TypeVar

from sa_eventsource.arguments import whole_number
from sa_eventsource.events import DomainEvent, RecordedEvent
from sa_eventsource.store.connections import autoflush
from sa_eventsource.store.event_conditions import EventConditions, of_types
from sa_eventsource.store.sealing import recorded_events, recorded_in_parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from sqlalchemy import Connection, Row
    from sqlalchemy.ext.asyncio import AsyncSession  # noqa: F401 - named in the base of AsyncEventQuery
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import ColumnElement

E = TypeVar("E", bound=DomainEvent, default=DomainEvent)
F = TypeVar("F", bound=DomainEvent)
F2 = TypeVar("F2", bound=DomainEvent)
F3 = TypeVar("F3", bound=DomainEvent)

_PAGE = 1_000


class EventQuery(EventConditions["Session"], Generic[E]):
    """Events that fulfil some conditions, read through a ``Session``.

    Reading flushes the session first, as any query does, so that the session's own events are there. Iterating reads all at once.
    """

    # A type checker would take several classes for their common base.
    @overload
    def of_type(self, first: type[F], /) -> EventQuery[F]: ...
    @overload
    def of_type(self, first: type[F], second: type[F2], /) -> EventQuery[F | F2]: ...
    @overload
    def of_type(self, first: type[F], second: type[F2], third: type[F3], /) -> EventQuery[F | F2 | F3]: ...
    @overload
    def of_type(self, *event_types: type[F]) -> EventQuery[F]: ...
    def of_type(self, *event_types: type[Any]) -> EventQuery[Any]:
        """Only events of these classes and of those that inherit from them, under their present and former names.

        Raises:
            TypeError: One is no ``DomainEvent`` class.
        """
        query: Any = self.where(of_types(self.table, "of_type", event_types))
        return replace(query, types=(*self.types, event_types))

    def __iter__(self) -> Iterator[RecordedEvent[E]]:
        """Read all of them at once."""
        return iter(self.all())

    def all(self) -> list[RecordedEvent[E]]:
        """Read all of them into a list. For many events see :meth:`stream`.

        Raises:
            EventDecodeError: A payload does not fit its class.
            UnknownEventTypeError: No class declares an event's type.
        """
        if self.maximum is not None and self.may_be_split is not None:
            return list(islice(self._in_pages(self.maximum), self.maximum))
        rows = self._execute(self.statement()).all()
        return self.made_of(rows) if rows else []

    def first(self) -> RecordedEvent[E] | None:
        """Read the first of them; None if there is none. Errors as for :meth:`all`."""
        found = replace(self, maximum=1 if self.maximum is None else min(self.maximum, 1)).all()
        return found[0] if found else None

    def count(self) -> int:
        """Count them in the database; those that an upcaster may make several of, or none, are read."""
        may_be_split = self.may_be_split
        if may_be_split is None:
            return self._count()
        if self.maximum is not None:
            return len(self.all())
        return self._count(not_(may_be_split)) + sum(1 for _ in self._in_pages(_PAGE, may_be_split))

    def _count(self, *conditions: ColumnElement[bool]) -> int:
        rows = self.where(*conditions).statement().order_by(None).subquery()
        total: int = self._execute(select(func.count()).select_from(rows)).scalar_one()
        return total

    def _in_pages(self, size: int, *conditions: ColumnElement[bool]) -> Iterator[RecordedEvent[E]]:
        """Read all of them, so many stored ones at a time."""
        page, position = replace(self.where(*conditions), maximum=size), self.table.c.position
        while rows := self._execute(page.statement()).all() if size else []:
            yield from self.made_of(rows)
            if len(rows) < size:
                return
            last = rows[-1].position
            page = page.where(position < last if self.descending else position > last)

    def stream(self, batch_size: int = 1000) -> Iterator[RecordedEvent[E]]:
        """Read them one after the other in bounded memory, through a server-side cursor.

        The cursor lives in the session's transaction: iterate before committing. Errors as for :meth:`all`.

        Args:
            batch_size: Rows fetched at a time, 1 or more.
        """
        batch_size = whole_number("batch_size", batch_size, minimum=1, meaning="how many rows to fetch at a time, 1 or more")
        maximum, has_parts = self.maximum, self.may_be_split is not None
        query = replace(self, maximum=None) if has_parts else self
        result = self._execute(query.statement(), yield_per=batch_size)
        try:
            found = recorded_in_parts(self._connection(), self.table, result, batch_size)
            yield from islice(self.wanted(found), maximum)
        finally:
            result.close()

    def made_of(self, rows: Sequence[Row[Any]]) -> list[RecordedEvent[E]]:
        """Make events from rows of the statement."""
        return list(self.wanted(recorded_events(self._connection(), self.table, rows)))

    def _connection(self) -> Connection:
        return self.session.connection(bind_arguments=dict(self.bind_arguments))

    def _execute(self, statement: Any, **options: Any) -> Any:
        autoflush(self.session)
        return self.session.execute(statement, execution_options=options, bind_arguments=self.bind_arguments)


class AsyncEventQuery(EventConditions["AsyncSession"], Generic[E]):
    """Events that fulfil some conditions, read through an ``AsyncSession``: :class:`EventQuery` with ``await``."""

    # A type checker would take several classes for their common base.
    @overload
    def of_type(self, first: type[F], /) -> AsyncEventQuery[F]: ...
    @overload
    def of_type(self, first: type[F], second: type[F2], /) -> AsyncEventQuery[F | F2]: ...
    @overload
    def of_type(self, first: type[F], second: type[F2], third: type[F3], /) -> AsyncEventQuery[F | F2 | F3]: ...
    @overload
    def of_type(self, *event_types: type[F]) -> AsyncEventQuery[F]: ...
    def of_type(self, *event_types: type[Any]) -> AsyncEventQuery[Any]:
        """Only events of these classes and of those that inherit from them, under their present and former names.

        Raises:
            TypeError: One is no ``DomainEvent`` class.
        """
        query: Any = self.where(of_types(self.table, "of_type", event_types))
        return replace(query, types=(*self.types, event_types))

    def __aiter__(self) -> AsyncIterator[RecordedEvent[E]]:
        """Read them one after the other, as :meth:`stream` does."""
        return self.stream()

    async def all(self) -> list[RecordedEvent[E]]:
        """Read all of them into a list. Errors as for :meth:`EventQuery.all`."""
        return await self.session.run_sync(lambda session: self.on(session).all())

    async def first(self) -> RecordedEvent[E] | None:
        """Read the first of them; None if there is none. Errors as for :meth:`EventQuery.all`."""
        return await self.session.run_sync(lambda session: self.on(session).first())

    async def count(self) -> int:
        """Count them in the database."""
        return await self.session.run_sync(lambda session: self.on(session).count())

    async def stream(self, batch_size: int = 1000) -> AsyncIterator[RecordedEvent[E]]:
        """Read them one after the other in bounded memory. As :meth:`EventQuery.stream`."""
        batch_size = whole_number("batch_size", batch_size, minimum=1, meaning="how many rows to fetch at a time, 1 or more")
        await self.session.run_sync(autoflush)
        options = {"yield_per": batch_size}
        left, has_parts = self.maximum, self.may_be_split is not None
        statement = (replace(self, maximum=None) if has_parts else self).statement()
        result = await self.session.stream(statement, execution_options=options, bind_arguments=self.bind_arguments)
        try:
            async for rows in result.partitions(batch_size):
                found = (await self.session.run_sync(self._made_of, rows))[:left]
                for event in found:
                    yield event
                left = None if left is None else left - len(found)
                if left == 0:
                    break
        finally:
            await result.close()

    def _made_of(self, session: Session, rows: Sequence[Row[Any]]) -> list[RecordedEvent[E]]:
        return self.on(session).made_of(rows)

    def on(self, session: Session) -> EventQuery[E]:
        """Get the same query for a ``Session``, such as ``run_sync`` gives."""
        return EventQuery(session, self.table, self.conditions, self.maximum, self.descending, self.mapper, self.types)
