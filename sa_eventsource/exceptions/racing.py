"""What the race finder of :mod:`sa_eventsource.testing.races` reports: a race, or why it could not look for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from collections.abc import Sequence


class RaceFoundError(EventSourceError, AssertionError):
    """A schedule of the actors' steps breaks the invariant, or has an actor fail with an error that it may not have.

    Run that one schedule again with ``races(..., schedule=error.schedule)``, under a debugger or with a change to the code.

    Attributes:
        schedule: One letter a step: whose turn it was.
        steps: What was done at each of these steps.
        problem: What is wrong in the end.
        actor: The letter of the actor that failed; None where the invariant is broken, or actors have deadlocked.
        schedules: How many schedules were run before this one was found, it included.
        is_repeatable: Whether the schedule had the same end when it was run again. If not, something else differs between runs:
            the time, randomness, or what an earlier run has left in the database.
        table: Who did what when, as text.
    """

    def __init__(  # noqa: PLR0913 - what is reported
        self,
        schedule: str,
        steps: Sequence[Any],
        problem: str,
        table: str,
        *,
        actor: str | None,
        schedules: int,
        is_repeatable: bool,
    ) -> None:
        """Build the message from the table and what is wrong."""
        self.schedule = schedule
        self.steps = tuple(steps)
        self.problem = problem
        self.actor = actor
        self.schedules = schedules
        self.is_repeatable = is_repeatable
        self.table = table
        again = (
            f'Run it again with schedule="{schedule}".'
            if is_repeatable
            else "Run again, this schedule ended in another way: something else than the order of steps differs between runs, "
            "such as the time, randomness, or rows that an earlier run has left. Have setup() create fresh ids."
        )
        super().__init__(f"{problem}\n\n{table}\n\n{again}")


class ScheduleError(EventSourceError, ValueError):
    """A schedule that was asked for cannot be followed: the code has changed since, or another database answers.

    Leave ``schedule`` out, to look for races again.

    Attributes:
        schedule: What was asked for.
        step: Number of the step that cannot be made, from 1.
        reason: Why not.
    """

    def __init__(self, schedule: str, step: int, reason: str) -> None:
        """Build the message from the place and the reason."""
        self.schedule = schedule
        self.step = step
        self.reason = reason
        super().__init__(
            f"schedule {schedule!r} cannot be followed: at step {step}, {reason}. Leave schedule out to look for races again."
        )


class ActorHungError(EventSourceError, TimeoutError):
    """An actor does not come to its next statement or to its end, so that no schedule can be completed.

    Its connections were cut and its transactions are gone. A thread cannot be ended from outside: one that hangs in Python
    remains, and is refused its next statement.

    Attributes:
        actor: Its letter.
        reason: What it does instead, as far as that is known.
        statement: Its last statement.
        schedule: The steps until then.
    """

    def __init__(self, actor: str, reason: str, statement: str | None, schedule: str) -> None:
        """Build the message from what is known."""
        self.actor = actor
        self.reason = reason
        self.statement = statement
        self.schedule = schedule
        last = "before its first statement" if statement is None else f"its last statement was {statement!r}"
        super().__init__(
            f"actor {actor} does not come to an end: {reason}; {last}, after the schedule {schedule!r}. An actor may wait for "
            "locks of the database, but not for another actor in Python or by asking again and again; a longer step_timeout gives "
            "more time."
        )


class StrayStatementError(EventSourceError, RuntimeError):
    """A statement came to the actors' engine, while they ran, from a thread or task that none of them runs in.

    Nobody can tell when it comes, so that a schedule would not be repeatable. Stop what works in the background, and call it as an
    actor, such as ``lambda session, _: Worker(engine, Base).run_once()``.

    Attributes:
        statement: The statement.
        thread: Name of the thread that it came from.
    """

    def __init__(self, statement: str, thread: str) -> None:
        """Build the message from the statement."""
        self.statement = statement
        self.thread = thread
        super().__init__(
            f"while the actors ran, {statement!r} came from thread {thread!r}, in which none of them runs: nobody can tell when, "
            "and no schedule would be repeatable. Stop what works in the background; if it is to take part, call it as an actor."
        )
