"""The log that an import writes to: plain batches are copied into it, others looked at row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sa_eventsource.events import CLOSED_TYPE
from sa_eventsource.mapping import APPENDED, MOVED, found_partitions, json_rows
from sa_eventsource.store import database_of, insert_statements, join_tenant, select_raw_events
from sa_eventsource.transfer.copy_in import NotCopiedError, PlainBatch, UnknownStreamError, can_copy
from sa_eventsource.transfer.export_format import FORMAT_VERSION, read_event
from sa_eventsource.transfer.json_members import MemberError, document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Row, Table

    from sa_eventsource.transfer.export_format import ImportedEvent
    from sa_eventsource.transfer.exported_rows import ExportedRow

_json_row = json_rows(MOVED)

_KNOWN_STREAMS = 100_000
"""How many streams' versions an import remembers before it asks the database for them again."""

_PARAMETERS = 400
"""Values sent with one question; SQLite's oldest limit on parameters is 999."""


@dataclass(frozen=True, slots=True)
class ImportedLog:
    """What an import did.

    Attributes:
        added: Events that were inserted.
        skipped: Events that were there already, with the same content.
    """

    added: int
    skipped: int


class ImportTarget:
    """The log that an import writes to.

    Attributes:
        done: What was done so far.
    """

    def __init__(self, connection: Connection, events: Table, format_version: int) -> None:
        """Choose the log.

        Args:
            connection: Where to write.
            events: The log.
            format_version: Version of the format that rows have.
        """
        join_tenant(connection, events)
        self.done = ImportedLog(0, 0)
        self._connection = connection
        self._events = events
        self._format_version = format_version
        self._statements = insert_statements(events, type(connection.dialect), MOVED)
        self._versions: dict[tuple[str, str], int] = {}
        self._closed: set[tuple[str, str]] = set()
        self._last = -1
        self._can_copy = format_version == FORMAT_VERSION and can_copy(connection, events)
        self._checks_ids = self._can_copy and found_partitions(connection, events).is_partitioned
        self._is_repeated = False

    def take(self, rows: Sequence[ExportedRow]) -> None:
        """Insert those events of a batch that are not there yet.

        Raises:
            LogImportError: A row does not fit the format or the log.
        """
        if len(self._versions) > _KNOWN_STREAMS:
            self._versions.clear()
            self._closed.clear()
        # Where the batch before was there already, this one may be too, and COPY would fail for it.
        if self._can_copy and not self._is_repeated and self._copy(rows):
            self.done = ImportedLog(self.done.added + len(rows), self.done.skipped)
            return
        batch = [self._read(row) for row in rows]
        new = self._not_there(batch)
        self._follow(new)
        if new:
            self._insert(new)
        self.done = ImportedLog(self.done.added + len(new), self.done.skipped + len(batch) - len(new))
        self._is_repeated = len(new) < len(batch)

    def _copy(self, rows: Sequence[ExportedRow]) -> bool:
        """Insert a batch by COPY, unless it needs a closer look; return whether it was inserted."""
        try:
            try:
                batch = self._copied(rows)
            except UnknownStreamError:
                plain = (row.plain() for row in rows)
                streams = dict.fromkeys(event.stream for event in plain if event is not None)
                self._look_up([stream for stream in streams if stream not in self._versions])
                batch = self._copied(rows)
        except NotCopiedError:
            return False
        self._versions.update(batch.versions)
        self._closed |= batch.closed
        self._last = batch.last
        return True

    def _copied(self, rows: Sequence[ExportedRow]) -> PlainBatch:
        batch = PlainBatch(rows, last=self._last, versions=self._versions, closed=self._closed, checks_ids=self._checks_ids)
        batch.insert(self._connection, self._events)
        return batch

    def _read(self, row: ExportedRow) -> ImportedEvent:
        try:
            event = read_event(row, self._format_version)
        except MemberError as error:
            raise row.refused(error.name, error.reason) from error
        if event.position <= self._last:
            raise row.refused("position", f"{event.position} does not come after {self._last}; keep the events in their order")
        self._last = event.position
        return event

    def _not_there(self, batch: Sequence[ImportedEvent]) -> list[ImportedEvent]:
        stored = {row.event_id: _content_of_row(row) for row in self._rows([event.event_id for event in batch])}
        first: dict[UUID, ImportedEvent] = {}
        for event in batch:
            there = stored.get(event.event_id)
            if there is None:
                before = first.setdefault(event.event_id, event)
                if before is event:
                    continue
                there = _content(before)
            content = _content(event)
            differences = [name for name in APPENDED if there[name] != content[name]]
            if differences:
                raise event.row.refused(
                    "event_id",
                    f"{event.event_id} is there already, as version {there['version']} of {there['aggregate_type']} "
                    f"{there['aggregate_id']!r}, with another {', '.join(differences)}",
                )
        return list(first.values())

    def _follow(self, new: Sequence[ImportedEvent]) -> None:
        """Check that each event follows the last one of its stream, which is open."""
        self._look_up(list(dict.fromkeys(event.stream for event in new if event.stream not in self._versions)))
        for event in new:
            present = self._versions[event.stream]
            if event.version != present + 1:
                aggregate = f"{event.aggregate_type} {event.aggregate_id!r}"
                reason = (
                    f"{aggregate} has another event at version {event.version} already, and is at version {present}"
                    if event.version <= present
                    else f"{aggregate} is at version {present}, so that version {present + 1} must come next, not {event.version}"
                )
                raise event.row.refused("version", reason)
            if event.stream in self._closed:
                reason = (
                    f"{event.aggregate_type} {event.aggregate_id!r} was closed at version {present} and takes no further events"
                )
                raise event.row.refused("version", reason)
            self._versions[event.stream] = event.version
            if event.event_type == CLOSED_TYPE:
                self._closed.add(event.stream)

    def _look_up(self, streams: Sequence[tuple[str, str]]) -> None:
        """Learn the versions that streams have come to in the log, 0 for those that are not there, and which are closed."""
        self._versions.update(dict.fromkeys(streams, 0))
        for row in database_of(self._connection.dialect).ends_of_streams(self._connection, self._events, streams):
            self._versions[row.aggregate_type, row.aggregate_id] = row.version
            if row.is_closed:
                self._closed.add((row.aggregate_type, row.aggregate_id))

    def _insert(self, new: Sequence[ImportedEvent]) -> None:
        if self._statements.many is None:
            result = self._statements.next.execute(self._connection, [_parameters(event) for event in new])
        else:
            result = self._statements.many.execute(self._connection, {"rows": _as_recordset(new)})
        if result.rowcount != len(new):
            # They were not there a moment ago.
            there = {row.event_id: _content_of_row(row) for row in self._rows([event.event_id for event in new])}
            event = next((event for event in new if there.get(event.event_id) != _content(event)), new[0])
            raise event.row.refused(
                "version",
                f"another transaction is writing to {event.aggregate_type} {event.aggregate_id!r}; roll back and import again",
            )

    def _rows(self, event_ids: Sequence[UUID]) -> Iterator[Row[Any]]:
        for start in range(0, len(event_ids), _PARAMETERS):
            which = self._events.c.event_id.in_(event_ids[start : start + _PARAMETERS])
            yield from self._connection.execute(select_raw_events(self._events).where(which))


def _content(event: ImportedEvent) -> dict[str, Any]:
    """Give what makes two events the same. When each log wrote it down is that log's own."""
    values = {name: getattr(event, name) for name in APPENDED}
    return values | {"event_data": document(event.event_data), "metadata": document(event.metadata)}


def _content_of_row(row: Row[Any]) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in APPENDED if name != "metadata"}
    return values | {"event_data": document(row.event_data), "metadata": document(row.event_metadata)}


def _parameters(event: ImportedEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in MOVED}


def _as_recordset(new: Sequence[ImportedEvent]) -> str:
    """Write the rows as one JSON array. The first of a stream that exists names the version it follows, for the INSERT to check."""
    begun: set[tuple[str, str]] = set()
    rows = []
    for event in new:
        is_first = event.stream not in begun
        begun.add(event.stream)
        rows.append(_json_row(_parameters(event), event.version - 1 if is_first and event.version > 1 else None))
    return "[" + ",".join(rows) + "]"
