"""What to do about parked events, and about consumers that have stopped: list, retry, drop, resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, update

from sa_eventsource.checkpoints import WAITING, lock_checkpoint, save_checkpoint
from sa_eventsource.consumers import Relay, followers_of
from sa_eventsource.projections.failures import culprit, error_text
from sa_eventsource.projections.processing import process_stored
from sa_eventsource.projections.relaying import relay_stored
from sa_eventsource.projections.steps import BAD_EVENT, skip_failed, take_before_failure
from sa_eventsource.projections.transaction import following, reading

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Consumer, Follower


@dataclass(frozen=True, slots=True)
class ParkedStream:
    """A stream of which a consumer has parked events.

    Attributes:
        name: The consumer: a read model or a subscription.
        aggregate_type: The stream's aggregate type.
        aggregate_id: The stream's id.
        event_id: The event that could not be taken.
        position: Its position.
        events: How many are parked: this one, and those after it.
        error: What went wrong, with the traceback.
        parked_at: When it was parked, in UTC.
        attempts: How often the event was tried, retries in vain included; None where nobody counted, as for a publisher.
    """

    name: str
    aggregate_type: str
    aggregate_id: str
    event_id: UUID
    position: int
    events: int
    error: str | None
    parked_at: datetime
    attempts: int | None


def parked_streams(
    session: Session, consumer: Consumer, *, aggregate_type: str | None = None, aggregate_id: str | None = None
) -> list[ParkedStream]:
    """List the streams that a consumer has parked, the longest waiting first.

    Args:
        session: A session without a transaction in progress.
        consumer: The consumer.
        aggregate_type: Only streams of this type; None for all.
        aggregate_id: Only streams of this id; None for all. With both, an index leads to the one that they name.
    """
    parked = consumer.tables.parked_events
    wanted = [parked.c.projection_name == consumer.name]
    if aggregate_type is not None:
        wanted.append(parked.c.aggregate_type == aggregate_type)
    if aggregate_id is not None:
        wanted.append(parked.c.aggregate_id == aggregate_id)
    counted = (
        select(func.min(parked.c.position).label("first"), func.count().label("number"))
        .where(*wanted)
        .group_by(parked.c.aggregate_type, parked.c.aggregate_id)
        .subquery()
    )
    statement = (
        select(
            parked.c.projection_name,
            parked.c.aggregate_type,
            parked.c.aggregate_id,
            parked.c.event_id,
            parked.c.position,
            counted.c.number,
            parked.c.error,
            parked.c.parked_at,
            parked.c.attempts,
        )
        .join(counted, counted.c.first == parked.c.position)
        .where(*wanted)
        .order_by(parked.c.position)
    )
    with reading(session, consumer) as connection:
        return [ParkedStream(*row) for row in connection.execute(statement)]


def retry_stream(session: Session, consumer: Consumer, stream: ParkedStream) -> int:
    """Let a consumer take what it has parked of a stream, in order and in one transaction; then the stream goes on.

    Args:
        session: A session without a transaction in progress.
        consumer: The consumer.
        stream: The stream.

    Returns:
        The number of events taken.

    Raises:
        ReadModelError, SubscriptionError, EventDecodeError, UnknownEventTypeError: One cannot be taken yet. All stay parked; of a
            publisher, only those that the broker has not confirmed.
        DeliveryDelayedError: The broker cannot take messages now, likewise.
    """
    parked = consumer.tables.parked_events
    if isinstance(consumer, Relay):
        return _retry_delivery(session, consumer, stream)
    try:
        with following(session, consumer) as connection:
            _lock_all(connection, consumer)
            of_stream = select(parked.c.event_id).where(*_of_stream(consumer, stream))
            ids = list(connection.scalars(of_stream.order_by(parked.c.position)))
            connection.execute(delete(parked).where(*_of_stream(consumer, stream)))
            process_stored(session, consumer, ids)
    except BAD_EVENT as error:
        _tried_in_vain(session, consumer, stream, error)
        raise
    return len(ids)


def _tried_in_vain(session: Session, consumer: Consumer, stream: ParkedStream, error: Exception) -> None:
    """Count one more attempt at the event that a stream waits behind, and keep what went wrong if it did with this event."""
    parked = consumer.tables.parked_events
    reason = {parked.c.error: error_text(error)} if culprit(error) == stream.event_id else {}
    with following(session, consumer) as connection:
        of_event = (*_of_stream(consumer, stream), parked.c.event_id == stream.event_id)
        connection.execute(update(parked).where(*of_event).values({parked.c.attempts: parked.c.attempts + 1, **reason}))


def _retry_delivery(session: Session, relay: Relay, stream: ParkedStream) -> int:
    """Do the same for a relay: what was confirmed is parked no longer, even where what comes behind is not confirmed."""
    parked = relay.tables.parked_events
    with following(session, relay) as connection:
        _lock_all(connection, relay)
        ids = list(connection.scalars(select(parked.c.event_id).where(*_of_stream(relay, stream)).order_by(parked.c.position)))
        taken, error = relay_stored(connection, relay, ids)
        connection.execute(delete(parked).where(*_of_stream(relay, stream), parked.c.event_id.in_(taken)))
        if error is not None:
            failed = update(parked).where(*_of_stream(relay, stream), parked.c.event_id == ids[len(taken)])
            connection.execute(failed.values(error=error_text(error)))
    if error is not None:
        raise error
    return len(taken)


def drop_stream(session: Session, consumer: Consumer, stream: ParkedStream) -> int:
    """Forget what a consumer has parked of a stream: it never takes those events, but the later ones of the stream.

    Returns:
        The number of events forgotten.
    """
    with following(session, consumer) as connection:
        _lock_all(connection, consumer)
        statement = delete(consumer.tables.parked_events).where(*_of_stream(consumer, stream))
        return connection.execute(statement).rowcount


def resume(session: Session, consumer: Consumer, *, skip: bool = False) -> bool:
    """Have a consumer that stopped at an event go on.

    Args:
        session: A session without a transaction in progress.
        consumer: The consumer.
        skip: Whether to leave the event out for ever, instead of trying it again. It then counts as taken.

    Returns:
        Whether it had stopped, or was waiting to try again.

    Raises:
        ReadModelError, SubscriptionError, EventDecodeError, UnknownEventTypeError: With *skip*, an event that lies before it
            cannot be taken either. Nothing is left out.
    """
    followers = followers_of(consumer, session.get_bind(**consumer.bind_arguments).dialect)
    had_failed = [_resume(session, follower, skip=skip) for follower in followers]
    return any(had_failed)


def _resume(session: Session, follower: Follower, *, skip: bool) -> bool:
    """Have one follower go on; return whether it had stopped, or was waiting to try again."""
    while True:
        while skip and take_before_failure(session, follower):
            pass
        with following(session, follower.consumer) as connection:
            checkpoint = lock_checkpoint(connection, follower)
            if checkpoint.failed_position is None and checkpoint.status != WAITING:
                return False
            if not skip or checkpoint.failed_position is None:
                save_checkpoint(connection, follower, checkpoint.without_failure(), made_progress=False)
                return True
            if skip_failed(connection, follower, checkpoint):
                return True


def _lock_all(connection: Connection, consumer: Consumer) -> None:
    for follower in followers_of(consumer, connection.dialect):
        lock_checkpoint(connection, follower)


def _of_stream(consumer: Consumer, stream: ParkedStream) -> list[Any]:
    parked = consumer.tables.parked_events
    return [
        parked.c.projection_name == consumer.name,
        parked.c.aggregate_type == stream.aggregate_type,
        parked.c.aggregate_id == stream.aggregate_id,
    ]
