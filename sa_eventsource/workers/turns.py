"""One follower in the hands of a worker: the steps that it takes, and what the worker remembers of it from one to the next."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sa_eventsource.consumers import Subscription
from sa_eventsource.exceptions import DeclarationError, MovedLogError, ReadModelChangedError
from sa_eventsource.projections import RetryPolicy, Step, attempt_step, culprit, ends_all, record_failure, record_wait
from sa_eventsource.store import is_cut_off, loggable, may_be_of_one_statement, message_of, name_in_log

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import NewEvents
    from sa_eventsource.consumers import Follower
    from sa_eventsource.workers.pace import Pace

log = logging.getLogger("sa_eventsource.worker")

_GROWTH = 10
"""By how much a batch grows at most where all goes well, and shrinks to find the event in it that cannot be taken."""
_LEAST_FITTING = 100
"""How many events are tried in a turn, however long the last ones took. A step takes its time for a single event too: where that
is longer than a turn, as on a slow network, smaller batches would never catch up. Where events are given to a function one by one,
the batch ends with the turn by itself."""

_FIRST_PAUSE = 0.1


@dataclass(slots=True, eq=False)
class Turns:
    """The turns of one follower.

    Attributes:
        follower: The follower.
        new_events: What is known of the log that it follows.
        pace: How long to wait.
        retries: How often an event is tried.
        has_one_run: Whether there is no second time, as where cron starts the worker: what it waits for is written down at once.
        seconds: For how long it has worked, to share time and not batches; more where it was idle while others worked.
        taken: How many events it has taken.
        not_before: When it may go on, on the monotonic clock; None if it does not wait.
        hindrance: Why it did not go on at the last turn, where that is no event's time; None if nothing stood in the way.
    """

    follower: Follower
    new_events: NewEvents
    pace: Pace
    retries: RetryPolicy
    has_one_run: bool = False
    seconds: float = 0.0
    taken: int = 0
    not_before: float | None = field(default=None, init=False)
    hindrance: str | None = field(default=None, init=False)
    _limit: int = field(init=False)
    _pause: float = field(default=0.0, init=False)
    _said: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Begin with a small batch: nothing is known yet of how long an event takes."""
        self._limit = min(self.follower.consumer.first_batch_size, self.follower.consumer.batch_size)

    def take(self, session: Session) -> Step:
        """Take a step, and see to what comes of it.

        Args:
            session: A session without a transaction in progress. It has none afterwards.

        Returns:
            The step; ``"taken"`` if there may be more.

        Raises:
            DBAPIError: The database cannot be reached, or the library's own tables are not there.
        """
        begun, self.hindrance = time.monotonic(), None
        try:
            step = self._attempt(session)
            if step.outcome == "failed" and step.error is not None:
                return self._after_failure(session, step, step.error)
            if step.outcome == "waiting" and step.error is not None:
                return self._wait(session, step.error)
        finally:
            took = time.monotonic() - begun
            self.seconds += took
        if step.outcome == "stopped" and self.hindrance is None:
            self.hindrance = "it has stopped at an event that it cannot take"
        self.taken += step.events
        self.not_before = None
        if step.retry_at is not None:
            self.not_before = time.monotonic() + max(0.0, (step.retry_at - datetime.now(UTC)).total_seconds())
        if step.outcome == "idle":
            self.new_events.has_taken_all(self.follower, step.position)
        if step.outcome in ("taken", "idle"):
            self._pause, self._said = 0.0, None
        if step.events:
            self._adapt(step.events, took)
        return step

    def _attempt(self, session: Session) -> Step:
        try:
            return attempt_step(
                session,
                self.follower,
                self._limit,
                lock_wait=self.pace.lock_wait,
                longest_idle=self._longest_idle,
                seconds=self.pace.turn,
            )
        except (ReadModelChangedError, DeclarationError, MovedLogError) as error:
            self._say_once(session, "does not follow", str(error), logging.ERROR)
            return Step("stopped")
        except (DBAPIError, PoolTimeoutError) as error:
            if not may_be_of_one_statement(error) or not self._answers(session):
                raise
            return Step("waiting", error=error)

    def _adapt(self, events: int, took: float) -> None:
        """Choose the size of the next batch: what fits into a turn."""
        fitting = max(int(events * self.pace.turn / max(took, 1e-6)), _LEAST_FITTING)
        self._limit = min(fitting, self._limit * _GROWTH, self.follower.consumer.batch_size)

    @property
    def _longest_idle(self) -> float:
        return self.pace.longest_call if isinstance(self.follower.consumer, Subscription) else self.pace.longest_idle

    def _after_failure(self, session: Session, step: Step, error: Exception) -> Step:
        if culprit(error) is None and step.events > 1:
            self._limit = max(1, step.events // _GROWTH)
            return Step("taken")
        self._limit = 1
        name = name_in_log(self.follower.name, session)
        try:
            failure = record_failure(
                session,
                self.follower,
                error,
                self.retries,
                tried_from=step.tried_from,
                failed_at=step.failed_at,
                lock_wait=self.pace.lock_wait,
                longest_idle=self._longest_idle,
            )
        except Exception as unwritten:
            if ends_all(unwritten):
                raise
            return self._wait(session, unwritten)
        if failure.verdict == "overtaken":
            log.warning("%s: another worker has gone on with it: %s", name, message_of(error))
            return Step("taken")
        if failure.verdict == "waiting":
            self._begin_pause()
            self._say_once(session, "waits, as other events would fail in the same way", str(error), logging.WARNING)
            return Step("waiting")
        is_final = failure.verdict != "retrying"
        outcome = f"; {failure.verdict}" if is_final else ""
        log.error("%s: %s%s", name, failure.error, outcome, exc_info=loggable(failure.error) if is_final else None)
        return Step("taken")

    def _wait(self, session: Session, error: Exception) -> Step:
        """Begin a pause. It is written down the second time: a deadlock is over by then."""
        is_first = not self._pause and not self.has_one_run
        if is_cut_off(error):  # a smaller batch takes less time
            self._limit = max(1, self._limit // _GROWTH)
        self._begin_pause()
        self._say_once(session, "waits", message_of(error), logging.WARNING)
        if not is_first:
            try:
                record_wait(session, self.follower, error, lock_wait=self.pace.lock_wait, longest_idle=self._longest_idle)
            except (DBAPIError, PoolTimeoutError) as unwritten:
                name = name_in_log(self.follower.name, session)
                log.warning("%s: that it waits could not be written: %s", name, message_of(unwritten))
        return Step("waiting")

    def _begin_pause(self) -> None:
        """Begin the next pause, twice as long as the one before."""
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), self.pace.longest_wait)
        self.not_before = time.monotonic() + self._pause

    def _say_once(self, session: Session, what: str, why: str, level: int) -> None:
        """Log why the follower does not go on, unless that was the last thing said of it, and keep it."""
        self.hindrance = f"it {what}: {why}"
        if self._said != why:
            log.log(level, "%s %s: %s", name_in_log(self.follower.name, session), what, why)
        self._said = why

    def _answers(self, session: Session) -> bool:
        """Check whether the database answers all the same: the connection that was lost may have been the follower's alone."""
        bind_arguments = self.follower.consumer.bind_arguments
        try:
            session.connection(bind_arguments=bind_arguments).execute(select(literal_column("1")))
        except (DBAPIError, PoolTimeoutError):
            return False
        else:
            return True
        finally:
            session.rollback()
