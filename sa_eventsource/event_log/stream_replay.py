"""The states of a long stream, in one pass from version to version, while there is time; or as it was by some time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, func, select

from sa_eventsource.aggregates import advance, past_view
from sa_eventsource.event_log.aggregate_history import Change, changes_between, state_texts
from sa_eventsource.store import clear_payloads, known_at, read_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from sa_eventsource.aggregates import AggregateDefinition

_COLUMNS = ("version", "event_type", "event_version", "event_id", "aggregate_type", "aggregate_id")

_FIRST_PART, _LARGEST_PART = 100, 1_000
_CHARACTERS = 4_000_000
"""Behind how much of payloads a part ends: it is as long at most, and one payload more."""


class StreamReplay:
    """A stream that is replayed, a part of its events at a time, from its beginning or the snapshot that lies on the way.

    Attributes:
        version: The version that it has come to. Where an event cannot be replayed, that of the event before.
        is_out_of_time: Whether the time was up before it had come where it was to go.
    """

    def __init__(self, connection: Connection, definition: AggregateDefinition, aggregate_id: str, *, seconds: float) -> None:
        """Begin before the first event.

        Args:
            connection: Where to read, in a transaction that sees one state of the log.
            definition: The aggregate's class.
            aggregate_id: Its id as stored.
            seconds: How long all of it may take.
        """
        self.version, self.is_out_of_time = 0, False
        self._connection, self._definition, self._aggregate_id = connection, definition, aggregate_id
        self._view: Any = past_view(definition.aggregate_class, aggregate_id, ())
        events = definition.tables.events
        self._of_stream = (events.c.aggregate_type == definition.aggregate_type) & (events.c.aggregate_id == aggregate_id)
        self._ends = time.monotonic() + seconds

    @property
    def state(self) -> Mapping[str, str]:
        """The state fields at the present version, as JSON texts by name."""
        return state_texts(self._definition, self._view)

    def go_to(self, version: int) -> bool:
        """Go on to a version that the stream has, by a snapshot where there is one in between.

        Returns:
            Whether there was time enough. Otherwise :attr:`version` says how far it came.

        Raises:
            EventSourceError: An event cannot be read. Whatever a method of the application raises comes through as well.
        """
        if version > self.version + 1:
            snapshot = read_snapshot(self._connection, self._definition, self._aggregate_id, until=version)
            if snapshot is not None and snapshot.version > self.version:
                self._view = past_view(self._definition.aggregate_class, self._aggregate_id, (), snapshot=snapshot)
                self.version = snapshot.version
        advance(self._view, self._aggregate_id, self._counted(self._events(self._of_stream, version)))
        return not self.is_out_of_time

    def go_to_time(self, moment: datetime) -> bool:
        """Begin again, and apply what had occurred by a moment, which is included, whenever it was recorded.

        Returns:
            Whether there was time enough: it is one time for all that this object does.

        Raises:
            EventSourceError: As for :meth:`go_to`.
        """
        definition = self._definition
        self.version, self._view = 0, past_view(definition.aggregate_class, self._aggregate_id, ())
        occurred = known_at(definition.tables.events, definition.aggregate_type, self._aggregate_id, moment, "occurred")
        advance(self._view, self._aggregate_id, self._counted(self._events(occurred)), contiguous=False)
        return not self.is_out_of_time

    def steps(self, version: int) -> Iterator[tuple[Any, str, Mapping[str, Change]]]:
        """Go on to a version one event at a time: give its version, type and id, its payload in clear, and what it changed.

        It ends sooner where the time is up. Errors as for :meth:`go_to`.
        """
        before = self.state
        for row, payload in self._events(self._of_stream, version):
            advance(self._view, self._aggregate_id, [_stored(row, payload)])
            self.version = row.version
            after = self.state
            yield row, payload, changes_between(before, after)
            before = after

    def _counted(self, stored: Iterator[tuple[Any, str]]) -> Iterator[tuple[int, str, int, str, str]]:
        """Give events to be applied; each is counted once the next one is asked for, and so has been."""
        for row, payload in stored:
            yield _stored(row, payload)
            self.version = row[0]

    def _events(self, wanted: ColumnElement[bool], version: int | None = None) -> Iterator[tuple[Any, str]]:
        """Read events after the present version, up to another one or to the last, while there is time."""
        events = self._definition.tables.events
        text = cast(events.c.event_data, Text)
        lengths = select(events.c.version, func.length(text)).where(wanted).order_by(events.c.version)
        columns: list[Any] = [events.c[name] for name in _COLUMNS]
        part = select(*columns, text.label("event_data")).where(wanted).order_by(events.c.version)
        size = _FIRST_PART
        while version is None or self.version < version:
            behind = events.c.version > self.version
            if version is not None:
                behind &= events.c.version <= version
            end = _end_of_part(self._connection.execute(lengths.where(behind).limit(size)).all())
            rows: Sequence[Any] = self._connection.execute(part.where(behind, events.c.version <= end)).all()
            if not rows:
                return
            payloads = clear_payloads(self._connection, events, rows)
            for row, payload in zip(rows, payloads, strict=True):
                if time.monotonic() > self._ends:
                    self.is_out_of_time = True
                    return
                yield row, payload
            average = sum(map(len, payloads)) // len(payloads) + 1
            size = min(max(_CHARACTERS // average, 1), _LARGEST_PART)


def _end_of_part(lengths: Sequence[Any]) -> int:
    """Find the version that a part ends with, by the lengths of the payloads of the events that are next; 0 for none."""
    end, characters = 0, 0
    for version, length in lengths:
        if characters >= _CHARACTERS:
            break
        end, characters = version, characters + length
    return end


def _stored(row: Any, payload: str) -> tuple[int, str, int, str, str]:
    return row[0], row[1], row[2], payload, str(row[3])  # names would take longer
