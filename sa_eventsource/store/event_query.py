"""Reading events: an immutable chain of conditions, run when it is iterated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic

from sqlalchemy import Text, cast, func, select
from typing_extensions import TypeVar

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.events import DomainEvent, RecordedEvent, decode, decode_metadata, stored_types

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row, Select, Table
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.types import JsonValue

E = TypeVar("E", bound=DomainEvent, default=DomainEvent)
F = TypeVar("F", bound=DomainEvent)


@dataclass(frozen=True, slots=True)
class EventQuery(Generic[E]):
    """Events of one log that fulfil some conditions. Every method returns a new query; nothing is read before it is iterated.

    Events come in the order of their positions, which keeps each stream in the order of its versions. Reading flushes the session
    first, as any query does, so the session's own events are there.
    """

    session: Session
    events: Table
    conditions: tuple[ColumnElement[bool], ...] = ()
    maximum: int | None = None
    descending: bool = False

    def of(self, aggregate_class: type[AggregateRoot[Any]], aggregate_id: Any | None = None) -> EventQuery[E]:
        """Only events of one aggregate, or of all aggregates of a class.

        Raises:
            AggregateIdError: *aggregate_id* is not of the type declared for the class.
        """
        definition = definition_of(aggregate_class)
        query = self.where(self.events.c.aggregate_type == definition.aggregate_type)
        return query if aggregate_id is None else query.where(self.events.c.aggregate_id == definition.text_id(aggregate_id))

    def of_type(self, *event_types: type[F]) -> EventQuery[F]:
        """Only events of these classes, under their present and former names."""
        names = [name for event_type in event_types for name in stored_types(event_type)]
        return self.where(self.events.c.event_type.in_(names))  # type: ignore[return-value]

    def from_version(self, version: int) -> EventQuery[E]:
        """Only events from this version of their stream on, which is included."""
        return self.where(self.events.c.version >= version)

    def to_version(self, version: int) -> EventQuery[E]:
        """Only events up to this version of their stream, which is included."""
        return self.where(self.events.c.version <= version)

    def occurred_from(self, moment: datetime) -> EventQuery[E]:
        """Only events that occurred at this moment or later. It needs a time zone."""
        return self.where(self.events.c.occurred_at >= moment)

    def occurred_until(self, moment: datetime) -> EventQuery[E]:
        """Only events that occurred at this moment or before. It needs a time zone."""
        return self.where(self.events.c.occurred_at <= moment)

    def correlated_with(self, correlation_id: UUID) -> EventQuery[E]:
        """Only events with this correlation id."""
        return self.where(self.events.c.correlation_id == correlation_id)

    def caused_by(self, event_id: UUID) -> EventQuery[E]:
        """Only events that name this event as their cause."""
        return self.where(self.events.c.causation_id == event_id)

    def with_metadata(self, **values: JsonValue) -> EventQuery[E]:
        """Only events whose metadata has these values, compared as text: ``with_metadata(user="ann")``."""
        query = self
        for key, value in values.items():
            query = query.where(self.events.c.metadata[key].as_string() == str(value))
        return query

    def after_position(self, position: int) -> EventQuery[E]:
        """Only events behind this position of the log, which is not included."""
        return self.where(self.events.c.position > position)

    def where(self, *conditions: ColumnElement[bool]) -> EventQuery[E]:
        """Only events for which these SQL conditions on the events table hold."""
        return replace(self, conditions=self.conditions + conditions)

    def backward(self) -> EventQuery[E]:
        """Newest first."""
        return replace(self, descending=True)

    def limit(self, maximum: int) -> EventQuery[E]:
        """No more than this many.

        Raises:
            ValueError: *maximum* is negative.
        """
        if maximum < 0:
            raise ValueError(f"limit({maximum}): pass 0 or more")
        return replace(self, maximum=maximum)

    def __iter__(self) -> Iterator[RecordedEvent[E]]:
        """Read all of them at once."""
        return iter(self.all())

    def all(self) -> list[RecordedEvent[E]]:
        """Read all of them into a list. For many events see :meth:`stream`.

        Raises:
            EventDecodeError: A payload does not fit its class.
            UnknownEventTypeError: No class declares an event's type.
        """
        return [_recorded(row) for row in self._execute(self._statement())]

    def first(self) -> RecordedEvent[E] | None:
        """Read the first of them; None if there is none. Errors as for :meth:`all`."""
        for row in self._execute(self._statement().limit(1)):
            return _recorded(row)
        return None

    def count(self) -> int:
        """Count them in the database."""
        statement = self._statement().order_by(None).subquery()
        total: int = self._execute(select(func.count()).select_from(statement)).scalar_one()
        return total

    def stream(self, batch_size: int = 1000) -> Iterator[RecordedEvent[E]]:
        """Read them one after the other in bounded memory, through a server-side cursor.

        The cursor lives in the session's transaction: iterate before committing. Errors as for :meth:`all`.

        Args:
            batch_size: Rows fetched at a time.
        """
        result = self._execute(self._statement(), yield_per=batch_size)
        try:
            for row in result:
                yield _recorded(row)
        finally:
            result.close()

    def _execute(self, statement: Any, **options: Any) -> Any:
        return self.session.execute(statement, execution_options=options, bind_arguments={"clause": statement})

    def _statement(self) -> Select[Any]:
        columns = self.events.c
        position = columns.position
        statement = (
            select(
                columns.event_id,
                columns.aggregate_type,
                columns.aggregate_id,
                columns.version,
                columns.event_type,
                columns.event_version,
                cast(columns.event_data, Text).label("event_data"),
                cast(columns.metadata, Text).label("event_metadata"),
                columns.occurred_at,
                columns.correlation_id,
                columns.causation_id,
                columns.position,
            )
            .where(*self.conditions)
            .order_by(position.desc() if self.descending else position)
        )
        return statement if self.maximum is None else statement.limit(self.maximum)


def _recorded(row: Row[Any]) -> RecordedEvent[Any]:
    return RecordedEvent(
        event=decode(row.event_type, row.event_version, row.event_data, event_id=row.event_id),
        event_id=row.event_id,
        aggregate_type=row.aggregate_type,
        aggregate_id=row.aggregate_id,
        version=row.version,
        event_type=row.event_type,
        event_version=row.event_version,
        occurred_at=row.occurred_at,
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        metadata=decode_metadata(row.event_metadata),
        position=row.position,
    )
