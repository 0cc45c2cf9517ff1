"""What a worker does each time it wakes: asks whether there is news, and lets those who want it take it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sa_eventsource.checkpoints import NewEvents
from sa_eventsource.exceptions import MovedLogError, ReadModelChangedError
from sa_eventsource.projections import RetryPolicy, Step, attempt_step, culprit, record_failure, record_wait
from sa_eventsource.store import Meaning, meaning_of, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Follower

log = logging.getLogger("sa_eventsource.worker")

_SHRINK = 10
"""By how much a batch is made smaller to find the event in it that cannot be taken."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a worker asks for news, in seconds.

    Attributes:
        shortest: The pause after there was some. Each pause is twice as long as the one before.
        longest: The longest pause.
        listening: The longest pause of a worker that is told of commits.
        every_follower: How often each follower is looked at though there is no news for it: others may have died while at work.
        longest_outage: The longest pause while the database cannot be reached.
        longest_wait: The longest pause of a follower that cannot go on while the others do, because of a lock for example.
        lock_wait: How long to wait for a lock, where the connections have no ``lock_timeout`` of their own. All followers of the
            worker wait as long.
    """

    shortest: float = 0.002
    longest: float = 0.02
    listening: float = 1.0
    every_follower: float = 1.0
    longest_outage: float = 5.0
    longest_wait: float = 2.0
    lock_wait: float = 1.0

    def __post_init__(self) -> None:
        """Check the figures.

        Raises:
            ValueError: They make no sense.
        """
        if (
            not 0 < self.shortest <= min(self.longest, self.listening)
            or self.every_follower <= 0
            or min(self.longest_outage, self.longest_wait) < self.shortest
            or self.lock_wait <= 0
        ):
            raise ValueError(f"{self}: pauses are above 0, the shortest not longer than the longest")


@dataclass(slots=True)
class Polling:
    """The followers that a worker looks after, and what it remembers of them.

    Attributes:
        followers: The followers.
        pace: How often to ask.
        retries: How often an event is tried.
        stopping: Tells whether to come to an end; asked between two batches.
        taken: How many events have been taken.
        is_listening: Whether it is told of commits, so that it need not ask so often.
    """

    followers: Sequence[Follower]
    pace: Pace
    retries: RetryPolicy
    stopping: Callable[[], bool]
    taken: int = 0
    is_listening: bool = False
    _logs: list[NewEvents] = field(init=False)
    _pause: float = field(init=False)
    _limits: dict[str, int] = field(default_factory=dict, init=False)
    _retry_at: dict[str, datetime] = field(default_factory=dict, init=False)
    _said: dict[str, str] = field(default_factory=dict, init=False)
    _waits: dict[str, float] = field(default_factory=dict, init=False)
    _looked_at_all: float = field(default=0.0, init=False)
    _outage: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Begin without knowing anything."""
        self._pause = self.pace.shortest
        self._logs = []

    def wake(self, session: Session) -> float:
        """Take what there is to take.

        Args:
            session: A session without a transaction in progress. It has none afterwards.

        Returns:
            The seconds until the next time.

        Raises:
            Exception: What no pause mends, such as a missing table.
        """
        try:
            due = self._due(session)
            if due:
                before = self.taken
                self.run(session, due)
                self._pause = self.pace.shortest if self.taken > before else self._longer_pause()
            else:
                self._pause = self._longer_pause()
        except Exception as error:
            if meaning_of(error) not in (Meaning.SERVER_AWAY, Meaning.TRY_LATER):
                raise
            self._outage = min(max(2 * self._outage, 0.1), self.pace.longest_outage)
            self._looked_at_all = 0.0
            log.warning("the database cannot be worked with; next attempt in %.1f s: %s", self._outage, error)
            return self._outage
        self._outage = 0.0
        return min([self._pause, *(max(0.0, (each - datetime.now(UTC)).total_seconds()) for each in self._retry_at.values())])

    def run(self, session: Session, due: Sequence[Follower] | None = None) -> None:
        """Let followers take batches in turn until none of them has more, or it is time to stop."""
        active = list(self.followers if due is None else due)
        while active:
            for follower in list(active):
                if self.stopping():
                    return
                if self._step(session, follower).outcome != "taken":
                    active.remove(follower)

    def _due(self, session: Session) -> Sequence[Follower]:
        """Those who may have something to do."""
        if not self._logs:
            self._logs = _logs(session, self.followers)
        new: set[str] | None = set()
        for new_events in self._logs:
            types = new_events.types(session)
            new = None if types is None or new is None else new | set(types)
        now = time.monotonic()
        if new is None or now - self._looked_at_all >= self.pace.every_follower:
            self._looked_at_all = now
            return [follower for follower in self.followers if not self._is_waiting(follower)]
        ready = {name for name, retry_at in self._retry_at.items() if retry_at <= datetime.now(UTC)}
        return [
            follower
            for follower in self.followers
            if follower.name in ready or (not new.isdisjoint(follower.consumer.stored_types) and not self._is_waiting(follower))
        ]

    def _is_waiting(self, follower: Follower) -> bool:
        retry_at = self._retry_at.get(follower.name)
        return retry_at is not None and retry_at > datetime.now(UTC)

    def _longer_pause(self) -> float:
        return min(2 * self._pause, self.pace.listening if self.is_listening else self.pace.longest)

    def _step(self, session: Session, follower: Follower) -> Step:
        name = follower.name
        limit = self._limits.get(name, follower.consumer.batch_size)
        try:
            step = attempt_step(session, follower, limit, lock_wait=self.pace.lock_wait)
        except (ReadModelChangedError, MovedLogError) as error:
            self._say_once(name, "does not follow", str(error), logging.ERROR)
            return Step("stopped")
        except (DBAPIError, PoolTimeoutError) as error:
            if meaning_of(error) is not Meaning.SERVER_AWAY or not _answers(session, follower):
                raise
            step = Step("waiting", error=error)
        if step.outcome == "failed" and step.error is not None:
            return self._after_failure(session, follower, step.error, step.events)
        if step.outcome == "waiting" and step.error is not None:
            return self._wait(session, follower, step.error)
        self._waits.pop(name, None)
        self._said.pop(name, None)
        self.taken += step.events
        if step.retry_at is None:
            self._retry_at.pop(name, None)
        else:
            self._retry_at[name] = step.retry_at
        if step.events and limit < follower.consumer.batch_size:
            self._limits[name] = min(limit * _SHRINK, follower.consumer.batch_size)
        return step

    def _after_failure(self, session: Session, follower: Follower, error: Exception, events: int) -> Step:
        if culprit(error) is None and events > 1:
            self._limits[follower.name] = max(1, events // _SHRINK)
            return Step("taken")
        verdict = record_failure(session, follower, error, self.retries)
        if verdict == "waiting":
            self._pause_of(follower)
            self._say_once(follower.name, "waits, as other events would fail in the same way", str(error), logging.WARNING)
            return Step("waiting")
        is_final = verdict != "retrying"
        log.error("%s: %s%s", follower.name, error, f"; {verdict}" if is_final else "", exc_info=error if is_final else None)
        return Step("taken")

    def _wait(self, session: Session, follower: Follower, error: Exception) -> Step:
        """Let one follower pause. It is written down the second time: a deadlock is over by then."""
        is_first = follower.name not in self._waits
        self._pause_of(follower)
        self._say_once(follower.name, "waits", message_of(error), logging.WARNING)
        if not is_first:
            try:
                record_wait(session, follower, error)
            except (DBAPIError, PoolTimeoutError) as unwritten:
                log.warning("%s: that it waits could not be written: %s", follower.name, message_of(unwritten))
        return Step("waiting")

    def _pause_of(self, follower: Follower) -> None:
        """Begin the next pause of a follower, twice as long as the one before."""
        pause = self._waits[follower.name] = min(2 * self._waits.get(follower.name, 0.05), self.pace.longest_wait)
        self._retry_at[follower.name] = datetime.now(UTC) + timedelta(seconds=pause)

    def _say_once(self, name: str, what: str, why: str, level: int) -> None:
        """Log why a follower does not go on, unless that was the last thing said of it."""
        if self._said.get(name) != why:
            log.log(level, "%s %s: %s", name, what, why)
        self._said[name] = why


def _answers(session: Session, follower: Follower) -> bool:
    """Check whether the database answers all the same: the connection that was lost may have been the follower's alone."""
    try:
        session.connection(bind_arguments=follower.consumer.bind_arguments).execute(select(literal_column("1")))
    except (DBAPIError, PoolTimeoutError):
        return False
    else:
        return True
    finally:
        session.rollback()


def _logs(session: Session, followers: Sequence[Follower]) -> list[NewEvents]:
    """The logs that the followers follow, each once."""
    logs: dict[tuple[int, str], NewEvents] = {}
    for follower in followers:
        bind = session.get_bind(**follower.consumer.bind_arguments)
        logs.setdefault((id(bind), follower.tables.events.key), NewEvents(follower.tables, follower.consumer.bind_arguments))
    return list(logs.values())
