"""Readers: code that follows the log by itself asks for the next events, in its own transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sa_eventsource.checkpoints import (
    any_bind,
    begin,
    lag,
    lock_checkpoint,
    next_batch,
    position_of,
    read_batch,
    read_checkpoints,
    save_checkpoint,
)
from sa_eventsource.consumers import ALL_STREAMS, READER, Follower, Reader, consumers_on, followers_of
from sa_eventsource.projections.plans import after, checked, is_worth_saving
from sa_eventsource.store import require_own_transaction, require_transaction

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import Batch, Checkpoint
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.mapping import EventSourceTables


def next_events(session: Session, reader: Reader) -> list[RecordedEvent[Any]]:
    """Read what a reader has yet to take, and move its checkpoint, in the session's transaction.

    Waits for another transaction that works on the reader.

    Raises:
        AutocommitError: The session is in autocommit mode.
        DeclarationError: The checkpoint under its name is that of a read model or a subscription.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
        EventDecodeError: A payload does not fit its class. The checkpoint stays where it was.
        UnknownEventTypeError: No class declares an event's type. The checkpoint stays where it was.
    """
    connection = session.connection(bind_arguments=reader.bind_arguments)
    require_transaction(connection)
    (follower,) = followers_of(reader, connection.dialect)
    stored = lock_checkpoint(connection, follower)
    checkpoint: Checkpoint | None = checked(connection, follower, stored)
    if checkpoint is not None and checkpoint.declaration is None:
        checkpoint = begin(connection, follower, checkpoint, reader.begins)
    if checkpoint is None:
        return []
    batch, reached = _next(connection, follower, checkpoint)
    events, is_further = _read(connection, follower, batch), batch.count > 0
    while not events and (batch.count or checkpoint.until is not None):
        # That was the end of a window, what came since is in the next one; or all that was read is dropped by upcasters.
        is_end = not batch.count
        checkpoint = reached
        batch, reached = _next(connection, follower, checkpoint)
        events, is_further = _read(connection, follower, batch), is_further or batch.count > 0
        if is_end and not batch.count:
            break
    if is_further or is_worth_saving(stored, batch) or _has_passed_others(connection, reader, checkpoint):
        if batch.until is None and batch.count < reader.batch_size:  # SQLite, where a position alone says what it has passed
            reached = replace(reached, position=position_of(connection, reader.tables, "now") or 0)
        save_checkpoint(connection, follower, reached)
    return events


def _read(connection: Connection, follower: Follower, batch: Batch) -> list[RecordedEvent[Any]]:
    events = read_batch(connection, follower, batch, ALL_STREAMS) if batch.count else []
    return [each for each in events if follower.consumer.takes(each)]


def readers_on(session: Session, tables: EventSourceTables) -> list[Reader]:
    """List the readers that have a checkpoint, by name; which types they ask for is not known.

    Args:
        session: A session without a transaction in progress. It has none afterwards.
        tables: The tables of the log.

    Raises:
        JoinedTransactionError: The session's bind is in a transaction.
    """
    require_own_transaction(session, any_bind(tables))
    checkpoints = read_checkpoints(session.connection(bind_arguments=any_bind(tables)), tables)
    session.rollback()
    declared = {*tables.read_models, *(consumer.name for consumer in consumers_on(tables))}
    mapper = any_bind(tables).get("mapper")
    return [
        Reader(name=name, tables=tables, start="beginning", events_at_a_time=1, mapper=mapper)
        for name, checkpoint in checkpoints
        if checkpoint.declaration == READER and name not in declared
    ]


def _next(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> tuple[Batch, Checkpoint]:
    limit = follower.consumer.batch_size
    batch = next_batch(connection, follower, checkpoint, limit)
    return batch, after(follower.consumer, checkpoint, batch, is_last=batch.count < limit)


def _has_passed_others(connection: Connection, reader: Reader, checkpoint: Checkpoint) -> bool:
    """Check whether events of other types are new, which would count as a lag: what a reader asks for is not known to others."""
    if reader.event_types is None:
        return False
    of_all_types = Follower(replace(reader, event_types=None), reader.name)
    return lag(connection, of_all_types, checkpoint, most=1).events > 0
