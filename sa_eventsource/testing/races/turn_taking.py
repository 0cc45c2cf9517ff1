"""One run: the actors take turns, one step at a time, in an order that somebody chooses.

Nothing waits for a while and hopes. After each step, the run goes on when every actor stands before its next step, has ended,
or waits for a lock that an actor holds who stands still: PostgreSQL says so. Such a one is let go on by the step that frees it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from sa_eventsource.exceptions import ActorHungError, ScheduleError, StrayStatementError
from sa_eventsource.testing.races.catalog import Catalog
from sa_eventsource.testing.races.race_steps import LETTERS, Happening, StepKind
from sa_eventsource.testing.races.scheduled_actors import Arrival, ScheduledActor, State
from sa_eventsource.testing.races.standstill import circle, place_of, reached

if TYPE_CHECKING:
    from collections.abc import Collection

    from sa_eventsource.testing.races.lock_watch import Locks, LockWatch
    from sa_eventsource.testing.races.stops import Stops

Choose = Callable[[Sequence[int], "int | None"], int]
"""Chooses among the actors that can make a step, given who made the last one."""

_PATIENCE = 0.002
"""Seconds until PostgreSQL is asked whether a statement waits for a lock: most are done by then."""

_TO_END = 5.0
"""Seconds for actors that are abandoned to end."""


class Stage(Protocol):
    """Where actors run, and who sees to their sessions: threads, or tasks of an event loop."""

    stops: Stops
    watch: LockWatch

    def actor(self, number: int, arrivals: SimpleQueue[Arrival]) -> ScheduledActor:
        """Make an actor that has not begun."""
        ...

    def start(self, actor: ScheduledActor, context: Any) -> None:
        """Have an actor begin."""
        ...

    def interrupt(self, actor: ScheduledActor) -> None:
        """End an actor where it stands, if that can be done."""
        ...

    def check_cancelled(self) -> None:
        """Raise if nobody waits for the run any more."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run is given up.

    Attributes:
        step_timeout: Seconds until an actor has come to its next stop.
        steps: How many steps a run may have.
    """

    step_timeout: float
    steps: int


@dataclass(slots=True)
class Run:
    """What happened in a run.

    Attributes:
        happenings: The steps, in order.
        values: What the actors returned.
        errors: What they raised.
        deadlocks: Who waited for each other: the actors' numbers.
    """

    happenings: list[Happening] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    errors: list[BaseException | None] = field(default_factory=list)
    deadlocks: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def schedule(self) -> str:
        """Whose turn it was, a letter a step."""
        return "".join(LETTERS[each.actor] for each in self.happenings)


def last_goes_on(able: Sequence[int], last: int | None) -> int:
    """Choose the one that made the last step, as long as it can go on, then the first one that can."""
    return last if last is not None and last in able else able[0]


class TurnTaking:
    """Runs some actors once."""

    def __init__(self, stage: Stage, number: int, limits: Limits) -> None:
        """Prepare *number* actors."""
        self._stage = stage
        self._limits = limits
        self._arrivals: SimpleQueue[Arrival] = SimpleQueue()
        self._actors = [stage.actor(each, self._arrivals) for each in range(number)]
        self._run = Run()
        self._progress = 0.0

    def run(self, context: Any, follow: Sequence[int], choose: Choose, *, schedule: str | None = None) -> Run:
        """Take turns until all actors have ended.

        Args:
            context: What setup gave.
            follow: Whose turn it is, at first.
            choose: Chooses after that.
            schedule: What *follow* was asked for as: it is an error that one of these cannot make a step. None: it is left out.

        Raises:
            ActorHungError: One does not come to its next stop.
            ScheduleError: *follow* cannot be followed.
            StrayStatementError: A statement came from somewhere else.
        """
        self._stage.stops.watch_strays(watch=True)
        try:
            for actor in self._actors:
                self._progress = time.monotonic()
                actor.has_begun = True
                self._stage.start(actor, context)
                self._settle()
            self._take_turns(follow, choose, schedule)
        finally:
            self._stage.stops.watch_strays(watch=False)
            self._end_all()
            self._join()
        stray = self._stage.stops.stray
        if stray is not None:
            raise StrayStatementError(*stray)
        self._run.values = [each.value for each in self._actors]
        self._run.errors = [each.error for each in self._actors]
        return self._run

    def _take_turns(self, follow: Sequence[int], choose: Choose, schedule: str | None) -> None:
        last: int | None = None
        place = 0
        while able := [each.number for each in self._actors if each.state is State.PARKED]:
            if place < len(follow):
                chosen = follow[place]
                place += 1
                if chosen not in able:
                    if schedule is not None:
                        raise ScheduleError(schedule, place, self._why_not(chosen))
                    continue
            else:
                chosen = choose(able, last)
            if len(self._run.happenings) >= self._limits.steps:
                raise self._hung(self._actors[chosen], f"there is no end after {self._limits.steps} steps")
            self._step(self._actors[chosen])
            last = chosen
        for actor in self._actors:
            if actor.state is State.WAITING:
                raise self._hung(actor, "it waits for a lock that an actor holds which has ended without closing its transaction")
        if schedule is not None and place < len(follow):
            raise ScheduleError(schedule, place + 1, "all actors have ended")

    def _why_not(self, number: int) -> str:
        if number >= len(self._actors):
            return "there is no such actor"
        actor = self._actors[number]
        if actor.state is State.WAITING:
            return f"{actor.letter} waits for a lock"
        return f"{actor.letter} has ended"

    def _step(self, actor: ScheduledActor) -> None:
        request = actor.request
        assert request is not None  # noqa: S101 - it is parked
        happening = Happening(
            actor.number,
            actor.steps,
            request.kind,
            request.text,
            request.parameters,
            request.transaction,
            request.transaction.touched,
            request.transaction.touched,
            request.takes_snapshot,
            is_opaque=request.transaction.is_autocommit or request.transaction.is_unseen,
        )
        actor.steps += 1
        actor.happening = happening
        self._run.happenings.append(happening)
        self._progress = time.monotonic()
        actor.go_on()
        self._settle()
        self._note_touched(actor)

    def _note_touched(self, actor: ScheduledActor) -> None:
        happening = actor.happening
        if happening is None:
            return
        if happening.error is not None:
            # PostgreSQL has let go of the locks already, so that it cannot say what the statement would have touched.
            happening.is_opaque = True
        elif happening.kind is StepKind.STATEMENT:
            locks = self._stage.watch.locks(self._pids())
            for each in self._actors:
                for pid, transaction in each.transactions.items():
                    touched = locks.touched.get(pid)
                    if touched is not None:
                        transaction.touched |= touched
                if each.happening is not None and each.happening.kind is StepKind.STATEMENT:
                    happening = each.happening
                    of_catalog = Catalog.of_catalog(happening.text)
                    happening.transaction.touched |= of_catalog
                    touched = happening.transaction.touched
                    happening.touched = self._stage.watch.catalog.part(happening.text, happening.before, touched) | of_catalog
            return
        happening.touched = happening.transaction.touched

    def _pids(self) -> set[int]:
        return {pid for actor in self._actors for pid in actor.transactions}

    def _settle(self) -> None:
        """Wait until every actor stands still, and let those go on that need not wait any longer."""
        may_be_freed = True
        while True:
            self._stage.check_cancelled()
            running = [each for each in self._actors if each.state is State.RUNNING and each.has_begun]
            if running:
                if not self._take_arrival(_PATIENCE):
                    self._look_at(running)
                continue
            waiting = [each for each in self._actors if each.state is State.WAITING]
            if waiting and may_be_freed:
                around = self._circle(waiting)  # before the locks: they show it where PostgreSQL ends a circle in between
                locks = self._stage.watch.locks({pid for each in waiting for pid in each.pids})
                freed = [each for each in waiting if not each.pids & locks.waiting]
                for each in freed:
                    self._free(each)
                if freed:
                    continue
                if around:
                    self._await_victim(around)
                    continue
                may_be_freed = False
            resumed = next((each for each in self._actors if each.state is State.RESUMED), None)
            if resumed is None:
                return
            resumed.go_on()
            may_be_freed = True

    def _free(self, actor: ScheduledActor) -> None:
        actor.state = State.RUNNING
        if actor.happening is not None and actor.happening.released_by is None:
            actor.happening.released_by = len(self._run.happenings) - 1

    def _take_arrival(self, timeout: float) -> bool:
        try:
            arrival = self._arrivals.get(timeout=timeout)
        except Empty:
            return False
        actor = arrival.actor
        if actor.happening is not None and actor.happening.is_deadlock:
            self._note_deadlock(actor, actor.happening)
        if actor.state is State.WAITING:
            self._free(actor)
        actor.state = arrival.state
        actor.request = arrival.request
        self._progress = time.monotonic()
        return True

    def _note_deadlock(self, victim: ScheduledActor, happening: Happening) -> None:
        """Note whom the one that PostgreSQL has ended waited for: those that wait for it, directly or by way of others."""
        happening.is_deadlock = False
        # The others may be free already, and have said so first.
        whom = {
            each.number: sorted(each.happening.waited_for)
            for each in self._actors
            if each.happening is not None and each.happening.released_by in (None, len(self._run.happenings) - 1)
        }
        others = [each for each in whom if victim.number in reached(whom, each)]
        happening.waited_for |= frozenset(others)
        self._run.deadlocks.append(tuple(sorted([victim.number, *others])))

    def _look_at(self, running: Sequence[ScheduledActor]) -> None:
        """Find out which of those that have not come back wait for an actor that stands still."""
        pids = {pid for each in running for pid in each.pids}
        locks = self._stage.watch.locks(pids)
        settled = [each for each in running if each.pids & locks.settled]
        if settled:
            blockers = self._stage.watch.blockers({pid for each in settled for pid in each.pids & locks.waiting})
            for actor in settled:
                whom = self._actors_of(pid for own in actor.pids for pid in blockers.get(own, ()))
                if actor in whom:
                    raise self._hung(actor, "one of its connections waits for a lock that another one of its own holds")
                if whom and all(each.state is not State.RUNNING for each in whom):
                    self._wait(actor, whom, locks)
        if time.monotonic() - self._progress > self._limits.step_timeout:
            raise self._no_progress(running, locks)

    def _wait(self, actor: ScheduledActor, whom: Collection[ScheduledActor], locks: Locks) -> None:
        actor.state = State.WAITING
        happening = actor.happening
        if happening is not None:
            happening.waited_for |= {each.number for each in whom}
            for pid in actor.pids:
                if pid in locks.touched and pid in actor.transactions:
                    actor.transactions[pid].touched |= locks.touched[pid]

    def _actors_of(self, pids: Any) -> list[ScheduledActor]:
        wanted = set(pids)
        return [each for each in self._actors if each.pids & wanted]

    def _circle(self, waiting: Sequence[ScheduledActor]) -> list[ScheduledActor]:
        """Find actors that wait for each other in a circle; empty if there are none."""
        blockers = self._stage.watch.blockers({pid for each in waiting for pid in each.pids})
        whom = {
            actor.number: [each.number for each in self._actors_of(pid for own in actor.pids for pid in blockers.get(own, ()))]
            for actor in waiting
        }
        return [self._actors[each] for each in circle(whom)]

    def _await_victim(self, around: Sequence[ScheduledActor]) -> None:
        """Wait until PostgreSQL has ended a deadlock by an error."""
        if not self._take_arrival(self._limits.step_timeout):
            raise self._hung(around[0], "it is in a circle of actors that wait for each other, which PostgreSQL does not see")

    def _no_progress(self, running: Sequence[ScheduledActor], locks: Locks) -> ActorHungError:
        actor = running[0]
        if actor.pids & locks.waiting:
            blockers = self._stage.watch.blockers(actor.pids & locks.waiting)
            others = sorted({pid for each in blockers.values() for pid in each})
            return self._hung(actor, f"it waits for a lock that is held by no actor, but by the server processes {others}")
        return self._hung(actor, f"no progress in {self._limits.step_timeout:g} s{place_of(actor.thread)}")

    def _hung(self, actor: ScheduledActor, reason: str) -> ActorHungError:
        statement = actor.happening.text if actor.happening is not None else None
        return ActorHungError(actor.letter, reason, statement, self._run.schedule)

    def _join(self) -> None:
        """Wait until the threads are gone whose actors have ended: each says so shortly before."""
        for actor in self._actors:
            if actor.thread is not None and actor.state is State.FINISHED:
                actor.thread.join()

    def _end_all(self) -> None:
        """End those that have not ended, if the run is given up."""
        left = [each for each in self._actors if each.has_begun and each.state is not State.FINISHED]
        if not left:
            return
        for actor in left:
            actor.abandon()
        for actor in left:
            if actor.state in (State.RUNNING, State.WAITING):
                self._stage.interrupt(actor)
        self._stage.watch.end({pid for each in left for pid in each.pids if each.state in (State.RUNNING, State.WAITING)})
        deadline = time.monotonic() + _TO_END
        while not all(each.has_ended for each in left) and time.monotonic() < deadline:
            if self._take_arrival(_PATIENCE):
                for actor in left:
                    if actor.state in (State.PARKED, State.RESUMED):
                        actor.abandon()
