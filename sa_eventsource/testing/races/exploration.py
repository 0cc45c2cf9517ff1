"""The search: which schedules are run, and what is made of one that ends badly."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sa_eventsource.exceptions import RaceFoundError
from sa_eventsource.session import is_conflict
from sa_eventsource.testing.races.priorities import Priorities
from sa_eventsource.testing.races.race_steps import LETTERS, ActorOutcome
from sa_eventsource.testing.races.race_table import table_of
from sa_eventsource.testing.races.reordering import Histories, Trace
from sa_eventsource.testing.races.shrinking import shrink, switches
from sa_eventsource.testing.races.steadiness import Steadiness
from sa_eventsource.testing.races.turn_taking import Run, Stage, TurnTaking, last_goes_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.testing.races.reordering import History
    from sa_eventsource.testing.races.turn_taking import Choose, Limits


@dataclass(frozen=True, slots=True)
class RaceReport:
    """What was run without a race being found.

    Attributes:
        followed: The schedules that were run, in that order.
        is_exhaustive: Whether these are all, except for those that differ only in the order of steps which do not depend on each
            other. Never where an actor's statements went to the driver itself, or an actor did two different things after it had
            seen the same: it decides by a random number, the clock, or what it remembers of earlier runs.
        conflicts: In how many of them an actor failed by a conflict.
        deadlocks: In how many of them actors deadlocked.
        deadlock: The first schedule with a deadlock; None if there was none.
        seconds: How long it took.
    """

    followed: tuple[str, ...]
    is_exhaustive: bool
    conflicts: int
    deadlocks: int
    deadlock: str | None
    seconds: float

    @property
    def schedules(self) -> int:
        """How many schedules were run."""
        return len(self.followed)


@dataclass(frozen=True, slots=True)
class Legal:
    """How an actor may end, other than by returning.

    Attributes:
        errors: The application's errors.
        conflicts: Whether conflicts are legal.
        deadlocks: Whether deadlocks are.
    """

    errors: tuple[type[BaseException], ...]
    conflicts: bool
    deadlocks: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """A run, and what is wrong with it.

    Attributes:
        run: The run.
        outcomes: How the actors ended.
        problem: What is wrong; None if nothing is.
        actor: The letter of the actor that failed.
        cause: The error that says so.
    """

    run: Run
    outcomes: tuple[ActorOutcome, ...]
    problem: str | None = None
    actor: str | None = None
    cause: BaseException | None = None


class JudgingStage(Stage, Protocol):
    """A stage that prepares and judges runs."""

    def prepare(self) -> Any:
        """Have setup make a state to begin from."""
        ...

    def judge(self, context: Any, outcomes: Sequence[ActorOutcome]) -> Any:
        """Call the invariant."""
        ...


class Exploration:
    """Runs schedules until one breaks the invariant, all were run, or there were enough."""

    def __init__(self, stage: JudgingStage, names: Sequence[str], legal: Legal, limits: Limits) -> None:
        """Take what was asked for.

        Args:
            stage: Where actors run.
            names: What the actors are called.
            legal: How they may end.
            limits: When a run is given up.
        """
        self._stage = stage
        self._names = names
        self._legal = legal
        self._limits = limits
        self._begun = time.monotonic()
        self._followed: list[str] = []
        self._longest = 0
        self._conflicts = 0
        self._deadlocks = 0
        self._deadlock: str | None = None
        self._steadiness = Steadiness()

    def run(self, schedules: int, seed: int, schedule: str | None) -> RaceReport:
        """Run one schedule, or look for one that breaks the invariant. As :meth:`follow` and :meth:`search`."""
        return self.search(schedules, seed) if schedule is None else self.follow(schedule)

    def follow(self, schedule: str) -> RaceReport:
        """Run one schedule.

        Raises:
            RaceFoundError: It breaks the invariant.
            ScheduleError: It cannot be followed.
        """
        with self._stage.stops:
            ending = self._end(_numbers(schedule), last_goes_on, schedule)
        if ending.problem is not None:
            raise self._found(ending, self._count, is_repeatable=True) from ending.cause
        return self._report(is_exhaustive=False)

    def search(self, schedules: int, seed: int) -> RaceReport:
        """Look for a schedule that breaks the invariant.

        Those with fewer switches from one actor to another come first. Where half of what is allowed has not been all, the rest
        is drawn at random.

        Args:
            schedules: How many to run at most, except for those that make a found one shorter.
            seed: What is drawn with.

        Raises:
            RaceFoundError: One was found.
        """
        with self._stage.stops:
            is_exhaustive = self._search_in_order(schedules)
            if not is_exhaustive:
                self._draw(schedules, seed)
        return self._report(is_exhaustive=is_exhaustive and self._steadiness.is_given and not self._stage.stops.has_unseen)

    def _search_in_order(self, schedules: int) -> bool:
        histories = Histories()
        # The number tells orders apart that compare as equal: histories do not compare.
        waiting: list[tuple[int, int, tuple[int, ...], int, History]] = [(0, 0, (), 0, {})]
        number = 0
        while waiting:
            # As long as what is known to be left fits into what is allowed, all of it is run.
            if self._count >= schedules or (self._count >= (schedules + 1) // 2 and self._count + len(waiting) > schedules):
                return False
            _, _, prefix, _, aim = heapq.heappop(waiting)
            if prefix and histories.was_run(aim):
                continue
            ending = self._try(prefix, last_goes_on)
            self._longest = max(self._longest, len(ending.run.happenings))
            trace = Trace(ending.run.happenings, has_deferred_checks=self._stage.watch.has_deferred_checks)
            histories.add(trace.history)
            self._steadiness.add(trace.decisions())
            for order, history in trace.reversals():
                if histories.is_new(history):
                    number += 1
                    heapq.heappush(waiting, (switches(order), len(order), order, number, history))
        return True

    def _draw(self, schedules: int, seed: int) -> None:
        while self._count < schedules:
            self._try((), Priorities(f"{seed}:{self._count}", len(self._names), self._longest))

    def _try(self, prefix: Sequence[int], choose: Choose) -> Ending:
        ending = self._end(prefix, choose)
        if ending.problem is not None:
            number = self._count
            shortest = shrink(ending, self._again, len(self._names))
            repeated = self._again([each.actor for each in shortest.run.happenings])
            is_repeatable = repeated.problem is not None and repeated.run.schedule == shortest.run.schedule
            raise self._found(shortest, number, is_repeatable=is_repeatable) from shortest.cause
        return ending

    def _again(self, order: Sequence[int]) -> Ending:
        return self._end(order, last_goes_on)

    def _end(self, follow: Sequence[int], choose: Choose, schedule: str | None = None) -> Ending:
        """Run one schedule and judge it."""
        context = self._stage.prepare()
        run = TurnTaking(self._stage, len(self._names), self._limits).run(context, follow, choose, schedule=schedule)
        self._followed.append(run.schedule)
        outcomes = tuple(
            ActorOutcome(LETTERS[number], value, error, error is not None and is_conflict(error))
            for number, (value, error) in enumerate(zip(run.values, run.errors, strict=True))
        )
        self._conflicts += any(each.is_conflict for each in outcomes)
        if run.deadlocks:
            self._deadlocks += 1
            self._deadlock = self._deadlock or run.schedule
        return self._judged(context, run, outcomes)

    def _judged(self, context: Any, run: Run, outcomes: tuple[ActorOutcome, ...]) -> Ending:
        if run.deadlocks and not self._legal.deadlocks:
            circle = " and ".join(self._called(each) for each in run.deadlocks[0])
            return Ending(run, outcomes, f"deadlock: {circle} wait for each other")
        for outcome in outcomes:
            error = outcome.error
            is_legal = (outcome.is_conflict and self._legal.conflicts) or isinstance(error, self._legal.errors)
            if error is not None and not is_legal:
                number = LETTERS.index(outcome.actor)
                return Ending(run, outcomes, f"{self._called(number)} failed: {_shown(error)}", outcome.actor, error)
        try:
            verdict = self._stage.judge(context, outcomes)
        except Exception as error:  # noqa: BLE001 - whatever it is, the invariant does not hold
            return Ending(run, outcomes, f"the invariant is broken: {_shown(error)}", None, error)
        return Ending(run, outcomes, "the invariant is broken: it returned False" if verdict is False else None)

    def _called(self, number: int) -> str:
        return f"{LETTERS[number]} ({self._names[number]})"

    def _found(self, ending: Ending, number: int, *, is_repeatable: bool) -> RaceFoundError:
        steps = [each.reported() for each in ending.run.happenings]
        assert ending.problem is not None  # noqa: S101 - else there is nothing to report
        problem = ending.problem
        if switches([each.actor for each in ending.run.happenings]) < len(self._names) and all(
            each.waited_for == "" for each in steps
        ):
            problem += " (although no actor began before another one had ended: this is no race)"
        return RaceFoundError(
            ending.run.schedule,
            steps,
            problem,
            table_of(steps, self._names, ending.outcomes),
            actor=ending.actor,
            schedules=number,
            is_repeatable=is_repeatable,
        )

    @property
    def _count(self) -> int:
        return len(self._followed)

    def _report(self, *, is_exhaustive: bool) -> RaceReport:
        seconds = time.monotonic() - self._begun
        return RaceReport(tuple(self._followed), is_exhaustive, self._conflicts, self._deadlocks, self._deadlock, seconds)


def _numbers(schedule: str) -> list[int]:
    return [LETTERS.index(letter) if letter in LETTERS else len(LETTERS) for letter in schedule]


def _shown(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
