"""The log, read for an export, and as lines of text: to move it to another database, or to keep a copy that needs none."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from sa_eventsource.arguments import whole_number
from sa_eventsource.exceptions import LogExportError
from sa_eventsource.mapping import check_connection, json_object
from sa_eventsource.store import database_of, join_tenant, not_json, select_raw_events, stored_members, without_archived
from sa_eventsource.transfer.export_format import header

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sqlalchemy import Connection, Row, Table
    from sqlalchemy.sql import ColumnElement


def export_events(
    connection: Connection, events_table: Table, *where: ColumnElement[bool], batch_size: int = 1000
) -> Generator[str, None, None]:
    """Write the log as lines of JSON, in the order of positions, in bounded memory through a server-side cursor.

    Archived streams are not in the log; their table can be given in its place.

    The first line is a header; each other line is an event with all that is stored of it, payload and metadata as the text that the
    database gives. Lines have no character at their end. The transaction sees what any SELECT sees. Where it sees one state of the
    database throughout, the header says how many events there are, and an import notices if some are missing. That is so at
    REPEATABLE READ or SERIALIZABLE on PostgreSQL, and in a transaction that has begun on SQLite.

    Args:
        connection: Where to read. Iterate before its transaction ends, or ``close()`` what was returned before.
        events_table: The log, such as ``event_record(Base).__table__``.
        *where: Conditions on its columns. Streams should remain whole: an import wants every version.
        batch_size: Rows fetched at a time.

    Yields:
        The header, then one line for each event.

    Raises:
        LogExportError: SQLite holds a payload that is not JSON.
    """
    log = LogExport("export_events()", connection, events_table, where, batch_size)
    yield header(datetime.now(UTC), log.count)
    with closing(log.batches()) as batches:
        for rows in batches:
            for row in rows:
                yield json_object(stored_members(row))


class LogExport:
    """A log that is being read for an export, whatever the format of the file.

    Attributes:
        count: How many events there are, where the transaction sees one state of the database throughout; else None.
    """

    def __init__(
        self, function: str, connection: Connection, events_table: Table, where: Sequence[ColumnElement[bool]], batch_size: int
    ) -> None:
        """Check the arguments, which are those of :func:`export_events`, and count.

        Args:
            function: Name of the function that was called, for messages.
            connection: Where to read.
            events_table: The log.
            where: Conditions on its columns.
            batch_size: Rows fetched at a time.

        Raises:
            TypeError: An argument is of another type than is wanted.
            ValueError: ``batch_size`` is less than 1.
        """
        self._batch_size = whole_number("batch_size", batch_size, minimum=1, meaning="how many events to take at a time, 1 or more")
        check_connection(function, connection, events_table)
        join_tenant(connection, events_table)
        self._connection = connection
        self._events = events_table
        self._where = (*without_archived(events_table), *where)
        self._database = database_of(connection.dialect)
        self.count: int | None = None
        if self._database.sees_one_state(connection):
            self.count = connection.scalar(select(func.count()).select_from(events_table).where(*self._where))

    def batches(self) -> Generator[Sequence[Row[Any]], None, None]:
        """Read the events in the order of positions, as rows of ``select_raw_events``, through a server-side cursor.

        Raises:
            LogExportError: SQLite holds a payload that is not JSON.
        """
        statement = select_raw_events(self._events).where(*self._where).order_by(self._events.c.position)
        result = self._connection.execute(statement, execution_options={"yield_per": self._batch_size})
        try:
            for rows in result.partitions():
                if not self._database.stores_only_json:
                    _check_documents(rows)
                yield rows
        finally:
            result.close()


def _check_documents(rows: Sequence[Row[Any]]) -> None:
    for row in rows:
        for name in not_json(row):
            raise LogExportError(row.event_id, row.position, name)
