"""What a worker does each time it wakes: it asks whether there is news, and lets those who want it take it, each for a while."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sa_eventsource.checkpoints import NewEvents
from sa_eventsource.store import message_of, passes
from sa_eventsource.workers.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Follower
    from sa_eventsource.projections import RetryPolicy
    from sa_eventsource.workers.pace import Pace

log = logging.getLogger("sa_eventsource.worker")

_BETWEEN_QUESTIONS = 0.02
"""Seconds between two questions while followers are at work."""

_QUIET_SHARE = 10
"""The pause is this part of the time for which nothing was new."""

_FIRST_OUTAGE = 0.1


@dataclass(slots=True)
class Polling:
    """The followers that a worker looks after, and which of them have something to do.

    Attributes:
        followers: The followers.
        pace: How often to ask.
        retries: How often an event is tried.
        stopping: Returns whether to come to an end; asked between two batches.
        has_one_run: Whether there is one run and no further one.
        is_listening: Whether the worker hears of commits, so that it need not ask so often.
    """

    followers: Sequence[Follower]
    pace: Pace
    retries: RetryPolicy
    stopping: Callable[[], bool]
    has_one_run: bool = False
    is_listening: bool = False
    _all: dict[str, Turns] = field(default_factory=dict, init=False)
    _logs: list[NewEvents] = field(default_factory=list, init=False)
    _active: list[Turns] = field(default_factory=list, init=False)
    _last_news: float = field(default_factory=time.monotonic, init=False)
    _checked: float = field(default=0.0, init=False)
    _outage: float = field(default=0.0, init=False)

    @property
    def taken(self) -> int:
        """How many events have been taken."""
        return sum(turns.taken for turns in self._all.values())

    @property
    def hindered(self) -> dict[str, str]:
        """Who did not go on at the last turn, and why, where that is no event's time."""
        return {name: turns.hindrance for name, turns in self._all.items() if turns.hindrance is not None}

    @property
    def look_again(self) -> float:
        """When to ask again where nothing new is heard of, on the monotonic clock: a pause is over, or others may have died."""
        pauses = [turns.not_before for turns in self._all.values() if turns.not_before is not None]
        return min([self._checked + self.pace.every_follower, *pauses])

    def wake(self, session: Session) -> float:
        """Ask, and let followers work until it is time to ask again.

        Args:
            session: A session without a transaction in progress. It has none afterwards.

        Returns:
            The seconds until the next time; 0 while there is more to do.

        Raises:
            Exception: What no pause mends, such as a missing table of the library's own.
        """
        try:
            self._prepare(session)
            self._ask(session)
            self._let_work(session, until=time.monotonic() + _BETWEEN_QUESTIONS)
        except Exception as error:
            if not passes(error):
                raise
            self._outage = min(max(2 * self._outage, _FIRST_OUTAGE), self.pace.longest_outage)
            self._activate(self._all.values())
            log.warning("the database cannot be worked with; next attempt in %.1f s: %s", self._outage, message_of(error))
            return self._outage
        self._outage = 0.0
        return 0.0 if self._active else self._pause()

    def run(self, session: Session) -> None:
        """Let all followers work, those that wait too, until none of them has more to take."""
        self._prepare(session)
        for turns in self._all.values():
            turns.not_before = None
        self._activate(self._all.values())
        self._let_work(session, until=float("inf"))

    def _prepare(self, session: Session) -> None:
        """Find out which logs there are, the first time."""
        if self._all:
            return
        logs: dict[tuple[int, str], NewEvents] = {}
        for follower in self.followers:
            bind_arguments = follower.consumer.bind_arguments
            key = id(session.get_bind(**bind_arguments)), follower.tables.events.key
            new_events = logs.setdefault(key, NewEvents(follower.tables, bind_arguments))
            self._all[follower.name] = Turns(follower, new_events, self.pace, self.retries, self.has_one_run)
        self._logs = list(logs.values())

    def _ask(self, session: Session) -> None:
        """Activate those who may have something to do: new events, a pause that is over, what others have left."""
        now = time.monotonic()
        is_time_to_check = now - self._checked >= self.pace.every_follower
        for new_events in self._logs:
            of_log = [turns for turns in self._all.values() if turns.new_events is new_events]
            types = new_events.types(session)
            if types is None:
                self._activate(of_log)
                continue
            self._activate(turns for turns in of_log if not types.isdisjoint(turns.follower.consumer.stored_types))
            if is_time_to_check:
                names = {follower.name for follower in new_events.left_over(session, [turns.follower for turns in of_log])}
                self._activate(turns for turns in of_log if turns.follower.name in names)
        if is_time_to_check:
            self._checked = now
        self._activate(turns for turns in self._all.values() if turns.not_before is not None)

    def _activate(self, wanted: Iterable[Turns]) -> None:
        """Give turns to some followers, unless they wait. Nobody saves time up while idle."""
        now = time.monotonic()
        least = min((turns.seconds for turns in self._active), default=0.0)
        for turns in wanted:
            if turns not in self._active and (turns.not_before is None or turns.not_before <= now):
                turns.seconds = max(turns.seconds, least)
                self._active.append(turns)

    def _let_work(self, session: Session, until: float) -> None:
        """Let the active followers work, always the one next that has worked for the shortest time."""
        while self._active and not self.stopping():
            turns = min(self._active, key=lambda active: active.seconds)
            step = turns.take(session)
            if step.events:
                self._last_news = time.monotonic()
            if step.outcome != "taken":
                self._active.remove(turns)
            if time.monotonic() >= until:
                return

    def _pause(self) -> float:
        now = time.monotonic()
        longest = self.pace.listening if self.is_listening else self.pace.longest
        pauses = [turns.not_before - now for turns in self._all.values() if turns.not_before is not None]
        return max(0.0, min([longest, max(self.pace.shortest, (now - self._last_news) / _QUIET_SHARE), *pauses]))
