"""Which events to read: an immutable chain of conditions, common to sessions of both kinds."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, Generic, Self

from sqlalchemy import Text, and_, cast, inspect, or_, select
from typing_extensions import TypeVar

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.arguments import check_moment, check_uuid, comparable_moment, version_number, whole_number
from sa_eventsource.events import DomainEvent, split_sources, split_sources_of_families, stored_types_of_family
from sa_eventsource.mapping import EVENT_COLUMNS, check_class
from sa_eventsource.store.archived_streams import without_archived
from sa_eventsource.store.raw_events import stored_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import FromClause, Table
    from sqlalchemy.orm import Mapper
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.events import RecordedEvent, SplitSource
    from sa_eventsource.types import JsonValue

S = TypeVar("S")

_VERSION = "a version; versions count from 1, and 0 is before the first event"


@dataclass(frozen=True, slots=True)
class EventConditions(Generic[S]):
    """Events of one log that fulfil some conditions. Every method returns a new query; nothing is read until it is asked for.

    Events come in the order of their positions, which keeps each stream in the order of its versions. In a session with several
    binds, the mapper chooses among them: that of the aggregate class asked for.
    """

    session: S
    table: Table
    conditions: tuple[ColumnElement[bool], ...] = ()
    maximum: int | None = None
    descending: bool = False
    mapper: Mapper[Any] | None = None
    types: tuple[tuple[type[DomainEvent], ...], ...] = ()

    def of(self, aggregate_class: type[AggregateRoot[Any]], aggregate_id: Any | None = None) -> Self:
        """Only events of one aggregate, or of all aggregates of a class.

        Raises:
            AggregateIdError: *aggregate_id* is not of the type declared for the class.
        """
        check_class("of()", aggregate_class, "an aggregate's class, such as Order, and perhaps an id")
        definition = definition_of(aggregate_class)
        query = replace(self, mapper=inspect(aggregate_class)).where(self.table.c.aggregate_type == definition.aggregate_type)
        return query if aggregate_id is None else query.where(self.table.c.aggregate_id == definition.text_id(aggregate_id))

    def from_version(self, version: int) -> Self:
        """Only events from this version of their stream on, which is included.

        Raises:
            TypeError: *version* is no whole number.
            ValueError: *version* is negative.
        """
        return self.where(self.table.c.version >= version_number("version", version, minimum=0, meaning=_VERSION))

    def to_version(self, version: int) -> Self:
        """Only events up to this version of their stream, which is included. Errors as for :meth:`from_version`."""
        return self.where(self.table.c.version <= version_number("version", version, minimum=0, meaning=_VERSION))

    def occurred_from(self, moment: datetime) -> Self:
        """Only events that occurred at this moment or later. It needs a time zone."""
        check_moment("moment", moment)
        return self.where(self.table.c.occurred_at >= comparable_moment(moment))

    def occurred_until(self, moment: datetime) -> Self:
        """Only events that occurred at this moment or before. It needs a time zone."""
        check_moment("moment", moment)
        return self.where(self.table.c.occurred_at <= comparable_moment(moment))

    def recorded_from(self, moment: datetime) -> Self:
        """Only events that were written to the log at this moment or later, by the database's clock. It needs a time zone."""
        check_moment("moment", moment)
        return self.where(self.table.c.recorded_at >= comparable_moment(moment))

    def recorded_until(self, moment: datetime) -> Self:
        """Only events that were written to the log at this moment or before, by the database's clock. It needs a time zone.

        An event is recorded when it is written, and seen by others from the commit on.
        """
        check_moment("moment", moment)
        return self.where(self.table.c.recorded_at <= comparable_moment(moment))

    def correlated_with(self, correlation_id: UUID) -> Self:
        """Only events with this correlation id, a ``UUID``."""
        check_uuid("correlation_id", correlation_id)
        return self.where(self.table.c.correlation_id == correlation_id)

    def caused_by(self, event_id: UUID) -> Self:
        """Only events that name this event, by its id, as their cause."""
        check_uuid("event_id", event_id)
        return self.where(self.table.c.causation_id == event_id)

    def with_metadata(self, **values: JsonValue) -> Self:
        """Only events whose metadata has these values, compared as text: ``with_metadata(user="ann")``.

        Raises:
            TypeError: A value is no text, number or truth value. Whether a key is missing or null, and what is in lists and
                objects, is asked by :meth:`where`, with conditions on ``EventRecord.metadata``.
        """
        query = self
        for key, given in values.items():
            value = _comparable(key, given)
            # The cast is for SQLAlchemy 2.0 on SQLite, which gives numbers as numbers; SQLite knows truth as 1 and 0.
            stored = cast(self.table.c.metadata[key].as_string(), Text)
            query = query.where(
                stored.in_(("true", "1") if value else ("false", "0")) if isinstance(value, bool) else stored == str(value)
            )
        return query

    def after_position(self, position: int) -> Self:
        """Only events after this position of the log, which is not included. 0 is before the first.

        It pages through what is there, and does not follow the log: positions are drawn when events are written and seen when they
        are committed, so whoever remembers the last position skips all that is committed late, with a lower one. To follow the log,
        use :meth:`EventStore.follow() <sa_eventsource.EventStore.follow>`, or a subscription.

        Raises:
            TypeError: *position* is no whole number.
            ValueError: *position* is negative.
        """
        wanted = whole_number("position", position, minimum=0, meaning="a position in the log; 0 is before the first event")
        return self.where(self.table.c.position > wanted)

    def where(self, *conditions: ColumnElement[bool]) -> Self:
        """Only events for which these SQL conditions on the events table hold."""
        return replace(self, conditions=self.conditions + conditions)

    def backward(self) -> Self:
        """Newest first."""
        return replace(self, descending=True)

    def limit(self, maximum: int) -> Self:
        """No more than this many.

        Raises:
            TypeError: *maximum* is no whole number.
            ValueError: *maximum* is negative.
        """
        return replace(self, maximum=whole_number("maximum", maximum, minimum=0, meaning="how many events at most, 0 or more"))

    @property
    def bind_arguments(self) -> dict[str, Any]:
        """What shows a session with several binds which to use."""
        return {} if self.mapper is None else {"mapper": self.mapper}

    def statement(self) -> Any:
        """The SELECT that reads them; its rows go to ``recorded_events``, and what is made of these to :meth:`wanted`."""
        position = self.table.c.position
        statement = (
            select_events(self.table)
            .where(*without_archived(self.table), *self.conditions)
            .order_by(position.desc() if self.descending else position)
        )
        return statement if self.maximum is None else statement.limit(self.maximum)

    @property
    def may_be_split(self) -> ColumnElement[bool] | None:
        """The condition that a stored event may be read as several, or as none, so that only Python can count; None if none may."""
        sources = split_sources()
        if sources and self.types:
            names = {*stored_names("of_type", self.types[-1]), *(each[0] for each in split_sources_of_families(self.types[-1]))}
            sources = tuple(each for each in sources if each.event_type in names)
        return stored_as(self.table, (), sources) if sources else None

    def wanted(self, events: Iterable[RecordedEvent[Any]]) -> Iterator[RecordedEvent[Any]]:
        """Choose the events of the types that are asked for, in the order asked for: of a stored one, some parts may be others.

        Args:
            events: What was made of rows of the statement.
        """
        if self.may_be_split is None:
            return iter(events)
        found = (each for each in events if all(_is_one_of(each.event, types) for types in self.types))
        together = groupby(found, key=lambda each: each.position) if self.descending else ()
        return (each for _, parts in together for each in reversed(list(parts))) if self.descending else found


def _is_one_of(event: DomainEvent, event_types: tuple[type[DomainEvent], ...]) -> bool:
    """Check it by name, as statements do: a class may have been declared again since it was asked for."""
    return type(event).__event_type__ in stored_names("of_type", event_types)


def _comparable(key: str, value: Any) -> str | bool:
    """Take what metadata can be compared with: as the text that the database gives for it, or a truth value."""
    plain = value.value if isinstance(value, enum.Enum) else value
    if isinstance(plain, bool):
        return plain
    if isinstance(plain, str):
        return str(plain)
    if isinstance(plain, int):
        return str(int(plain))
    if isinstance(plain, float) and math.isfinite(plain):
        return format(Decimal(repr(plain)), "f")
    raise TypeError(
        f"with_metadata({key}={value!r}) takes a text, a number or a truth value; for others write a condition, such as "
        f'where(EventRecord.metadata["{key}"].as_string().is_(None))'
    )


def select_events(table: FromClause) -> Any:
    """Build a SELECT of events; its rows go to ``recorded_events``."""
    return select(*(stored_text(table, each.name) for each in EVENT_COLUMNS if each.name != "transaction_id"))


def of_types(table: FromClause, method: str, event_types: tuple[type[DomainEvent], ...]) -> ColumnElement[bool]:
    """Build the condition that an event is read as one of these classes or of those that inherit from them, or may be.

    Args:
        table: The events.
        method: Who takes the classes, for the message.
        event_types: The classes.

    Raises:
        TypeError: One is no ``DomainEvent`` class.
    """
    return stored_as(table, stored_names(method, event_types), split_sources_of_families(event_types))


def stored_as(events: FromClause, names: Sequence[str], sources: Sequence[SplitSource]) -> ColumnElement[bool]:
    """Build the condition that an event is stored under one of some names, or may be read as several others."""
    plain = [events.c.event_type.in_(names)] if names or not sources else []
    return or_(*plain, *(and_(events.c.event_type == name, events.c.event_version <= version) for name, version in sources))


def stored_names(method: str, event_types: tuple[type[DomainEvent], ...]) -> tuple[str, ...]:
    """List the names under which events of these classes, or of those that inherit from them, may be stored.

    Args:
        method: Who takes the classes, for the message.
        event_types: The classes.

    Raises:
        TypeError: One is no ``DomainEvent`` class.
    """
    for each in event_types:
        if not (isinstance(each, type) and issubclass(each, DomainEvent)):
            raise TypeError(f"{method}({each!r}): pass DomainEvent classes, such as OrderPlaced")
    return tuple(dict.fromkeys(name for each in event_types for name in stored_types_of_family(each)))
