"""Appending to the log: one INSERT for all events of a flush, and what to say when it finds them stored already."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, select

from sa_eventsource.events import EventContext, encode_metadata
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.observation import is_observed, observed, origin_of
from sa_eventsource.store.connections import require_transaction
from sa_eventsource.store.databases import IDS_AT_ONCE, INCOMPLETE, database_of
from sa_eventsource.store.sealing import sealed_rows
from sa_eventsource.store.tenants import require_tenant
from sa_eventsource.store.writing_rows import can_be_alone, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.orm import Session

    from sa_eventsource.events import PendingEvent
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store.held_statements import HeldStatements

_log = logging.getLogger("sa_eventsource.observation")

CONTEXT_KEY = "event_context"
"""Key of ``Session.info`` under which an ``EventContext`` for all events of that session may lie."""


@dataclass(slots=True)
class StreamAppend:
    """Events to append to one stream.

    Attributes:
        aggregate_type: The stream's type name.
        aggregate_id: Its id as stored.
        expected_version: The version that the first event follows.
        events: The events, by version, as :func:`in_context` gives them.
        applied: The events without the session's context: a rollback gives these back.
        aggregate: The aggregate they come from; None when appended without one.
        identity_key: The key under which a session may have an aggregate that was appended to without.
    """

    aggregate_type: str
    aggregate_id: str
    expected_version: int
    events: Sequence[PendingEvent]
    applied: Sequence[PendingEvent]
    aggregate: Any = None
    identity_key: Any = None


@dataclass(slots=True)
class LogAppend:
    """What one session appends to one log.

    Attributes:
        connection: The session's connection to the log's database.
        tables: The log's tables.
        streams: The events by stream.
        is_all_of_commit: Whether the session's commit has nothing to write but this, and follows at once.
        held: What the connection holds, where the INSERT need not be waited for.
        is_sent_alone: Whether the statement that wrote the events is a transaction by itself; known when it was sent.
    """

    connection: Connection
    tables: EventSourceTables
    streams: Sequence[StreamAppend]
    is_all_of_commit: bool = False
    held: HeldStatements | None = None
    is_sent_alone: bool = False


@dataclass(slots=True)
class Appended:
    """What a listener is told: events were just written in this session's transaction.

    Attributes:
        session: The session.
        connection: Its connection, in the transaction that wrote them.
        tables: The tables they were written to.
        streams: The events by stream.
        is_in_flush: Whether the session's unit of work is at it, which then writes what listeners change through the session.
        held: What the connection holds; None where all that is written is waited for.
    """

    session: Session
    connection: Connection
    tables: EventSourceTables
    streams: Sequence[StreamAppend] = field(default_factory=list)
    is_in_flush: bool = True
    held: HeldStatements | None = None


class AppendRefusedError(EventSourceError):
    """Fewer rows went in than were sent. Internal: ``raise_explained`` turns it into the error that the caller sees.

    SQLAlchemy shows its message to a caller who goes on with the session without a rollback. Until then the session keeps it: it
    holds no aggregates.

    Attributes:
        written: How many rows went in.
    """

    def __init__(self, streams: Sequence[StreamAppend], written: int) -> None:
        """Build the message from the streams."""
        self.written = written
        named = ", ".join(f"{each.aggregate_type} {each.aggregate_id!r}" for each in streams[:_NAMED])
        more = f" and {len(streams) - _NAMED} more" if len(streams) > _NAMED else ""
        super().__init__(
            f"no event was written to {named}{more}: another transaction has appended to the stream since it was loaded, or an "
            "event is stored already"
        )


_NAMED = 3
"""How many streams a message names."""


_listeners: list[Callable[[Appended], None]] = []
_writing: list[Callable[[Appended], bool]] = []


def on_appended(listener: Callable[[Appended], None], *, writes: Callable[[Appended], bool] | None = None) -> None:
    """Have *listener* called after each append, in the same transaction; what it raises undoes the append.

    Args:
        listener: What is called.
        writes: Tells, before the append, whether the listener may send statements or raise; without it, it never does.
    """
    _listeners.append(listener)
    if writes is not None:
        _writing.append(writes)


def in_context(session: Session, events: Sequence[PendingEvent]) -> Sequence[PendingEvent]:
    """Give events as a session writes them: what they were not given when they were applied is filled in from its context.

    Those are copies. The events themselves stay as they are: after a rollback another session may write them, in its own context.

    Raises:
        TypeError: ``session.info["event_context"]`` is no ``EventContext``.
    """
    if CONTEXT_KEY not in session.info:
        return events
    outer = session.info[CONTEXT_KEY]
    if not isinstance(outer, EventContext):
        raise TypeError(f'session.info["{CONTEXT_KEY}"] must be an EventContext, not {outer!r}')
    return [_in_context(event, outer) for event in events]


def _in_context(event: PendingEvent, outer: EventContext) -> PendingEvent:
    own = EventContext(correlation_id=event.correlation_id, causation_id=event.causation_id, metadata=event.metadata)
    merged = own.merged_over(outer)
    return replace(event, correlation_id=merged.correlation_id, causation_id=merged.causation_id, metadata=merged.metadata)


def append(session: Session, log: LogAppend) -> None:
    """Write the events of one or more streams in one statement, and notify the listeners.

    On any error the caller must roll the transaction, or its savepoint, back: a part of the events may have been written. It then
    asks :func:`~sa_eventsource.store.conflicts.raise_explained` what went wrong.

    Args:
        session: The session whose transaction this is, for the listeners.
        log: The events, and where they go. Streams are written in the order of type and id, so that two transactions that write
            the same ones wait for each other instead of deadlocking.

    Raises:
        AppendRefusedError: A stream is not at the version expected, or an event is stored already.
        AutocommitError: The connection is in autocommit mode.
        DBAPIError: The database refused the statement, at REPEATABLE READ and SERIALIZABLE also for a stream that has moved on.
    """
    appended = insert_events(session, log)
    appended.is_in_flush = False
    tell_listeners(appended)


def insert_events(session: Session, log: LogAppend) -> Appended:
    """Do the first half of :func:`append`: write the events.

    Returns:
        What :func:`tell_listeners` takes.
    """
    connection, tables, streams = log.connection, log.tables, log.streams
    if len(streams) > 1:
        streams = sorted(streams, key=lambda stream: (stream.aggregate_type, stream.aggregate_id))
    require_transaction(connection)
    appended = Appended(session, connection, tables, streams, held=log.held)
    commits = log.is_all_of_commit and not any(writes(appended) for writes in _writing)
    if log.held is not None:
        log.held.belong_to(partial(_refused, streams), append=log)
    if is_observed():
        _insert_observed(LogAppend(connection, tables, streams, commits, log.held))
    else:
        _insert(LogAppend(connection, tables, streams, commits, log.held))
    return appended


def _insert_observed(log: LogAppend) -> None:
    """Write the events before the eyes of the observers, until these are in or refused: of what is held that is known later."""
    types = {stream.aggregate_type for stream in log.streams}
    events = (event for stream in log.streams for event in stream.events)
    origin = origin_of((_trace_of(event), event.correlation_id) for event in events)
    with ExitStack() as block:
        observation = block.enter_context(observed("append", types.pop() if len(types) == 1 else "", origin))
        written = _insert(log)
        observing = block.pop_all()

    def end(error: BaseException | None) -> None:
        observation.events = written if error is None else 0
        try:
            observing.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        except Exception:
            if not (log.is_sent_alone or (log.held is not None and log.held.has_committed)):
                raise
            # The caller must not take for failed what nothing can undo any more.
            _log.exception("an observer failed after a commit, which stays")

    if log.held is None or not log.held.end_append(end):
        end(None)


def _trace_of(event: PendingEvent) -> str | None:
    trace = event.metadata.get("traceparent")
    return trace if isinstance(trace, str) else None


def tell_listeners(appended: Appended) -> None:
    """Do the second half of :func:`append`: what is to be written with the events."""
    for listener in _listeners:
        listener(appended)


def _insert(log: LogAppend) -> int:
    connection, tables, streams = log.connection, log.tables, log.streams
    if tables.options.tenants:
        require_tenant(connection, tables.events)
    for table in _tables_of_taken_ids(tables):
        _refuse_taken_ids(connection, table, streams)
    rows = [row_of(stream, event) for stream in streams for event in stream.events]
    may_guess = log.held is None or can_be_alone(log)  # what is held cannot be tried again
    keys = sealed_rows(connection, tables, streams, rows, may_guess=may_guess)
    written = write_rows(log, rows, keys)
    if keys and not written:  # a key may be gone, or no longer the newest: now they are asked for
        sealed_rows(connection, tables, streams, rows, may_guess=False)
        log.is_all_of_commit, log.held = False, None
        written = write_rows(log, rows, ())
    if written != len(rows):
        raise AppendRefusedError(streams, written)
    return written


def _refused(streams: Sequence[StreamAppend], error: DBAPIError) -> BaseException:
    return AppendRefusedError(streams, 0) if INCOMPLETE in str(error.orig) else error


def _tables_of_taken_ids(tables: EventSourceTables) -> Sequence[Table]:
    """List the tables whose events have ids that no constraint of the log refuses."""
    found = () if tables.options.partitions is None else (tables.events,)
    return (*found, *(each for each in (tables.archived_events, tables.archived_event_ids) if each is not None))


def _refuse_taken_ids(connection: Connection, events: Table, streams: Sequence[StreamAppend]) -> None:
    """Look for the ids that the application gave, among events whose ids no constraint of the log refuses.

    These are the events of other streams in a partitioned log, and those that were archived.

    Of two transactions that give one id to two streams at the same moment, neither sees the other's; ``verify`` finds it then. Ids
    that the library makes are not looked for, so that what most appends cost does not grow with the number of partitions.

    Raises:
        AppendRefusedError: One is stored already, or was given twice.
    """
    given = [event.event_id for stream in streams for event in stream.events if event.id_given]
    if not given:
        return
    database_of(connection.dialect).become_writer(connection, events)
    is_taken = len(set(given)) < len(given)
    for start in range(0, len(given), IDS_AT_ONCE):
        which = exists().where(events.c.event_id.in_(given[start : start + IDS_AT_ONCE]))
        is_taken = is_taken or bool(connection.scalar(select(which)))
    if is_taken:
        raise AppendRefusedError(streams, 0)


def row_of(stream: StreamAppend, event: PendingEvent) -> dict[str, Any]:
    """Give the values of ``APPENDED`` for one event, payload and metadata as JSON text."""
    event_class = type(event.event)
    return {
        "event_id": event.event_id,
        "aggregate_type": stream.aggregate_type,
        "aggregate_id": stream.aggregate_id,
        "version": event.version,
        "event_type": event_class.__event_type__,
        "event_version": event_class.__event_version__,
        "event_data": event.payload,
        "metadata": encode_metadata(event.metadata) if event.metadata else None,
        "occurred_at": event.occurred_at,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
    }
