"""The log as lines of text: to move it to another database, or to keep a copy that needs none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from sa_eventsource.arguments import whole_number
from sa_eventsource.exceptions import LogExportError
from sa_eventsource.mapping import check_connection, json_object
from sa_eventsource.store import NOT_JSON, database_of, event_members, select_raw_events
from sa_eventsource.transfer.export_format import header

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection, Table
    from sqlalchemy.sql import ColumnElement


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
    if database_of(connection.dialect).sees_one_state(connection):
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
