"""Appending to a stream without loading the aggregate: after the version that the caller expects, or after whatever is there."""

from __future__ import annotations

import enum
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, ResourceClosedError

from sa_eventsource.aggregates import books_of, definition_of, session_side
from sa_eventsource.clock import now
from sa_eventsource.events import PendingEvent, StreamClosed, current_context, encode
from sa_eventsource.exceptions import ConcurrencyError, StreamClosedError
from sa_eventsource.store import (
    AppendRefusedError,
    LogAppend,
    StreamAppend,
    append,
    database_of,
    in_context,
    locate,
    raise_explained,
    require_transaction,
    stream_end,
    written_earlier,
)
from sa_eventsource.time_ordered_ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.events import DomainEvent

_ATTEMPTS = 100


class ExpectedVersion(enum.Enum):
    """What :meth:`EventSourcedRepository.append` may expect of a stream, besides an exact version."""

    ANY = "any"
    """Append behind whatever is there."""
    NO_STREAM = "no stream"
    """Append only if there is nothing yet; the same as version 0."""


Expected: TypeAlias = int | ExpectedVersion


class UnloadedStream:
    """The stream of one aggregate, in a session that need not have the aggregate."""

    def __init__(self, session: Session, aggregate_class: type[Any], aggregate_id: Any) -> None:
        """Choose the stream.

        Raises:
            AggregateIdError: *aggregate_id* is not of the declared type.
        """
        self._session = session
        self._aggregate_class = aggregate_class
        self._definition = definition_of(aggregate_class)
        self._text_id = self._definition.text_id(aggregate_id)
        self._aggregate_id = aggregate_id

    def append(
        self,
        events: Sequence[DomainEvent],
        expected: Expected,
        *,
        occurred_at: datetime | None,
        event_ids: Sequence[UUID] | None,
    ) -> int:
        """Append events within a savepoint; an instance that the session has is expired.

        Args:
            events: One or more events.
            expected: The version they follow, or which may be.
            occurred_at: When they occurred; None for now.
            event_ids: One id for each event; None for new ones.

        Returns:
            The version of the last event.

        Raises:
            ConcurrencyError: The stream is at another version.
            DuplicateAggregateError: This transaction has itself written events after that version, or a part of these.
            EventAlreadyAppendedError: The same events are stored already at that place.
            EventIdConflictError: An event id is taken.
            EventPayloadError: An event holds a value that would not survive storage.
            StreamClosedError: The stream is closed, or by an event that is not the last one.
            UnhandledEventError: The aggregate has no method for an event.
            UnknownShardError: A sharded session does not know where the aggregate belongs.
        """
        connection, shard = locate(self._session, self._definition, self._aggregate_id, writing=True)
        require_transaction(connection)  # else the savepoint would be refused, with less to say
        identity_key = self._session.identity_key(self._aggregate_class, self._aggregate_id, identity_token=shard)
        ids = event_ids or [uuid7() for _ in events]
        start = -1
        for attempt in range(1, _ATTEMPTS + 1):
            previous, start = start, self._start(connection, ids, expected)
            pending = list(self._pending(events, ids, start, occurred_at, ids_given=event_ids is not None))
            stream = StreamAppend(
                self._definition.aggregate_type,
                self._text_id,
                start,
                in_context(self._session, pending),
                pending,
                identity_key=identity_key,
            )
            try:
                with session_side().savepoints_begin_written(self._session):
                    self._append(stream)
            except ConcurrencyError:
                # Where the version that was found is the one before, the next attempt would find no other either.
                if expected is not ExpectedVersion.ANY or start == previous or attempt == _ATTEMPTS:
                    raise
            else:
                break
        # Only now: the flush may have made a new instance persistent, and what listens to the append may have loaded one.
        present = self._session.identity_map.get(identity_key)
        if present is not None and not books_of(present).pending:
            self._session.expire(present)
        return start + len(events)

    def _start(self, connection: Connection, ids: Sequence[UUID], expected: Expected) -> int:
        """Find the version that the events follow."""
        if expected is not ExpectedVersion.ANY:
            return 0 if isinstance(expected, ExpectedVersion) else expected
        # A repeated append of the same events belongs where they are, so that it is recognised.
        events = self._definition.tables.events
        stored: int | None = connection.scalar(select(events.c.version).where(events.c.event_id == ids[0]))
        if stored is not None:
            return stored - 1
        end = stream_end(connection, events, self._definition.aggregate_type, self._text_id)
        if end.closed is not None:
            raise end.closed
        return end.version

    def _pending(
        self, events: Sequence[DomainEvent], ids: Sequence[UUID], start: int, moment: datetime | None, *, ids_given: bool
    ) -> Iterator[PendingEvent]:
        context = current_context()
        present = now()
        closing: StreamClosed | None = None
        for version, (event, event_id) in enumerate(zip(events, ids, strict=True), start + 1):
            self._definition.handlers.find_for(event)
            if closing is not None:
                raise StreamClosedError(self._definition.aggregate_type, self._text_id, version=version - 1, reason=closing.reason)
            closing = event if isinstance(event, StreamClosed) else None
            yield PendingEvent(
                event=event,
                payload=encode(event),
                event_id=event_id,
                version=version,
                occurred_at=moment or present,
                correlation_id=context.correlation_id,
                causation_id=context.causation_id,
                metadata=context.metadata,
                time_given=moment is not None,
                id_given=ids_given,
            )

    def _append(self, stream: StreamAppend) -> None:
        connection, _ = locate(self._session, self._definition, self._aggregate_id, writing=True)
        database_of(connection.dialect).begin(connection)
        savepoint = self._session.begin_nested()
        # The connection is asked for now: the savepoint is set when it is first used.
        connection, _ = locate(self._session, self._definition, self._aggregate_id, writing=True)
        log = LogAppend(connection, self._definition.tables, [stream])
        try:
            append(self._session, log)
        except AppendRefusedError as error:
            try:
                first = session_side().first_event_written(self._session, log.connection, log.tables)
                earlier = written_earlier(log, error, first)
            finally:
                savepoint.rollback()
            raise_explained(error, self._session, [log], log, earlier=earlier)
        except DBAPIError as error:
            savepoint.rollback()
            raise_explained(error, self._session, [log], log)
        except BaseException:
            with suppress(ResourceClosedError):  # a handler of a read model may have rolled it back, which is what is raised
                savepoint.rollback()
            raise
        savepoint.commit()
