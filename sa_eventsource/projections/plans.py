"""What a follower does next: which events it takes, and where its checkpoint is then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from sa_eventsource.checkpoints import STOPPED, Snapshot, begin, check_cluster, next_batch
from sa_eventsource.projections.other_shards import refuse_other_shards

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sa_eventsource.checkpoints import Batch, Checkpoint
    from sa_eventsource.consumers import Consumer, Follower

Outcome: TypeAlias = Literal["taken", "idle", "busy", "failed", "waiting", "stopped"]
"""Events were taken, and there may be more; there are no more; another transaction works on the follower; an event of the batch
cannot be taken; the batch, or the event that failed, is to be tried again later; the follower has stopped there."""

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
        failed_at: The position of the event, where it failed alone. What becomes visible later may lie before it.
    """

    outcome: Outcome
    events: int = 0
    position: int = 0
    retry_at: datetime | None = None
    error: Exception | None = None
    tried_from: Checkpoint | None = None
    failed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
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

    @property
    def only_position(self) -> int | None:
        """The position of its event, if it is to take a single one."""
        return self.batch.upto if self.batch is not None and self.batch.count == 1 else None


def checked(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> Checkpoint:
    """Check that a checkpoint is of the present declaration and of this cluster; give it as it is then.

    Raises:
        ReadModelChangedError: What was done so far was done under another declaration.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
    """
    check_declaration(follower.consumer, checkpoint)
    return check_cluster(connection, follower, checkpoint)


def check_declaration(consumer: Consumer, checkpoint: Checkpoint) -> None:
    """Check that what was done so far was done under the present declaration.

    Raises:
        ReadModelChangedError: It was not.
        DeclarationError: It was not, and the consumer is a subscription or a reader: the name is another's.
    """
    if checkpoint.declaration is not None and checkpoint.declaration != consumer.fingerprint:
        raise consumer.changed()


def after_failure(connection: Connection, follower: Follower, checkpoint: Checkpoint, limit: int) -> Plan | Step:
    """Plan the step of a follower that may have failed at an event: what lies before it comes first, then the event alone."""
    if checkpoint.failed_position is None:
        return plan_next(connection, follower, checkpoint, limit)
    plan = before_failure(connection, follower, checkpoint, limit)
    if plan is not None:
        return plan
    if checkpoint.status == STOPPED:
        return Step("stopped")
    if checkpoint.retry_at is not None and checkpoint.retry_at > datetime.now(UTC):
        return Step("waiting", retry_at=checkpoint.retry_at)
    return plan_next(connection, follower, checkpoint, 1)


def before_failure(connection: Connection, follower: Follower, checkpoint: Checkpoint, limit: int) -> Plan | None:
    """Plan to take what lies before the event that a follower failed at; None if there is nothing."""
    if checkpoint.failed_position is None:
        return None
    batch = next_batch(connection, follower, checkpoint, limit, before=checkpoint.failed_position)
    if not batch.count:
        return None
    return Plan(checkpoint, batch, replace(checkpoint, until=batch.until, position=batch.upto), Step("taken", batch.count))


def plan_next(connection: Connection, follower: Follower, checkpoint: Checkpoint, limit: int) -> Plan:
    """Plan to take the next events, or, for a consumer that does not begin with the log, to begin."""
    if checkpoint.declaration is None:
        refuse_other_shards(connection, follower.consumer)
    if checkpoint.declaration is None and follower.consumer.begins != "beginning":
        begun = begin(connection, follower, checkpoint, follower.consumer.begins)
        return Plan(checkpoint, None, begun, Step("idle" if begun is None else "taken"))
    batch = next_batch(connection, follower, checkpoint, limit)
    is_last = batch.count < limit
    is_saved = batch.count or is_worth_saving(checkpoint, batch)
    reached = after(follower.consumer, checkpoint, batch, is_last=is_last) if is_saved else None
    # The end of a window that an earlier step opened is not the end of the log.
    outcome: Outcome = "idle" if is_last and checkpoint.until is None else "taken"
    return Plan(checkpoint, batch, reached, Step(outcome, batch.count, (reached or checkpoint).position))


def cut_short(plan: Plan, done: Batch) -> Plan:
    """End a step in the middle of its batch, with which the window goes on."""
    reached = plan.reached and replace(plan.reached, since=done.since, until=done.until, position=done.upto)
    return replace(plan, batch=done, reached=reached, step=Step("taken", done.count))


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
