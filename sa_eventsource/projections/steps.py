"""One step of a follower: a batch of events and the checkpoint in one transaction, so that each event counts once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from sqlalchemy.exc import DBAPIError

from sa_eventsource.arguments import whole_number
from sa_eventsource.checkpoints import (
    STOPPED,
    Snapshot,
    begin,
    check_cluster,
    lock_checkpoint,
    lock_if_free,
    next_batch,
    save_checkpoint,
)
from sa_eventsource.consumers import Relay, followers_of
from sa_eventsource.exceptions import (
    DeliveryDelayedError,
    EventDecodeError,
    ReadModelError,
    SubscriptionError,
    UnknownEventTypeError,
)
from sa_eventsource.observation import observed
from sa_eventsource.projections.parking import has_parked, park_behind_others
from sa_eventsource.projections.processing import process_batch
from sa_eventsource.projections.relaying import refuse_other_shards, relay_batch
from sa_eventsource.projections.transaction import following
from sa_eventsource.store import Meaning, is_refusal, is_schema_mismatch, meaning_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import Batch, Checkpoint
    from sa_eventsource.consumers import Consumer, Follower

Outcome: TypeAlias = Literal["taken", "idle", "busy", "failed", "waiting", "stopped"]
"""Events were taken, and there may be more; there are no more; another transaction works on the follower; an event of the batch
cannot be taken; the batch, or the event that failed, is to be tried again later; the follower has stopped there."""

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
        position: How far the follower has come, where there is no more to take.
        retry_at: When to try an event again that failed.
        error: What was raised, where it failed, or waits for something else than an event's time.
        tried_from: The checkpoint that the step began with, where it failed.
    """

    outcome: Outcome
    events: int = 0
    position: int = 0
    retry_at: datetime | None = None
    error: Exception | None = None
    tried_from: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a step is about to do.

    Attributes:
        begun: The checkpoint that it begins with.
        batch: The events to take; None for none.
        reached: The checkpoint to write with them; None where it is not worth a write.
        step: What comes of it if all goes well.
    """

    begun: Checkpoint
    batch: Batch | None
    reached: Checkpoint | None
    step: Step


def take_step(session: Session, follower: Follower, limit: int | None) -> Step:
    """Let a follower take the next batch of events, and commit it together with the checkpoint.

    Waits for another transaction that works on the follower. An event that failed before is tried again at once.

    Args:
        session: A session without a transaction in progress.
        follower: The follower.
        limit: Events in the transaction, at most; None for what suits the consumer.

    Returns:
        What came of it: ``"taken"`` or ``"idle"``.

    Raises:
        ReadModelChangedError: The rows were made under another declaration.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
        ReadModelError, SubscriptionError, EventDecodeError, UnknownEventTypeError: An event cannot be taken. All is rolled back.
        DeliveryDelayedError: A broker cannot take the first event now. All is rolled back.
    """
    plan: _Plan | None = None
    try:
        with observed("catch_up", follower.name) as observation, following(session, follower.consumer) as connection:
            checkpoint = checked(connection, follower, lock_checkpoint(connection, follower))
            plan = _next(connection, follower, checkpoint, limit or follower.consumer.batch_size)
            _carry_out(session, follower, plan)
            observation.events = plan.step.events
    except DBAPIError as error:
        if plan is None or not is_refusal(error):
            raise
        raise follower.consumer.refused([], error) from error  # by the commit, which checks deferred constraints
    _committed(follower, plan)
    return plan.step


def attempt_step(  # noqa: PLR0913 - who, how much, and three limits
    session: Session,
    follower: Follower,
    limit: int | None,
    *,
    lock_wait: float,
    longest_idle: float | None = None,
    seconds: float | None = None,
) -> Step:
    """Let a follower take the next batch of events as :func:`take_step` does, unless something stands in the way.

    An event that failed is left alone until its time has come, and what has stopped stays so. Where another transaction works on
    the follower, the outcome is ``"busy"``. What is wrong with an event, or stands in the way of this follower, is returned.

    Args:
        session: A session without a transaction in progress.
        follower: The follower.
        limit: Events in the transaction, at most; None for what suits the consumer.
        lock_wait: Seconds to wait for a lock, at most, where the connection has no ``lock_timeout`` of its own.
        longest_idle: Seconds for which the transaction may stand idle, as for :func:`following`.
        seconds: After how long to leave the rest of a batch, where events are given to handlers one by one; None for never.

    Raises:
        ReadModelChangedError: The rows were made under another declaration.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
        DBAPIError: The database cannot be reached, or the library's own tables are not there.
    """
    plan: _Plan | Step | None = None
    locked: Checkpoint | None = None
    try:
        with (
            observed("catch_up", follower.name) as observation,
            following(session, follower.consumer, lock_wait=lock_wait, longest_idle=longest_idle) as connection,
        ):
            locked = lock_if_free(connection, follower)
            if locked is None:
                return Step("busy")
            checkpoint = checked(connection, follower, locked)
            plan = _after_failure(connection, follower, checkpoint, limit or follower.consumer.batch_size)
            if isinstance(plan, Step):
                return plan
            step = _carry_out(session, follower, plan, seconds=seconds)
            observation.events = step.events
    except BAD_EVENT as error:
        return Step("failed", _events(plan), error=error, tried_from=locked)
    except (DBAPIError, DeliveryDelayedError) as error:
        if isinstance(plan, _Plan) and is_refusal(error):
            refused = follower.consumer.refused([], error)
            refused.__cause__ = error
            return Step("failed", _events(plan), error=refused, tried_from=locked)
        if meaning_of(error) in (Meaning.SERVER_AWAY, Meaning.GIVE_UP) or is_schema_mismatch(error):
            raise
        return Step("waiting", error=error)
    _committed(follower, plan)
    return step


def _committed(follower: Follower, plan: _Plan) -> None:
    if isinstance(follower.consumer, Relay):
        follower.consumer.committed(follower.name, plan.begun.progress)


def _events(plan: _Plan | Step | None) -> int:
    return plan.step.events if isinstance(plan, _Plan) else 0


def take_before_failure(session: Session, follower: Follower) -> int:
    """Let a follower take a batch of the events that lie before the one it failed at; return how many there were.

    Raises:
        ReadModelError, SubscriptionError, EventDecodeError, UnknownEventTypeError: One cannot be taken. All is rolled back.
    """
    with following(session, follower.consumer) as connection:
        checkpoint = checked(connection, follower, lock_checkpoint(connection, follower))
        plan = _before_failure(connection, follower, checkpoint, follower.consumer.batch_size)
        if plan is not None:
            _carry_out(session, follower, plan)
    if plan is not None:
        _committed(follower, plan)
    return _events(plan)


def checked(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> Checkpoint:
    """Check that a checkpoint is of the present declaration and of this cluster; give it as it is then.

    Raises:
        ReadModelChangedError: What was done so far was done under another declaration.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
    """
    check_declaration(follower.consumer, checkpoint)
    return check_cluster(connection, follower, checkpoint)


def _after_failure(connection: Connection, follower: Follower, checkpoint: Checkpoint, limit: int) -> _Plan | Step:
    """Plan the step of a follower that may have failed at an event: what lies before it comes first, then the event alone."""
    if checkpoint.failed_position is None:
        return _next(connection, follower, checkpoint, limit)
    plan = _before_failure(connection, follower, checkpoint, limit)
    if plan is not None:
        return plan
    if checkpoint.status == STOPPED:
        return Step("stopped")
    if checkpoint.retry_at is not None and checkpoint.retry_at > datetime.now(UTC):
        return Step("waiting", retry_at=checkpoint.retry_at)
    return _next(connection, follower, checkpoint, 1)


def _before_failure(connection: Connection, follower: Follower, checkpoint: Checkpoint, limit: int) -> _Plan | None:
    """Plan to take what lies before the event that a follower failed at; None if there is nothing."""
    if checkpoint.failed_position is None:
        return None
    batch = next_batch(connection, follower, checkpoint, limit, before=checkpoint.failed_position)
    if not batch.count:
        return None
    return _Plan(checkpoint, batch, replace(checkpoint, until=batch.until, position=batch.upto), Step("taken", batch.count))


def _next(connection: Connection, follower: Follower, checkpoint: Checkpoint, limit: int) -> _Plan:
    """Plan to take the next events, or, for a consumer that does not begin with the log, to begin."""
    if checkpoint.declaration is None and isinstance(follower.consumer, Relay):
        refuse_other_shards(connection, follower)
    if checkpoint.declaration is None and follower.consumer.begins != "beginning":
        begun = begin(connection, follower, checkpoint, follower.consumer.begins)
        return _Plan(checkpoint, None, begun, Step("idle" if begun is None else "taken"))
    batch = next_batch(connection, follower, checkpoint, limit)
    is_last = batch.count < limit
    is_saved = batch.count or is_worth_saving(checkpoint, batch)
    reached = after(follower.consumer, checkpoint, batch, is_last=is_last) if is_saved else None
    # The end of a window that an earlier step opened is not the end of the log.
    outcome: Outcome = "idle" if is_last and checkpoint.until is None else "taken"
    return _Plan(checkpoint, batch, reached, Step(outcome, batch.count, (reached or checkpoint).position))


def _carry_out(session: Session, follower: Follower, plan: _Plan, *, seconds: float | None = None) -> Step:
    connection = session.connection(bind_arguments=follower.consumer.bind_arguments)
    if plan.batch is not None and plan.batch.count:
        has_others_parked = has_parked(connection, follower.consumer)
        if has_others_parked:
            park_behind_others(connection, follower, plan.batch)
        consumer = follower.consumer
        if isinstance(consumer, Relay):
            done = relay_batch(connection, follower, consumer, plan.batch, plan.begun, without_parked=has_others_parked)
        else:
            done = process_batch(session, follower, plan.batch, without_parked=has_others_parked, seconds=seconds)
        if done is not plan.batch:
            plan = _cut(plan, done)
    if plan.reached is not None:
        save_checkpoint(connection, follower, plan.reached)
    return plan.step


def _cut(plan: _Plan, done: Batch) -> _Plan:
    """End a step in the middle of its batch, with which the window goes on."""
    reached = plan.reached and replace(plan.reached, since=done.since, until=done.until, position=done.upto)
    return replace(plan, batch=done, reached=reached, step=Step("taken", done.count))


def skip_failed(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> None:
    """Pass over the event that a follower has failed at. All before it must have been taken."""
    failed = next_batch(connection, follower, checkpoint, 1)
    save_checkpoint(connection, follower, after(follower.consumer, checkpoint, failed, is_last=False))


def after(consumer: Consumer, checkpoint: Checkpoint, batch: Batch, *, is_last: bool) -> Checkpoint:
    """Work out how far a consumer has come with a batch; with the last of a window, the window is done."""
    return replace(
        checkpoint.without_failure(),
        since=batch.until if is_last else batch.since,
        until=None if is_last else batch.until,
        # Between two windows it tells people only: a window that is empty, or has late events alone, does not set it back.
        position=max(checkpoint.position, batch.upto) if is_last else batch.upto,
        declaration=consumer.fingerprint,
    )


def is_worth_saving(checkpoint: Checkpoint, batch: Batch) -> bool:
    """Check whether to write a checkpoint with which nothing was taken.

    The first one is; so is the end of a window, and the end of a failure. Otherwise only what has grown old: each poll of a quiet
    log would write a row.
    """
    if checkpoint.declaration is None or checkpoint.until is not None or checkpoint.error is not None:
        return True
    if checkpoint.since is None or batch.until is None:
        return False
    return Snapshot.parse(batch.until).xmax - Snapshot.parse(checkpoint.since).xmax > _IDLE_TRANSACTIONS


def check_declaration(consumer: Consumer, checkpoint: Checkpoint) -> None:
    """Check that what was done so far was done under the present declaration.

    Raises:
        ReadModelChangedError: It was not.
        DeclarationError: It was not, and the consumer is a subscription or a reader: the name is another's.
    """
    if checkpoint.declaration is not None and checkpoint.declaration != consumer.fingerprint:
        raise consumer.changed()


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
        DeliveryDelayedError: A broker cannot take messages now. Earlier batches stay.
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
