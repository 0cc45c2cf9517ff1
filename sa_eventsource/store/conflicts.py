"""What the caller gets whose append was refused."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from sa_eventsource.events import ARCHIVED_TYPE, CLOSED_TYPE, parsed, sealed_names
from sa_eventsource.exceptions import (
    ConcurrencyError,
    DuplicateAggregateError,
    EventAlreadyAppendedError,
    EventIdConflictError,
    EventSourceError,
    StreamClosedError,
)
from sa_eventsource.mapping import APPENDED, as_json
from sa_eventsource.store.append import AppendRefusedError, LogAppend, row_of
from sa_eventsource.store.archived_streams import taken_in_file, whole_log
from sa_eventsource.store.connections import after_rollback
from sa_eventsource.store.database_errors import SERIALIZATION_FAILURE, code_of
from sa_eventsource.store.sealing import clear_texts, stored_payloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.orm import Session

    from sa_eventsource.events import PendingEvent
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store.append import StreamAppend


def raise_explained(
    error: AppendRefusedError | DBAPIError,
    session: Session,
    appends: Sequence[LogAppend],
    refused: LogAppend | None,
    *,
    earlier: Sequence[Any] = (),
) -> NoReturn:
    """Raise what the caller of a refused append should see. Call it after the rollback.

    Args:
        error: What the append raised.
        session: The session.
        appends: All that was to be appended together, one for each log.
        refused: The one of them whose INSERT raised the error; None where another statement did, behind the last of them.
        earlier: What :func:`~sa_eventsource.store.own_events.written_earlier` has found, before the rollback.

    Raises:
        ConcurrencyError: A stream has moved on.
        DuplicateAggregateError: The transaction itself has written events in the places of these.
        EventAlreadyAppendedError: The events of a stream are stored already.
        EventIdConflictError: An event id is taken, or was given to two events.
        StreamClosedError: A stream is closed.
        DBAPIError: None of these; the database's own error.
    """
    if isinstance(error, DBAPIError) and code_of(error) != SERIALIZATION_FAILURE:
        raise error
    was_refused = isinstance(error, AppendRefusedError)
    with ExitStack() as stack:
        connections = dict.fromkeys(each.connection for each in appends)
        usable = {each: stack.enter_context(after_rollback(session, each)) for each in connections}
        asked = [replace(each, connection=asking) for each in appends if (asking := usable[each.connection]) is not None]
        found = explain(asked, refused=refused.streams if refused is not None and was_refused else (), earlier=earlier)
    if found is None and refused is not None:
        sees_all = usable[refused.connection] not in {None, refused.connection}
        if was_refused or (len(refused.streams) == 1 and not sees_all):
            # At REPEATABLE READ and SERIALIZABLE, a transaction that goes on cannot see what was first. Where all can be seen, and
            # the stream is as expected, it was something else.
            stream = refused.streams[0]
            found = ConcurrencyError(stream.aggregate_type, stream.aggregate_id, expected_version=stream.expected_version)
    if found is not None:
        raise found from error
    raise error


def explain(
    appends: Sequence[LogAppend], *, refused: Sequence[StreamAppend], earlier: Sequence[Any] = ()
) -> EventSourceError | None:
    """Find out, after the rollback, why an append was refused.

    Args:
        appends: What was to be appended together, each with a connection that sees what others have committed.
        refused: Streams of them of which one that has fewer events than expected may be the reason. It is named only where no
            stream has more: one with fewer may just have been flushed before, in what is now rolled back.
        earlier: Events that the same transaction had written under the ids or in the places of the refused streams.

    Returns:
        The error to raise: an event id that is taken, two instances of one aggregate, a stream that is closed or has moved on, or
        events that are already stored; None when nothing stands in the way (any more).
    """
    repeated: list[StreamAppend] = []
    unseen: list[tuple[LogAppend, StreamAppend]] = []
    for append in appends:
        found = _clash(append.streams)
        if found is not None:
            return found
        stored = _stored(append.connection, append.tables, append.streams)
        other: EventSourceError | None = taken_in_file(append.connection, append.tables, append.streams)
        if other is None and append.streams is refused:
            other = _own_clash(append, earlier, stored)
        if other is not None:
            return other
        for stream in append.streams:
            taken = _taken_id(stream, stored)
            if taken is not None:
                return taken
            if all(event.event_id in stored for event in stream.events):
                repeated.append(stream)
            else:
                unseen.append((append, stream))
    conflict = _conflict(unseen, refused)
    if conflict is not None:
        return conflict
    for stream in repeated:
        return EventAlreadyAppendedError(
            [event.event_id for event in stream.events],
            stream.aggregate_type,
            stream.aggregate_id,
            others=[(other.aggregate_type, other.aggregate_id) for _, other in unseen],
        )
    return None


def _taken_id(stream: StreamAppend, stored: Mapping[Any, Any], *, is_stored: bool = True) -> EventIdConflictError | None:
    """Find an event whose id is stored, or was until the rollback, with other contents."""
    for event in stream.events:
        row = stored.get(event.event_id)
        if row is not None and (differences := _differences(stream, event, row)):
            return EventIdConflictError(
                event.event_id,
                aggregate_type=row.aggregate_type,
                aggregate_id=row.aggregate_id,
                version=row.version,
                differences=differences,
                is_stored=is_stored,
            )
    return None


def _own_clash(append: LogAppend, earlier: Sequence[Any], stored: Mapping[Any, Any]) -> EventSourceError | None:
    """Find what the transaction itself had written before. What is still stored after a savepoint's rollback is found there."""
    streams = append.streams
    gone = [row for row in earlier if row.event_id not in stored]
    undone = {row.event_id: row for row in _in_clear(append.connection, append.tables.events, gone)}
    places = {(row.aggregate_type, row.aggregate_id, row.version): row.event_id for row in earlier}
    for stream in streams:
        taken = _taken_id(stream, undone, is_stored=False)
        if taken is not None:
            return taken
        is_repeated = all(event.event_id in stored for event in stream.events)
        for event in stream.events:
            holder = places.get((stream.aggregate_type, stream.aggregate_id, event.version))
            if holder is not None and (holder != event.event_id or not is_repeated):
                given = None if stream.aggregate is not None else stream.expected_version
                return DuplicateAggregateError(stream.aggregate_type, stream.aggregate_id, expected_version=given)
    return None


def _conflict(
    streams: Iterable[tuple[LogAppend, StreamAppend]], refused: Sequence[StreamAppend]
) -> ConcurrencyError | StreamClosedError | None:
    """Find a stream that is closed, or at another version than expected, first of all one that has moved on."""
    fewer: ConcurrencyError | None = None
    for append, stream in streams:
        end = stream_end(append.connection, append.tables.events, stream.aggregate_type, stream.aggregate_id)
        if end.closed is not None:
            return end.closed
        actual = end.version
        if actual == stream.expected_version:
            continue
        conflict = ConcurrencyError(
            stream.aggregate_type, stream.aggregate_id, expected_version=stream.expected_version, actual_version=actual
        )
        if actual > stream.expected_version:
            return conflict
        if fewer is None and any(stream is each for each in refused):
            fewer = conflict
    return fewer


def _clash(streams: Sequence[StreamAppend]) -> EventSourceError | None:
    """Find what keeps the streams from being written together: one event id twice, or two instances of one aggregate."""
    keys: set[tuple[str, str]] = set()
    ids: dict[Any, dict[str, Any]] = {}
    for stream in streams:
        key = stream.aggregate_type, stream.aggregate_id
        if key in keys:
            return DuplicateAggregateError(*key)
        keys.add(key)
        for event in stream.events:
            row = row_of(stream, event)
            first = ids.setdefault(event.event_id, row)
            if first is not row:
                return EventIdConflictError(
                    event.event_id,
                    aggregate_type=first["aggregate_type"],
                    aggregate_id=first["aggregate_id"],
                    version=first["version"],
                    differences=[name for name in APPENDED if first[name] != row[name]],
                    is_stored=False,
                )
    return None


class StreamEnd(NamedTuple):
    """Where a stream ends.

    Attributes:
        version: Its latest version; 0 if there is none.
        closed: The error for whoever would append; None while it is open.
    """

    version: int
    closed: StreamClosedError | None


def stream_end(connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> StreamEnd:
    """Read where a stream ends."""
    stream = events.c.aggregate_type == aggregate_type, events.c.aggregate_id == aggregate_id
    last = select(events.c.version, events.c.event_type, events.c.event_data).where(*stream).order_by(events.c.version.desc())
    row = connection.execute(last.limit(1)).one_or_none()
    if row is None:
        return StreamEnd(0, None)
    if row.event_type not in (CLOSED_TYPE, ARCHIVED_TYPE):
        return StreamEnd(row.version, None)
    reason = row.event_data.get("reason", "")
    return StreamEnd(row.version, StreamClosedError(aggregate_type, aggregate_id, version=row.version, reason=reason))


def _stored(connection: Connection, tables: EventSourceTables, streams: Sequence[StreamAppend]) -> dict[Any, Any]:
    ids = [event.event_id for stream in streams for event in stream.events]
    events = whole_log(tables)
    rows: dict[Any, Any] = {}
    for start in range(0, len(ids), 500):
        found = connection.execute(select(events).where(events.c.event_id.in_(ids[start : start + 500])))
        rows.update({row.event_id: row for row in _in_clear(connection, tables.events, found.all())})
    return rows


def _in_clear(connection: Connection, events: Table, rows: Sequence[Any]) -> Sequence[Any]:
    """Open what is sealed in rows of the log: two that were sealed are never the same."""
    names = sealed_names()
    which = [number for number, row in enumerate(rows) if row.event_type in names]
    found = list(rows)
    texts = [SimpleNamespace(**{**row._mapping, "event_data": as_json(row.event_data)}) for row in map(rows.__getitem__, which)]  # noqa: SLF001 - public
    sealed = stored_payloads(texts)
    for number, payload in zip(which, clear_texts(connection, events, sealed), strict=True):
        found[number] = SimpleNamespace(**{**rows[number]._mapping, "event_data": json.loads(payload)})  # noqa: SLF001 - public
    return found


def _differences(stream: StreamAppend, event: PendingEvent, row: Any) -> list[str]:
    ours = row_of(stream, event)
    # As jsonb gives it on one side, and as SQLite keeps it on the other: 1e23 is a whole number there, and the nearest float here.
    theirs = {"event_data": _canonical(row.event_data), "metadata": _canonical(row.metadata)}
    ours["event_data"] = parsed(event.payload)
    ours["metadata"] = None if ours["metadata"] is None else parsed(ours["metadata"])
    ours["occurred_at"] = event.occurred_at.astimezone(UTC) if event.time_given else row.occurred_at
    return [name for name in APPENDED if ours[name] != theirs.get(name, getattr(row, name))]


def _canonical(document: Any) -> Any:
    return None if document is None else parsed(json.dumps(document))
