"""What a consumer does with events: its declared fields are written, its handlers called."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import DBAPIError

from sa_eventsource.checkpoints import read_batch
from sa_eventsource.consumers import handling
from sa_eventsource.read_models import ReadModelDefinition, apply_events, apply_in_order
from sa_eventsource.read_models.sql import events_as_rows, is_outdated, write_statements
from sa_eventsource.store import is_refusal, meaning_of, read_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.checkpoints import Batch
    from sa_eventsource.consumers import Consumer, Follower, Streams
    from sa_eventsource.events import RecordedEvent

_STORED_BATCH = 1_000


def process_batch(  # noqa: PLR0913 - what is to be processed, and how
    session: Session,
    follower: Follower,
    batch: Batch,
    *,
    without_parked: bool = False,
    into_empty: bool = False,
    seconds: float | None = None,
) -> Batch:
    """Let a follower's declared fields and handlers process a batch of events.

    Args:
        session: In the transaction that the checkpoint is written in.
        follower: The follower.
        batch: The events.
        without_parked: Whether some of them may belong to parked streams, and are to be left out.
        into_empty: Whether the read model has no rows yet.
        seconds: After how long to leave the rest of the batch, where events are given to handlers one by one; None for never.

    Returns:
        The part of the batch that was processed: all of it, or up to the event at which the time was over.

    Raises:
        ReadModelError: A handler raised, or the database refused a row. Roll back.
        SubscriptionError: The function of a subscription raised. Roll back.
        EventDecodeError: A payload does not fit its class. Roll back.
        UnknownEventTypeError: No class declares an event's type. Roll back.
    """
    if not batch.count:
        return batch
    streams = follower.streams(without_parked=without_parked)
    connection = session.connection(bind_arguments=follower.consumer.bind_arguments)
    left = _process(
        session,
        follower.consumer,
        read=lambda: read_batch(connection, follower, batch, streams),
        write=lambda: _write(connection, follower, batch, streams, into_empty=into_empty),
        until=None if seconds is None else time.monotonic() + seconds,
    )
    if not left:
        return batch
    # Nothing lies between the last event that was processed and the first that was not, except for parked ones, left out anyway.
    return replace(batch, upto=left[0].position - 1, count=batch.count - len({each.position for each in left}))


def process_stored(session: Session, consumer: Consumer, event_ids: Sequence[UUID]) -> None:
    """Let a consumer process some stored events, given in the order of their positions. Errors as for :func:`process_batch`."""
    events = consumer.tables.events
    connection = session.connection(bind_arguments=consumer.bind_arguments)

    def read(*conditions: ColumnElement[bool]) -> list[RecordedEvent[Any]]:
        return read_events(connection, events, [events.c.event_id.in_(ids), *conditions], reading=consumer.personal_data)

    def write() -> None:
        definition = cast("ReadModelDefinition", consumer)
        outdated = read(is_outdated(definition, events))
        parameters = {"event_ids": "{" + ",".join(map(str, ids)) + "}", "upcasted": events_as_rows(definition, outdated)}
        write_statements(definition, "stored ids", with_upcasted=bool(outdated)).execute(connection, parameters)

    for start in range(0, len(event_ids), _STORED_BATCH):
        ids = event_ids[start : start + _STORED_BATCH]
        _process(session, consumer, read=read, write=write)


def _process(
    session: Session,
    consumer: Consumer,
    *,
    read: Callable[[], list[RecordedEvent[Any]]],
    write: Callable[[], None],
    until: float | None = None,
) -> Sequence[RecordedEvent[Any]]:
    """Let declared fields and handlers process events; *read* gets them, *write* is the set-based way on PostgreSQL.

    Returns:
        The events that are left, as the time was over before their handlers were called.
    """
    connection = session.connection(bind_arguments=consumer.bind_arguments)
    is_folded = isinstance(consumer, ReadModelDefinition) and consumer.is_folded(connection.dialect)
    events = read() if consumer.handlers or is_folded else []
    left: Sequence[RecordedEvent[Any]] = ()
    try:
        if isinstance(consumer, ReadModelDefinition) and consumer.events and consumer.handlers:
            apply_in_order(session, connection, consumer, events)
        elif isinstance(consumer, ReadModelDefinition) and consumer.events:
            if is_folded:
                apply_events(connection, consumer, events)
            else:
                write()
        else:
            left = _call_handlers(session, consumer, events, until)
        _flush(session, consumer, events)
    except DBAPIError as error:
        if not is_refusal(error):
            raise
        raise consumer.refused(events, error) from error
    return left


def _flush(session: Session, consumer: Consumer, events: Sequence[RecordedEvent[Any]]) -> None:
    """Write what handlers have left to be flushed; what they could have been refused before is theirs now, as a lost race is."""
    try:
        with handling(session):
            session.flush()
    except Exception as error:
        if meaning_of(error) is not None:
            raise
        raise consumer.refused(events, error) from error


def _call_handlers(
    session: Session, consumer: Consumer, events: Sequence[RecordedEvent[Any]], until: float | None
) -> Sequence[RecordedEvent[Any]]:
    """Give events to their handlers one by one, the first in any case; return those for which there was no time.

    Events that are stored as one are not parted.
    """
    for number, event in enumerate(events, 1):
        consumer.call_handler(event, session)
        is_whole = number == len(events) or events[number].position != event.position
        if until is not None and is_whole and time.monotonic() >= until:
            return events[number:]
    return ()


def _write(connection: Connection, follower: Follower, batch: Batch, streams: Streams, *, into_empty: bool) -> None:
    definition = cast("ReadModelDefinition", follower.consumer)
    parameters = batch.parameters
    if batch.outdated:
        parameters["upcasted"] = events_as_rows(
            definition, read_batch(connection, follower, batch, streams, is_outdated(definition, follower.tables.events))
        )
    statements = write_statements(
        definition,
        "window from the start" if batch.since is None else "window",
        streams=streams,
        with_upcasted=batch.outdated > 0,
        into_empty=into_empty,
    )
    statements.execute(connection, parameters)
