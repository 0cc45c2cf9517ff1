"""Recorded events made from plain ones, as if they had been read from a log."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from sa_eventsource.aggregates import AggregateRoot, blank, definition_of, restore
from sa_eventsource.arguments import check_moment_of_event, whole_number
from sa_eventsource.events import DomainEvent, EventContext, Parts, RecordedEvent, decode, encode, part_id
from sa_eventsource.testing.freezing import NOON, CountedIds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sa_eventsource.types import JsonValue


def recorded(  # noqa: PLR0913 - most of them have defaults
    *events: DomainEvent,
    of: type[AggregateRoot[Any]] | str = "Aggregate",
    id: Any = "1",  # noqa: A002 - what it is called everywhere
    at: datetime = NOON,
    every: timedelta = timedelta(0),
    position: int = 1,
    version: int = 1,
    **metadata: JsonValue,
) -> list[RecordedEvent[Any]]:
    """Make the recorded events of one stream from plain ones: what a read model's fold takes, or a subscription's function.

    Example::

        rows = projected(OrderList, recorded(OrderPlaced(total=10), OrderPaid(payment_id="p-1"), of=Order, id="o-1", user="ann"))

    Each event is written as JSON and read again, as by way of the log, and is refused where the log would refuse it.

    Args:
        *events: The events, oldest first.
        of: The aggregate they belong to: its class or its stored name.
        id: Its id.
        at: When the first of them occurred, with a time zone.
        every: How much later each further one did.
        position: Place of the first one in the log; the others come right after it.
        version: Place of the first one in its stream.
        **metadata: Who, why, and whatever else is to be in the metadata of each.

    Raises:
        EventPayloadError: An event could not be stored.
        ValueError: *at* has no time zone, or *position* or *version* is less than 1.
    """
    check_moment_of_event("at", at)
    whole_number("position", position, minimum=1, meaning="a place in the log, 1 or more")
    whole_number("version", version, minimum=1, meaning="a place in the stream, 1 or more")
    name, text = (of, str(id)) if isinstance(of, str) else (definition_of(of).aggregate_type, definition_of(of).text_id(id))
    context = EventContext(metadata=metadata)
    return [
        _recorded(event, encode(event), (name, text), version + number, position + number, at + number * every, context)
        for number, event in enumerate(events)
    ]


def _recorded(  # noqa: PLR0913, PLR0917 - what a row of the log is made of
    event: DomainEvent,
    payload: str,
    stream: tuple[str, str],
    version: int,
    position: int,
    occurred_at: datetime,
    context: EventContext,
    event_id: UUID | None = None,
) -> RecordedEvent[Any]:
    event_type, event_version = type(event).__event_type__, type(event).__event_version__
    return RecordedEvent(
        event=cast("DomainEvent", decode(event_type, event_version, payload)),
        event_id=event_id or UUID(int=(0x7 << 76) | (0b10 << 62) | position),
        aggregate_type=stream[0],
        aggregate_id=stream[1],
        version=version,
        event_type=event_type,
        event_version=event_version,
        occurred_at=occurred_at,
        recorded_at=occurred_at,
        correlation_id=context.correlation_id,
        causation_id=context.causation_id,
        metadata=context.metadata,
        position=position,
    )


class MemoryLog:
    """A log that is a list: what has been recorded so far, and aggregates as they follow from it."""

    def __init__(self, events: Iterable[RecordedEvent[Any]] = (), rows: Mapping[tuple[str, str], list[Any]] | None = None) -> None:
        """Begin with some events, and the rows that aggregates are made from."""
        self.events = list(events)
        self._rows = {} if rows is None else {stream: list(each) for stream, each in rows.items()}
        self.ids = CountedIds()

    def copy(self) -> MemoryLog:
        """Make one that goes its own way from here."""
        made = MemoryLog(self.events, self._rows)
        made.ids = self.ids.copy()
        return made

    def record(
        self,
        stream: tuple[str, str],
        event: DomainEvent,
        occurred_at: datetime,
        *,
        event_id: UUID | None = None,
        context: EventContext | None = None,
    ) -> RecordedEvent[Any]:
        """Add an event to a stream.

        Raises:
            EventPayloadError: It could not be stored.
        """
        rows, payload = self._rows.setdefault(stream, []), encode(event)
        number = len(rows) + 1
        made = _recorded(
            event,
            payload,
            stream,
            number,
            len(self.events) + 1,
            occurred_at,
            context or EventContext(),
            event_id or self.ids.at(occurred_at)(),
        )
        rows.append((number, made.event_type, made.event_version, payload, str(made.event_id)))
        self.events.append(made)
        return made

    def record_stored(self, stream: tuple[str, str], event_type: str, event_version: int, payload: Any, moment: datetime) -> None:
        """Add an event as an earlier release has stored it.

        Raises:
            EventDecodeError: No class can read it.
        """
        rows, text = self._rows.setdefault(stream, []), json.dumps(payload)
        event = decode(event_type, event_version, text)
        version, position, stored_id = len(rows) + 1, len(self.events) + 1, self.ids.at(moment)()
        rows.append((version, event_type, event_version, text, str(stored_id)))
        for number, each in enumerate(event if isinstance(event, Parts) else (event,)):
            made = _recorded(each, encode(each), stream, version, position, moment, EventContext(), part_id(stored_id, number))
            part_of = stored_id if number else None
            self.events.append(replace(made, event_type=event_type, event_version=event_version, part=number, part_of=part_of))

    def has(self, stream: tuple[str, str]) -> bool:
        """Check whether a stream has events."""
        return stream in self._rows

    def rows(self, aggregate_class: type[Any], text_id: str) -> list[Any]:
        """Get what an aggregate is restored from."""
        return self._rows.get((definition_of(aggregate_class).aggregate_type, text_id), [])

    def load(self, aggregate_class: type[Any], text_id: str) -> Any:
        """Make an aggregate from its events; None if it has none."""
        rows = self.rows(aggregate_class, text_id)
        if not rows:
            return None
        aggregate = blank(aggregate_class, text_id)
        restore(aggregate, text_id, rows)
        return aggregate
