"""The log as lines of text, and back: to move it to another database, or to keep a copy that needs none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text, tuple_

from sa_eventsource.arguments import whole_number
from sa_eventsource.exceptions import LogExportError, LogImportError
from sa_eventsource.mapping import APPENDED, MOVED, check_connection, json_object, json_row
from sa_eventsource.store import NOT_JSON, event_members, insert_statements, select_raw_events
from sa_eventsource.transfer.export_format import ImportedEvent, header, read_event, read_header
from sa_eventsource.transfer.json_members import document

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Row, Table
    from sqlalchemy.sql import ColumnElement

_BATCH_CHARACTERS = 8_000_000
"""A batch is sent when its lines have come to this length, however few they are."""

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


def export_events(
    connection: Connection, events_table: Table, *where: ColumnElement[bool], batch_size: int = 1000
) -> Generator[str, None, None]:
    """Write the log as lines of JSON, in the order of positions, in bounded memory through a server-side cursor.

    The first line is a header; each other line is an event with all that is stored of it, payload and metadata as the text that the
    database gives. Lines have no character at their end. The transaction sees what any SELECT sees. Where it sees one state of the
    database throughout (REPEATABLE READ or SERIALIZABLE on PostgreSQL, a transaction that has begun on SQLite), the header says how
    many events there are, and an import notices if some are missing.

    Args:
        connection: Where to read. Iterate before its transaction ends, or ``close()`` what was returned before.
        events_table: The log, such as ``event_record(Base).__table__``.
        *where: Conditions on its columns. Streams should remain whole: an import wants every version.
        batch_size: Rows fetched at a time.

    Yields:
        The header, then one line for each event.

    Raises:
        LogExportError: SQLite holds a payload that is no JSON.
    """
    batch_size = whole_number("batch_size", batch_size, minimum=1, meaning="how many events to take at a time, 1 or more")
    check_connection("export_events()", connection, events_table)
    count: int | None = None
    if _sees_one_state(connection):
        count = connection.scalar(select(func.count()).select_from(events_table).where(*where))
    yield header(datetime.now(UTC), count)
    statement = select_raw_events(events_table).where(*where).order_by(events_table.c.position)
    result = connection.execute(statement, execution_options={"yield_per": batch_size})
    try:
        for row in result:
            members = event_members(row)
            if NOT_JSON in members:
                broken = next(name for name in ("event_data", "metadata") if f'"{name}"' in members[NOT_JSON])
                raise LogExportError(row.event_id, row.position, broken)
            yield json_object(members)
    finally:
        result.close()


def import_events(
    connection: Connection,
    events_table: Table,
    lines: Iterable[str],
    *,
    batch_size: int = 1000,
    on_progress: Callable[[ImportedLog], object] | None = None,
) -> ImportedLog:
    """Insert the events of an export into a log, in the caller's transaction, in batches.

    Ids, versions, both times, payloads and metadata stay as they are: the log still says when each event was first recorded. In an
    export of format version 1, which does not, it is the time in an event id that is a UUIDv7, as the library makes them, and else
    ``occurred_at``, but not later than now. Positions are drawn anew, in the same order, behind those the log has. An
    event that is there already with the same content is skipped, so that an import can be repeated; it keeps its ``recorded_at``.
    No read model takes part: eventual ones find the events in the log; rebuild strong ones with ``ReadModelManager.rebuild()``.

    Args:
        connection: Where to write. The caller commits, or rolls back after an error: some batches may have been inserted.
        events_table: The log, such as ``event_record(Base).__table__``.
        lines: The lines of an export, header first. Empty ones are passed over.
        batch_size: Events inserted by one statement at the most.
        on_progress: Called after each batch with what was done up to then.

    Returns:
        How many events were inserted and how many skipped.

    Raises:
        LogImportError: A line does not fit the format or the log, or the file has more or fewer events than its header says.
        CompileError: The database is neither PostgreSQL nor SQLite.
    """
    batch_size = whole_number("batch_size", batch_size, minimum=1, meaning="how many events to take at a time, 1 or more")
    check_connection("import_events()", connection, events_table)
    if isinstance(lines, str | bytes):
        raise TypeError("import_events() takes the lines of an export, such as an open file, not one text; pass text.splitlines()")
    target = _Target(connection, events_table)
    numbered = ((number, line) for number, line in enumerate(lines, 1) if number == 1 or line.strip())
    first = next(numbered, None)
    if first is None:
        raise LogImportError(1, "", "there is nothing; the first line must be the header of an export")
    head = read_header(first[1])
    number, length, last = 1, 0, -1
    batch: list[ImportedEvent] = []
    for number, line in numbered:
        event = read_event(line, number, head.format_version)
        if event.position <= last:
            raise LogImportError(number, "position", f"{event.position} does not come after {last}; keep the lines in their order")
        last = event.position
        batch.append(event)
        length += len(line)
        if len(batch) >= batch_size or length >= _BATCH_CHARACTERS:
            target.take(batch)
            batch, length = [], 0
            if on_progress is not None:
                on_progress(target.done)
    target.take(batch)
    if on_progress is not None:
        on_progress(target.done)
    total = target.done.added + target.done.skipped
    if head.count is not None and total != head.count:
        reason = f"the header says that there are {head.count} events, but there are {total}"
        raise LogImportError(number, "", f"{reason}; the file was cut off" if total < head.count else reason)
    return target.done


class _Target:
    """The log that an import writes to."""

    def __init__(self, connection: Connection, events: Table) -> None:
        self.done = ImportedLog(0, 0)
        self._connection = connection
        self._events = events
        self._statements = insert_statements(events, connection.dialect.name, MOVED)
        self._versions: dict[tuple[str, str], int] = {}

    def take(self, batch: Sequence[ImportedEvent]) -> None:
        """Insert those events of a batch that are not there yet."""
        new = self._not_there(batch)
        self._follow(new)
        if new:
            self._insert(new)
        self.done = ImportedLog(self.done.added + len(new), self.done.skipped + len(batch) - len(new))

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
                raise LogImportError(
                    event.line,
                    "event_id",
                    f"{event.event_id} is there already, as version {there['version']} of {there['aggregate_type']} "
                    f"{there['aggregate_id']!r}, with another {', '.join(differences)}",
                )
        return list(first.values())

    def _follow(self, new: Sequence[ImportedEvent]) -> None:
        """Check that each event follows the last one of its stream."""
        if len(self._versions) > _KNOWN_STREAMS:
            self._versions.clear()
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
                raise LogImportError(event.line, "version", reason)
            self._versions[event.stream] = event.version

    def _look_up(self, streams: Sequence[tuple[str, str]]) -> None:
        columns = self._events.c
        self._versions.update(dict.fromkeys(streams, 0))
        for start in range(0, len(streams), _PARAMETERS):
            which = tuple_(columns.aggregate_type, columns.aggregate_id).in_(streams[start : start + _PARAMETERS])
            found = self._connection.execute(
                select(columns.aggregate_type, columns.aggregate_id, func.max(columns.version))
                .where(which)
                .group_by(columns.aggregate_type, columns.aggregate_id)
            )
            self._versions.update({(aggregate_type, aggregate_id): version for aggregate_type, aggregate_id, version in found})

    def _insert(self, new: Sequence[ImportedEvent]) -> None:
        if self._statements.many is None:
            result = self._statements.next.execute(self._connection, [_parameters(event) for event in new])
        else:
            result = self._statements.many.execute(self._connection, {"rows": _as_recordset(new)})
        if result.rowcount != len(new):
            # They were not there a moment ago.
            there = {row.event_id: _content_of_row(row) for row in self._rows([event.event_id for event in new])}
            event = next((event for event in new if there.get(event.event_id) != _content(event)), new[0])
            raise LogImportError(
                event.line,
                "version",
                f"another transaction is writing to {event.aggregate_type} {event.aggregate_id!r}; roll back and import again",
            )

    def _rows(self, event_ids: Sequence[UUID]) -> Iterator[Row[Any]]:
        for start in range(0, len(event_ids), _PARAMETERS):
            which = self._events.c.event_id.in_(event_ids[start : start + _PARAMETERS])
            yield from self._connection.execute(select_raw_events(self._events).where(which))


def _sees_one_state(connection: Connection) -> bool:
    if connection.dialect.name == "postgresql":
        return connection.scalar(text("SHOW transaction_isolation")) in ("repeatable read", "serializable")
    connection.execute(text("SELECT 1"))  # so that the transaction has begun, where SQLAlchemy is told to begin it
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))


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
        rows.append(json_row(_parameters(event), MOVED, event.version - 1 if is_first and event.version > 1 else None))
    return "[" + ",".join(rows) + "]"
