"""What a worker does each time it wakes: asks whether there is news, and lets those who want it take it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sa_eventsource.checkpoints import NewEvents
from sa_eventsource.exceptions import MovedLogError, ReadModelChangedError
from sa_eventsource.projections import RetryPolicy, Step, attempt_step, culprit, is_passing, record_failure

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
    """

    shortest: float = 0.002
    longest: float = 0.02
    listening: float = 1.0
    every_follower: float = 1.0
    longest_outage: float = 5.0

    def __post_init__(self) -> None:
        """Check the figures.

        Raises:
            ValueError: They make no sense.
        """
        if (
            not 0 < self.shortest <= min(self.longest, self.listening)
            or self.every_follower <= 0
            or self.longest_outage < self.shortest
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
    _blocked: dict[str, str] = field(default_factory=dict, init=False)
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
            if not is_passing(error):
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
            return self.followers
        ready = {name for name, each in self._retry_at.items() if each <= datetime.now(UTC)}
        return [each for each in self.followers if each.name in ready or not new.isdisjoint(each.consumer.stored_types)]

    def _longer_pause(self) -> float:
        return min(2 * self._pause, self.pace.listening if self.is_listening else self.pace.longest)

    def _step(self, session: Session, follower: Follower) -> Step:
        name = follower.name
        limit = self._limits.get(name, follower.consumer.batch_size)
        try:
            step = attempt_step(session, follower, limit)
        except (ReadModelChangedError, MovedLogError) as error:
            if self._blocked.get(name) != str(error):
                log.error("%s does not follow: %s", name, error)  # noqa: TRY400 - the message says it all
            self._blocked[name] = str(error)
            return Step("stopped")
        self._blocked.pop(name, None)
        if step.error is not None:
            return self._after_failure(session, follower, step.error, step.events)
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
        outcome = record_failure(session, follower, error, self.retries)
        log.error("%s: %s%s", follower.name, error, f"; {outcome}" if outcome else "", exc_info=error if outcome else None)
        return Step("taken")


def _logs(session: Session, followers: Sequence[Follower]) -> list[NewEvents]:
    """The logs that the followers follow, each once."""
    logs: dict[tuple[int, str], NewEvents] = {}
    for follower in followers:
        bind = session.get_bind(**follower.consumer.bind_arguments)
        logs.setdefault((id(bind), follower.tables.events.key), NewEvents(follower.tables, follower.consumer.bind_arguments))
    return list(logs.values())
