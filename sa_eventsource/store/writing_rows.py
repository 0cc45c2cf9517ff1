"""Writing the rows of new events: which INSERT they go by, and whether it is sent alone, held or waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from sa_eventsource.mapping import APPENDED, json_rows
from sa_eventsource.store.databases import INCOMPLETE, KeysToLock
from sa_eventsource.store.driver_statement import DriverStatement
from sa_eventsource.store.insert_statements import insert_statements
from sa_eventsource.store.statements_alone import can_execute_alone, execute_alone

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store.append import LogAppend, StreamAppend
    from sa_eventsource.store.databases import InsertStatements

_json_row = json_rows(APPENDED)


def can_be_alone(log: LogAppend) -> bool:
    """Check whether the INSERT could be its transaction by itself.

    The answer holds until something else is sent: whoever has looked for keys in between asks again.
    """
    return log.is_all_of_commit and can_execute_alone(log.connection)


def write_rows(log: LogAppend, rows: list[dict[str, Any]], keys: Collection[str]) -> int:
    """Write the rows, if these keys can be locked, and tell how many went in.

    Of those that are held, that is all of them: the statement fails where one does not.
    """
    connection, tables, streams = log.connection, log.tables, log.streams
    to_lock, locking = _to_lock(tables, keys) if keys else _NOTHING_TO_LOCK
    statements = insert_statements(tables.events, type(connection.dialect), keys=to_lock)
    alone = log.is_sent_alone = can_be_alone(log)
    if log.held is not None and not alone and not keys:
        statement, given = _failing(statements, streams, rows)
        statement.execute(connection, {**given, "expected": len(rows)}, may_be_held=True)
        return len(rows)
    if len(rows) == 1:
        statement = statements.first if rows[0]["version"] == 1 else statements.next
        given = {**rows[0], **locking} if keys else rows[0]
        return (execute_alone if alone else DriverStatement.execute)(statement, connection, given).rowcount
    if statements.many is None:
        return statements.next.execute(connection, rows).rowcount
    given = {"rows": _as_json(streams, rows), **locking}
    if not alone or statements.all_or_none is None:
        return statements.many.execute(connection, given).rowcount
    try:
        written: int = execute_alone(statements.all_or_none, connection, {**given, "expected": len(rows)}).scalar_one()
    except DBAPIError as error:
        if INCOMPLETE in str(error.orig):
            return 0
        raise
    return written


def _to_lock(tables: EventSourceTables, keys: Collection[str]) -> tuple[KeysToLock | None, Mapping[str, str | int]]:
    """Say which statements lock these keys, and give their parameters."""
    if tables.subject_keys is None:
        raise AssertionError("keys come from this table")
    if len(keys) == 1:
        return KeysToLock(tables.subject_keys, are_many=False), {"key": next(iter(keys))}
    return KeysToLock(tables.subject_keys, are_many=True), {"keys": f"{{{','.join(keys)}}}", "key_count": len(keys)}


_NOTHING_TO_LOCK: tuple[KeysToLock | None, Mapping[str, str | int]] = None, {}


def _failing(
    statements: InsertStatements, streams: Sequence[StreamAppend], rows: list[dict[str, Any]]
) -> tuple[DriverStatement, Mapping[str, Any]]:
    """Choose the statement that fails where a row would be skipped, with its parameters except for the number of rows."""
    one = statements.first_or_fail if rows[0]["version"] == 1 else statements.next_or_fail
    if len(rows) == 1 and one is not None:
        return one, rows[0]
    if statements.all_or_none is None:
        raise AssertionError("what is held goes to PostgreSQL")
    return statements.all_or_none, {"rows": _as_json(streams, rows)}


def _as_json(streams: Sequence[StreamAppend], rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as one JSON array. The first of a stream that exists names the version it follows, for the INSERT to check."""
    follows = {id(stream.events[0]): stream.expected_version for stream in streams if stream.expected_version > 0}
    events = (event for stream in streams for event in stream.events)
    return "[" + ",".join([_json_row(row, follows.get(id(event))) for event, row in zip(events, rows, strict=True)]) + "]"
