"""Events that a follower cannot take: retried with growing pauses, then the follower stops there, or parks them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

from sqlalchemy import select

from sa_eventsource.application_errors import text_of, traceback_of
from sa_eventsource.checkpoints import (
    RUNNING,
    STOPPED,
    WAITING,
    lock_checkpoint,
    lock_if_free,
    next_batch,
    save_checkpoint,
)
from sa_eventsource.exceptions import (
    EventDecodeError,
    EventSourceError,
    HandlerTransactionError,
    ReadModelError,
    SubscriptionError,
    UnknownEventTypeError,
)
from sa_eventsource.projections.blame import fails_whatever_the_event, with_event
from sa_eventsource.projections.parking import park
from sa_eventsource.projections.transaction import following, reading
from sa_eventsource.store import hide_parameters, message_of

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import Checkpoint
    from sa_eventsource.consumers import Follower

Verdict: TypeAlias = Literal["overtaken", "retrying", "waiting", "parked", "stopped"]
"""Another worker has gone on; the event is tried again; the follower waits, as other events would fail too; the event is parked;
the follower stops."""

_LONGEST_ERROR = 20_000
_LONGEST_PAUSE = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often an event is tried, and when.

    Attributes:
        attempts: How often it is tried, the first time included.
        first_pause: Seconds until the second attempt.
        factor: How much longer each pause is than the one before.
    """

    attempts: int = 5
    first_pause: float = 0.2
    factor: float = 4.0

    def __post_init__(self) -> None:
        """Check the figures.

        Raises:
            ValueError: They make no sense.
        """
        if self.attempts < 1 or self.first_pause < 0 or self.factor < 1:
            raise ValueError(f"{self}: attempts must be 1 or more, first_pause 0 or more, factor 1 or more")

    def pause(self, attempts: int) -> timedelta:
        """How long to wait after so many attempts: a year at most."""
        try:
            seconds = self.first_pause * self.factor ** (attempts - 1)
        except OverflowError:
            return _LONGEST_PAUSE
        return timedelta(seconds=min(seconds, _LONGEST_PAUSE.total_seconds()))


@dataclass(frozen=True, slots=True)
class Failure:
    """What was made of an event that could not be taken.

    Attributes:
        verdict: See :data:`Verdict`.
        error: What was raised, with the event's name where it had none and the event is to blame.
    """

    verdict: Verdict
    error: Exception


def culprit(error: Exception) -> UUID | None:
    """The event that could not be taken; None if it is one of several."""
    match error:
        case ReadModelError() | SubscriptionError():
            return error.event_ids[0] if len(error.event_ids) == 1 else None
        case EventDecodeError() | UnknownEventTypeError():
            return error.event_id
    return None


def record_failure(  # noqa: PLR0913 - what happened, and what to make of it
    session: Session,
    follower: Follower,
    error: Exception,
    policy: RetryPolicy,
    *,
    tried_from: Checkpoint | None,
    failed_at: int | None,
    lock_wait: float,
    longest_idle: float,
) -> Failure:
    """Write down that an event could not be taken, and decide what happens to it; commit.

    After the last attempt, the event is parked or the follower stops there, unless the same error comes without the event: then
    the follower waits, and the event is tried again later. Nothing is written where another worker has taken events since the step
    began, as after this one was frozen, and its connection ended: they are no more to be taken.

    Args:
        session: A session without a transaction in progress.
        follower: The follower.
        error: What was raised.
        tried_from: The checkpoint that the attempt began with.
        failed_at: The position of the event, which the error may not name; None if it does, or for the next one.
        policy: How often the event is tried.
        lock_wait: Seconds to wait for a lock, at most, where the connection has no ``lock_timeout`` of its own.
        longest_idle: Seconds for which the transaction may stand idle.
    """
    with following(session, follower.consumer, lock_wait=lock_wait, longest_idle=longest_idle) as connection:
        checkpoint = lock_checkpoint(connection, follower)
        if tried_from is None or checkpoint.progress != tried_from.progress:
            return Failure("overtaken", error)
        position = _position(connection, follower, checkpoint, error, failed_at)
        attempts = checkpoint.attempts + 1 if checkpoint.failed_position == position else 1
        is_last, is_nameless = attempts >= policy.attempts, culprit(error) is None
        fails_anyway = (is_last or is_nameless) and fails_whatever_the_event(session, follower.consumer, position, error)
        if is_nameless and not fails_anyway:
            error = with_event(connection, follower.consumer, position, error)
        reason = error_text(error)
        outcome = replace(checkpoint, status=RUNNING, failed_position=position, attempts=attempts, error=reason)
        verdict: Verdict
        if not is_last:
            verdict, outcome = "retrying", replace(outcome, retry_at=datetime.now(UTC) + policy.pause(attempts))
        elif fails_anyway:
            verdict, outcome = "waiting", replace(outcome, status=WAITING, retry_at=None)
        elif follower.consumer.on_error == "park" and not isinstance(error.__cause__, HandlerTransactionError):
            park(connection, follower.consumer, position, reason, attempts)
            verdict, outcome = "parked", checkpoint.without_failure()
        else:
            verdict, outcome = "stopped", replace(outcome, status=STOPPED, retry_at=None)
        save_checkpoint(connection, follower, outcome, made_progress=False)
    return Failure(verdict, error)


def blamed(session: Session, follower: Follower, position: int, error: Exception) -> Exception:
    """Name an event in an error that came for it alone, unless the same comes for other events.

    Args:
        session: A session without a transaction in progress. It has none afterwards.
        follower: The follower.
        position: The event's position.
        error: What was raised, and names no event.
    """
    with reading(session, follower.consumer) as connection:
        if fails_whatever_the_event(session, follower.consumer, position, error):
            return error
        return with_event(connection, follower.consumer, position, error)


def record_wait(session: Session, follower: Follower, error: Exception, *, lock_wait: float, longest_idle: float) -> None:
    """Write down that a follower waits, and for what; commit. Leaves it to another transaction that works on the follower.

    Args:
        session: A session without a transaction in progress.
        follower: The follower.
        error: What stands in its way.
        lock_wait: Seconds to wait for a lock, at most, where the connection has no ``lock_timeout`` of its own.
        longest_idle: Seconds for which the transaction may stand idle.
    """
    with following(session, follower.consumer, lock_wait=lock_wait, longest_idle=longest_idle) as connection:
        checkpoint = lock_if_free(connection, follower)
        if checkpoint is not None:
            save_checkpoint(connection, follower, replace(checkpoint, status=WAITING, error=error_text(error)), made_progress=False)


def _position(connection: Connection, follower: Follower, checkpoint: Checkpoint, error: Exception, failed_at: int | None) -> int:
    event_id = culprit(error)
    if event_id is None:
        # Not simply the next one: what was committed in the meantime may lie before it.
        return next_batch(connection, follower, checkpoint, 1).upto if failed_at is None else failed_at
    events = follower.tables.events
    position: int = connection.execute(select(events.c.position).where(events.c.event_id == event_id)).scalar_one()
    return position


def error_text(error: BaseException) -> str:
    """Write an error with its traceback, as every database can store it; the last line says what went wrong.

    Without the parameters of statements, in logs too from now on: they are values of many rows, and would outlive who is forgotten.
    """
    hide_parameters(error)
    text = traceback_of(error)
    summary = f"{type(error).__name__}: {text_of(error)}" if isinstance(error, EventSourceError) else message_of(error)
    summary = " ".join(summary.split())
    if not text.endswith(summary):
        text = f"{text}\n{summary}"
    return text if len(text) <= _LONGEST_ERROR else f"{text[:1000]}\n...\n{text[1000 - _LONGEST_ERROR :]}"
