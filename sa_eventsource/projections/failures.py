"""Events that a follower cannot take: retried with growing pauses, then the follower stops there, or parks them."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sa_eventsource.checkpoints import STOPPED, lock_checkpoint, next_batch, save_checkpoint
from sa_eventsource.exceptions import (
    EventDecodeError,
    HandlerTransactionError,
    ReadModelError,
    SubscriptionError,
    UnknownEventTypeError,
)
from sa_eventsource.projections.parking import park
from sa_eventsource.projections.transaction import following

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import Checkpoint
    from sa_eventsource.consumers import Follower

_LONGEST_ERROR = 20_000


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
        """How long to wait after so many attempts."""
        return timedelta(seconds=self.first_pause * self.factor ** (attempts - 1))


def is_passing(error: BaseException) -> bool:
    """Check whether an error is the database's, and may be gone in a while: a lost connection, a deadlock, a full pool."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    # SQLite's class of errors says little: a missing table is one of them.
    code: str | None = getattr(error.orig, "sqlite_errorname", None) if isinstance(error, OperationalError) else None
    if code is not None:
        return code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR"))
    return isinstance(error, OperationalError | InterfaceError | PoolTimeoutError)


def culprit(error: Exception) -> UUID | None:
    """The event that could not be taken; None if it is one of several."""
    match error:
        case ReadModelError() | SubscriptionError():
            return error.event_ids[0] if len(error.event_ids) == 1 else None
        case EventDecodeError() | UnknownEventTypeError():
            return error.event_id
    return None


def record_failure(session: Session, follower: Follower, error: Exception, policy: RetryPolicy) -> str | None:
    """Write down that an event could not be taken, and decide what becomes of it; commit.

    Args:
        session: A session without a transaction in progress.
        follower: The follower.
        error: What was raised. If it does not name the event, it is the next one.
        policy: How often the event is tried.

    Returns:
        ``"stopped"`` or ``"parked"`` if that was the last attempt; None if it is tried again.
    """
    outcome: str | None = None
    with following(session, follower.consumer) as connection:
        checkpoint = lock_checkpoint(connection, follower)
        position = _position(connection, follower, checkpoint, error)
        attempts = checkpoint.attempts + 1 if checkpoint.failed_position == position else 1
        failed = replace(
            checkpoint,
            failed_position=position,
            attempts=attempts,
            retry_at=datetime.now(UTC) + policy.pause(attempts),
            error=_as_text(error),
        )
        if attempts >= policy.attempts:
            if follower.consumer.on_error == "park" and not isinstance(error.__cause__, HandlerTransactionError):
                park(connection, follower.consumer, position, _as_text(error))
                failed = checkpoint.without_failure()
                outcome = "parked"
            else:
                failed = replace(failed, status=STOPPED, retry_at=None)
                outcome = STOPPED
        save_checkpoint(connection, follower, failed, made_progress=False)
    return outcome


def _position(connection: Connection, follower: Follower, checkpoint: Checkpoint, error: Exception) -> int:
    event_id = culprit(error)
    if event_id is None:
        return next_batch(connection, follower, checkpoint, 1).upto
    events = follower.tables.events
    position: int = connection.execute(select(events.c.position).where(events.c.event_id == event_id)).scalar_one()
    return position


def _as_text(error: Exception) -> str:
    text = "".join(traceback.format_exception(error)).replace("\x00", "\\x00")
    return text if len(text) <= _LONGEST_ERROR else f"{text[:1000]}\n...\n{text[1000 - _LONGEST_ERROR :]}"
