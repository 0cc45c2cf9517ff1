"""The states of a long stream, in one pass from version to version: each event is read and applied once, while there is time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, select

from sa_eventsource.aggregates import advance, past_view
from sa_eventsource.event_log.aggregate_history import Change, changes_between, state_texts
from sa_eventsource.store import clear_payloads, read_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from sa_eventsource.aggregates import AggregateDefinition

_COLUMNS = ("version", "event_type", "event_version", "event_id", "aggregate_type", "aggregate_id")

_FIRST_PART, _LARGEST_PART = 100, 1_000
_CHARACTERS = 4_000_000
"""About how much of payloads is held at a time; one that is longer is held by itself."""


class StreamReplay:
    """A stream that is replayed, a part of its events at a time, from its beginning or the snapshot that lies on the way.

    Attributes:
        version: The version that it has come to. Where an event cannot be replayed, that of the event before.
    """

    def __init__(self, connection: Connection, definition: AggregateDefinition, aggregate_id: str, *, seconds: float) -> None:
        """Begin before the first event.

        Args:
            connection: Where to read, in a transaction that sees one state of the log.
            definition: The aggregate's class.
            aggregate_id: Its id as stored.
            seconds: How long all of it may take.
        """
        self.version = 0
        self._connection, self._definition, self._aggregate_id = connection, definition, aggregate_id
        self._view: Any = past_view(definition.aggregate_class, aggregate_id, ())
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
        advance(self._view, self._aggregate_id, self._counted(version))
        return self.version == version

    def steps(self, version: int) -> Iterator[tuple[Any, str, Mapping[str, Change]]]:
        """Go on to a version one event at a time: give its version, type and id, its payload in clear, and what it changed.

        It ends sooner where the time is up. Errors as for :meth:`go_to`.
        """
        before = self.state
        for row, payload in self._events(version):
            advance(self._view, self._aggregate_id, [_stored(row, payload)])
            self.version = row.version
            after = self.state
            yield row, payload, changes_between(before, after)
            before = after

    def _counted(self, version: int) -> Iterator[tuple[int, str, int, str, str]]:
        """Give events to be applied; each is counted once the next one is asked for, and so has been."""
        for row, payload in self._events(version):
            yield _stored(row, payload)
            self.version = row[0]

    def _events(self, version: int) -> Iterator[tuple[Any, str]]:
        """Read the events behind the present version, up to another one, while there is time."""
        events = self._definition.tables.events
        of_stream = (events.c.aggregate_type == self._definition.aggregate_type, events.c.aggregate_id == self._aggregate_id)
        columns: list[Any] = [events.c[name] for name in _COLUMNS]
        statement = select(*columns, cast(events.c.event_data, Text).label("event_data")).where(*of_stream)
        statement = statement.where(events.c.version <= version).order_by(events.c.version)
        size = _FIRST_PART
        while self.version < version:
            rows: Sequence[Any] = self._connection.execute(statement.where(events.c.version > self.version).limit(size)).all()
            if not rows:
                return
            payloads = clear_payloads(self._connection, events, rows)
            for row, payload in zip(rows, payloads, strict=True):
                if time.monotonic() > self._ends:
                    return
                yield row, payload
            average = sum(map(len, payloads)) // len(payloads) + 1
            size = min(max(_CHARACTERS // average, 1), _LARGEST_PART)


def _stored(row: Any, payload: str) -> tuple[int, str, int, str, str]:
    return row[0], row[1], row[2], payload, str(row[3])  # names would take longer
