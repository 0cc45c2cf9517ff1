"""One step of a follower: a batch of events and the checkpoint in one transaction, so that each event counts once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sa_eventsource.application_errors import ends_program
from sa_eventsource.checkpoints import lock_checkpoint, lock_if_free, next_batch, origin_of_batch, save_checkpoint
from sa_eventsource.consumers import Relay
from sa_eventsource.exceptions import (
    DeliveryDelayedError,
    EventDecodeError,
    ReadModelError,
    SubscriptionError,
    UnknownEventTypeError,
)
from sa_eventsource.observation import Origin, is_observed, observed
from sa_eventsource.projections.failures import blamed, culprit
from sa_eventsource.projections.parking import has_parked, park_behind_others
from sa_eventsource.projections.plans import Plan, Step, after, after_failure, before_failure, checked, cut_short, plan_next
from sa_eventsource.projections.processing import process_batch
from sa_eventsource.projections.relaying import relay_batch
from sa_eventsource.projections.transaction import following
from sa_eventsource.store import CANCELED, Meaning, code_of, is_refusal, is_schema_mismatch, meaning_of, named_tenant

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import Checkpoint
    from sa_eventsource.consumers import Follower

BAD_EVENT = (ReadModelError, SubscriptionError, EventDecodeError, UnknownEventTypeError)
"""What is raised for events that cannot be taken."""


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
            Of a single event, the error names it, unless others fail in the same way.
        DeliveryDelayedError: A broker cannot take the first event now. All is rolled back.
    """
    plan: Plan | None = None
    try:
        with observed("catch_up", follower.name) as observation, following(session, follower.consumer) as connection:
            checkpoint = checked(connection, follower, lock_checkpoint(connection, follower))
            plan = plan_next(connection, follower, checkpoint, limit or follower.consumer.batch_size)
            observation.origin = _origin(connection, follower, plan)
            _carry_out(session, follower, plan)
            observation.events = plan.step.events
    except DBAPIError as error:
        if plan is None or not is_refusal(error):
            raise
        refused = _refused(follower, error)  # by the commit, which checks deferred constraints
        raise _named(session, follower, plan, refused) from error
    except (ReadModelError, SubscriptionError) as error:
        raise _named(session, follower, plan, error) from error.__cause__
    _committed(session, follower, plan)
    return plan.step


def _named(session: Session, follower: Follower, plan: Plan | None, error: Exception) -> Exception:
    """Name the event in an error that names none, where the step was to take it alone."""
    if plan is None or plan.only_position is None or culprit(error) is not None:
        return error
    return blamed(session, follower, plan.only_position, error)


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
    plan: Plan | Step | None = None
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
            plan = after_failure(connection, follower, checkpoint, limit or follower.consumer.batch_size)
            if isinstance(plan, Step):
                return plan
            observation.origin = _origin(connection, follower, plan)
            step = _carry_out(session, follower, plan, seconds=seconds)
            observation.events = step.events
    except BaseException as error:
        hindered = _hindered(session, follower, plan, locked, error)
        if hindered is None:
            raise
        return hindered
    _committed(session, follower, plan)
    return step


def _hindered(
    session: Session, follower: Follower, plan: Plan | Step | None, locked: Checkpoint | None, error: BaseException
) -> Step | None:
    """Tell what comes of a step that was not taken; None where the error is not this follower's."""
    if isinstance(error, BAD_EVENT):
        return _failed(plan, locked, error)
    if isinstance(error, DBAPIError | PoolTimeoutError | DeliveryDelayedError):
        # Canceled was a question of the library's own: that of a handler is a bad event's.
        if isinstance(plan, Plan) and is_refusal(error) and code_of(error) != CANCELED:
            return _failed(plan, locked, _refused(follower, error))
        return None if ends_all(error) else Step("waiting", error=error)
    is_awaited = session.get_bind(**follower.consumer.bind_arguments).dialect.is_async
    if not isinstance(plan, Plan) or ends_program(error, awaited=is_awaited):
        return None
    # Such as SystemExit: whatever code of the application raises, it is no end of those who follow alongside it.
    return _failed(plan, locked, _refused(follower, error))


def _refused(follower: Follower, error: BaseException) -> Exception:
    refused = follower.consumer.refused([], error)
    refused.__cause__ = error
    return refused


def ends_all(error: BaseException) -> bool:
    """Check whether an error of the database is everybody's: it is away, or what the library needs of it is not there."""
    return meaning_of(error) in (Meaning.SERVER_AWAY, Meaning.GIVE_UP) or is_schema_mismatch(error)


def _committed(session: Session, follower: Follower, plan: Plan) -> None:
    if isinstance(follower.consumer, Relay):
        tenant = named_tenant(session, follower.consumer.tables.bind_arguments)
        follower.consumer.committed((follower.name, tenant), plan.begun.progress)


def _failed(plan: Plan | Step | None, locked: Checkpoint | None, error: Exception) -> Step:
    position = plan.only_position if isinstance(plan, Plan) else None
    return Step("failed", _events(plan), error=error, tried_from=locked, failed_at=position)


def _events(plan: Plan | Step | None) -> int:
    return plan.step.events if isinstance(plan, Plan) else 0


def take_before_failure(session: Session, follower: Follower) -> int:
    """Let a follower take a batch of the events that lie before the one it failed at; return how many there were.

    Raises:
        ReadModelError, SubscriptionError, EventDecodeError, UnknownEventTypeError: One cannot be taken. All is rolled back.
    """
    with following(session, follower.consumer) as connection:
        checkpoint = checked(connection, follower, lock_checkpoint(connection, follower))
        plan = before_failure(connection, follower, checkpoint, follower.consumer.batch_size)
        if plan is not None:
            _carry_out(session, follower, plan)
    if plan is not None:
        _committed(session, follower, plan)
    return _events(plan)


def _origin(connection: Connection, follower: Follower, plan: Plan) -> Origin:
    """Ask where the events come from, if somebody looks on. It is asked before they are taken, so that a failure has it too."""
    if not is_observed() or plan.batch is None or not plan.batch.count:
        return Origin()
    return origin_of_batch(connection, follower, plan.batch)


def _carry_out(session: Session, follower: Follower, plan: Plan, *, seconds: float | None = None) -> Step:
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
            plan = cut_short(plan, done)
    if plan.reached is not None:
        save_checkpoint(connection, follower, plan.reached)
    return plan.step


def skip_failed(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> bool:
    """Pass over the event that a follower has failed at; return whether that could be done.

    It cannot while there is one before it, which may have been committed in the meantime: that one is to be taken first.
    """
    first = next_batch(connection, follower, checkpoint, 1)
    if first.count and checkpoint.failed_position is not None and first.upto < checkpoint.failed_position:
        return False
    is_next = first.count > 0 and first.upto == checkpoint.failed_position
    reached = after(follower.consumer, checkpoint, first, is_last=False) if is_next else checkpoint.without_failure()
    save_checkpoint(connection, follower, reached, made_progress=is_next)
    return True
