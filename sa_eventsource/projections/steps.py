"""One step of a follower: a batch of events and the checkpoint in one transaction, so that each event counts once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from sa_eventsource.arguments import whole_number
from sa_eventsource.checkpoints import STOPPED, check_cluster, lock_checkpoint, next_batch, save_checkpoint
from sa_eventsource.consumers import followers_of
from sa_eventsource.exceptions import (
    EventDecodeError,
    ReadModelChangedError,
    ReadModelError,
    SubscriptionError,
    UnknownEventTypeError,
)
from sa_eventsource.observation import observed
from sa_eventsource.projections.parking import has_parked, put_aside
from sa_eventsource.projections.processing import take
from sa_eventsource.projections.transaction import begin

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import Batch, Checkpoint
    from sa_eventsource.consumers import Consumer, Follower

Outcome: TypeAlias = Literal["taken", "idle", "busy", "failed", "waiting", "stopped"]
"""Events were taken, and there may be more; there are no more; another transaction works on the follower; an event of the batch
cannot be taken; it is to be tried again later; the follower has stopped there."""

BAD_EVENT = (ReadModelError, SubscriptionError, EventDecodeError, UnknownEventTypeError)
"""What is raised for events that cannot be taken."""

_IDLE_TRANSACTIONS = 1_000
"""After how many transactions of others a checkpoint is written although there was nothing to take."""


@dataclass(frozen=True, slots=True)
class Step:
    """What came of a step.

    Attributes:
        outcome: See :data:`Outcome`.
        events: How many events were taken, or how many there are in the batch that failed.
        retry_at: When to try again, where it waits.
        error: What was raised, where it failed.
    """

    outcome: Outcome
    events: int = 0
    retry_at: datetime | None = None
    error: Exception | None = None


class _BatchError(Exception):
    """A batch that cannot be taken, with how many events it has."""

    def __init__(self, error: Exception, events: int) -> None:
        self.error = error
        self.events = events


def take_step(session: Session, follower: Follower, limit: int | None, *, wait: bool = True, heed_failures: bool = False) -> Step:
    """Let a follower take the next batch of events, and commit it together with the checkpoint.

    Args:
        session: A session without a transaction in progress.
        follower: The follower.
        limit: Events in the transaction, at most; None for what suits the consumer.
        wait: Whether to wait for another transaction that works on the follower.
        heed_failures: Whether an event that failed is left alone until its time has come, what stopped stays so, and an event that
            cannot be taken is told, not raised.

    Raises:
        ReadModelChangedError: The rows were made under another declaration.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
        ReadModelError, SubscriptionError, EventDecodeError, UnknownEventTypeError: An event cannot be taken. All is rolled back.
    """
    with observed("catch_up", follower.name) as observation:
        done, refused = _committed(session, follower, limit, wait=wait, heed_failures=heed_failures)
        observation.events = done.events if done.outcome in ("taken", "idle") else 0
    if refused is not None and not heed_failures:
        raise refused.error
    return done


def _committed(
    session: Session, follower: Follower, limit: int | None, *, wait: bool, heed_failures: bool
) -> tuple[Step, _BatchError | None]:
    refused: _BatchError | None = None
    try:
        connection = begin(session, follower.consumer)
        checkpoint = lock_checkpoint(connection, follower, wait=wait)
        done = Step("busy") if checkpoint is None else _step(session, follower, checkpoint, limit, heed_failures=heed_failures)
        session.commit()
    except _BatchError as error:
        session.rollback()
        done, refused = Step("failed", error.events, error=error.error), error
    except BaseException:
        session.rollback()
        raise
    session.expunge_all()
    return done, refused


def _step(session: Session, follower: Follower, checkpoint: Checkpoint, limit: int | None, *, heed_failures: bool) -> Step:
    check_declaration(follower.consumer, checkpoint)
    connection = session.connection(bind_arguments=follower.consumer.bind_arguments)
    checkpoint = check_cluster(connection, follower, checkpoint)
    size = limit or follower.consumer.batch_size
    if heed_failures and checkpoint.failed_position is not None:
        ahead = next_batch(connection, follower, checkpoint, size, before=checkpoint.failed_position)
        if ahead.count:
            _take(session, follower, ahead)
            save_checkpoint(connection, follower, replace(checkpoint, until=ahead.until, position=ahead.upto))
            return Step("taken", ahead.count)
        if checkpoint.status == STOPPED:
            return Step("stopped")
        if checkpoint.retry_at is not None and checkpoint.retry_at > datetime.now(UTC):
            return Step("waiting", retry_at=checkpoint.retry_at)
        size = 1
    if checkpoint.declaration is None and follower.consumer.starts_now:
        begin_now(connection, follower, checkpoint)
        return Step("idle")
    batch = next_batch(connection, follower, checkpoint, size)
    _take(session, follower, batch)
    is_last = batch.count < size
    if batch.count or _is_worth_saving(checkpoint, batch):
        save_checkpoint(connection, follower, after(follower.consumer, checkpoint, batch, is_last=is_last))
    # The end of a window that an earlier step opened is not the end of the log.
    return Step("idle" if is_last and checkpoint.until is None else "taken", batch.count)


def _take(session: Session, follower: Follower, batch: Batch) -> None:
    connection = session.connection(bind_arguments=follower.consumer.bind_arguments)
    parks = bool(batch.count) and has_parked(connection, follower.consumer)
    if parks:
        put_aside(connection, follower, batch)
    try:
        take(session, follower, batch, without_parked=parks)
    except BAD_EVENT as error:
        raise _BatchError(error, batch.count) from error


def skip_failed(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> None:
    """Pass over the event that a follower has failed at. All before it must have been taken."""
    failed = next_batch(connection, follower, checkpoint, 1)
    save_checkpoint(connection, follower, after(follower.consumer, checkpoint, failed, is_last=False))


def begin_now(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> None:
    """Pass over all that is in the log."""
    everything = next_batch(connection, follower, checkpoint, None)
    save_checkpoint(connection, follower, after(follower.consumer, checkpoint, everything, is_last=True))


def after(consumer: Consumer, checkpoint: Checkpoint, batch: Batch, *, is_last: bool) -> Checkpoint:
    """How far a consumer has come with a batch; with the last of a window, the window is done."""
    return replace(
        checkpoint.without_failure(),
        since=batch.until if is_last else batch.since,
        until=None if is_last else batch.until,
        position=batch.upto,
        declaration=consumer.fingerprint,
    )


def _is_worth_saving(checkpoint: Checkpoint, batch: Batch) -> bool:
    """Tell whether to write a checkpoint with which nothing was taken.

    The first one is; so is the end of a window, and the end of a failure. Otherwise only what has grown old: each poll of a quiet
    log would write a row.
    """
    if checkpoint.declaration is None or checkpoint.until is not None or checkpoint.error is not None:
        return True
    if checkpoint.since is None or batch.until is None:
        return False
    return _end(batch.until) - _end(checkpoint.since) > _IDLE_TRANSACTIONS


def _end(snapshot: str) -> int:
    return int(snapshot.split(":")[1])


def check_declaration(consumer: Consumer, checkpoint: Checkpoint) -> None:
    """Check that what was done so far was done under the present declaration.

    Raises:
        ReadModelChangedError: It was not.
    """
    if checkpoint.declaration is not None and checkpoint.declaration != consumer.fingerprint:
        raise ReadModelChangedError(consumer.name)


def catch_up(session: Session, consumer: Consumer, *, batch_size: int | None = None) -> int:
    """Let a consumer take all events that it has not taken yet and that are visible when it is done with the others.

    Each batch is a transaction of its own: it commits what was done together with the checkpoint, or neither. An event that failed
    before is tried again at once; with it, a consumer that has stopped goes on.

    Args:
        session: A session without a transaction in progress.
        consumer: The read model, an eventual one, or the subscription.
        batch_size: Events in a transaction; None for what suits the consumer.

    Returns:
        The number of events taken.

    Raises:
        ReadModelError: A handler raised, or the database refused a row. The batch is rolled back; earlier ones stay.
        SubscriptionError: The function of a subscription raised, likewise.
        ReadModelChangedError: The rows were made under another declaration.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
    """
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size, minimum=1, meaning="how many events to take at a time, 1 or more")
    total = 0
    for follower in followers_of(consumer, session.get_bind(**consumer.bind_arguments).dialect):
        step = take_step(session, follower, batch_size)
        total += step.events
        while step.outcome == "taken":
            step = take_step(session, follower, batch_size)
            total += step.events
    return total
