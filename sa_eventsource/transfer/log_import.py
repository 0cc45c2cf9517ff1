"""An exported log into a log: its rows are read and counted, batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.arguments import whole_number
from sa_eventsource.counting import counted
from sa_eventsource.exceptions import LogImportError
from sa_eventsource.mapping import check_connection
from sa_eventsource.transfer.export_format import read_header
from sa_eventsource.transfer.import_target import ImportedLog, ImportTarget
from sa_eventsource.transfer.json_lines import JsonLine
from sa_eventsource.transfer.json_members import MemberError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Connection, Table

    from sa_eventsource.transfer.exported_rows import ExportedRow, Readable

_BATCH_CHARACTERS = 8_000_000
"""A batch is sent when its rows have come to this length, however few they are."""


def import_events(
    connection: Connection,
    events_table: Table,
    lines: Iterable[str],
    *,
    batch_size: int = 10_000,
    on_progress: Callable[[ImportedLog], object] | None = None,
) -> ImportedLog:
    """Insert the events of an export into a log, in the caller's transaction, in batches.

    Ids, versions, both times, payloads and metadata stay as they are: the log still says when each event was first recorded. In an
    export of format version 1, which does not, it is the time in an event id that is a UUIDv7, as the library makes them, and else
    ``occurred_at``, but not later than now. New positions are drawn, in the same order, behind those the log has. An
    event that is there already with the same content is skipped, so that an import can be repeated; it keeps its ``recorded_at``.
    Lines that are as an export writes them go in by COPY, on psycopg and where nobody listens to what the connection executes.

    No read model takes part: eventual ones find the events in the log; rebuild strong ones with ``ReadModelManager.rebuild()``.

    Args:
        connection: Where to write. The caller commits, or rolls back after an error: some batches may have been inserted.
        events_table: The log, such as ``event_record(Base).__table__``.
        lines: The lines of an export, header first. Empty ones are passed over.
        batch_size: Events inserted by one statement, at most.
        on_progress: Called after each batch with what was done up to then.

    Returns:
        How many events were inserted and how many skipped.

    Raises:
        LogImportError: A line does not fit the format or the log, or the file has more or fewer events than its header says.
        CompileError: The database is neither PostgreSQL nor SQLite.
    """
    if isinstance(lines, str | bytes):
        # Not text.splitlines(), which also splits at characters that may stand in a payload.
        raise TypeError("import_events() takes the lines of an export, such as an open file, not one text; pass io.StringIO(text)")
    numbered = (JsonLine(number, line) for number, line in enumerate(lines, 1) if number == 1 or line.strip())
    target = LogImport("import_events()", connection, events_table, batch_size=batch_size, on_progress=on_progress)
    header = next(numbered, None)
    if header is None:
        raise LogImportError(1, "", "there is nothing; the first line must be the header of an export")
    if not isinstance(header.text, str):
        kind = type(header.text).__name__
        raise TypeError(f'import_events() takes lines as text, not {kind}; open the file as text, with encoding="utf-8"')
    return target.take(header, numbered)


class LogImport:
    """An import into a log, whatever the format of the file."""

    def __init__(
        self,
        function: str,
        connection: Connection,
        events_table: Table,
        *,
        batch_size: int,
        on_progress: Callable[[ImportedLog], object] | None,
    ) -> None:
        """Check the arguments, which are those of :func:`import_events`.

        Args:
            function: Name of the function that was called, for messages.
            connection: Where to write.
            events_table: The log.
            batch_size: Events inserted by one statement, at most.
            on_progress: Called after each batch.

        Raises:
            TypeError: An argument is of another type than is wanted.
            ValueError: ``batch_size`` is less than 1.
        """
        self._batch_size = whole_number("batch_size", batch_size, minimum=1, meaning="how many events to take at a time, 1 or more")
        check_connection(function, connection, events_table)
        self._connection = connection
        self._events = events_table
        self._on_progress = on_progress

    def take(self, header: Readable, rows: Iterable[ExportedRow]) -> ImportedLog:
        """Insert the events.

        Args:
            header: The header of the export.
            rows: Its events. They are asked for after the header was read.

        Raises:
            LogImportError: A row does not fit the format or the log, or there are more or fewer than the header says.
        """
        try:
            head = read_header(header)
        except MemberError as error:
            raise header.refused(error.name, error.reason) from error
        target = ImportTarget(self._connection, self._events, head.format_version)
        last: Readable = header
        for batch in _batches(rows, self._batch_size):
            target.take(batch)
            last = batch[-1]
            if self._on_progress is not None:
                self._on_progress(target.done)
        total = target.done.added + target.done.skipped
        if head.count is not None and total != head.count:
            reason = f"the header says {counted(head.count, 'event')}, and there {'is' if total == 1 else 'are'} {total}"
            raise last.refused("", f"{reason}; the file was cut off" if total < head.count else reason)
        return target.done


def _batches(rows: Iterable[ExportedRow], batch_size: int) -> Iterator[list[ExportedRow]]:
    """Put rows together until they are so many, or so long."""
    batch: list[ExportedRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += row.size
        if len(batch) >= batch_size or size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
