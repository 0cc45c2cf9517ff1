"""Which other orders of a run's steps may end otherwise: dynamic partial-order reduction.

Two orders are the same to the actors if one becomes the other by swapping neighbours that do not depend on each other. Of all
orders that are the same, one is enough. From each run, every *race* is reversed: two dependent steps of different actors of
which the first did not have to come first. What is run until a run has no race left whose reversal was not run yet, is one
order of each kind.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sa_eventsource.testing.races.touched import depend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sa_eventsource.testing.races.race_steps import Happening

StepId = tuple[int, int]
"""An actor, and which of its steps."""

History = dict[StepId, frozenset[StepId]]
"""Steps, each with those that had to come before it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What an actor did next.

    Attributes:
        actor: The actor's number.
        past: Its own steps until then, with all that came before them: what it can have decided by.
        text: The SQL of its next step; empty where it ended.
    """

    actor: int
    past: frozenset[tuple[StepId, frozenset[StepId]]]
    text: str


class Trace:
    """A run's steps, and which of them had to come before which others."""

    def __init__(self, happenings: Sequence[Happening], *, has_deferred_checks: bool) -> None:
        """Find out what depends on what."""
        self._happenings = happenings
        self._ids: list[StepId] = [(each.actor, each.ordinal) for each in happenings]
        self._direct = [self._direct_causes(each, has_deferred_checks=has_deferred_checks) for each in range(len(happenings))]
        self._causes = _closed(self._direct, range(len(happenings)))

    def _direct_causes(self, index: int, *, has_deferred_checks: bool) -> frozenset[int]:
        """Find the earlier steps that a step comes after by itself: its actor's, what it waited for, and those it depends on."""
        own = self._happenings[index]
        causes = set()
        for earlier in range(index):
            other = self._happenings[earlier]
            if other.actor == own.actor:
                causes.add(earlier)
                # What an actor does behind a statement that waited, it does after what has ended the wait.
                if other.released_by is not None and earlier < other.released_by < index:
                    causes.add(other.released_by)
            elif depend(other, own, has_deferred_checks=has_deferred_checks):
                causes.add(earlier)
        return frozenset(causes)

    @property
    def history(self) -> History:
        """The steps with those before them."""
        return self._history(self._causes, range(len(self._ids)))

    def _history(self, causes: dict[int, frozenset[int]], indexes: Sequence[int]) -> History:
        return {self._ids[each]: frozenset(self._ids[cause] for cause in causes[each]) for each in indexes}

    def decisions(self) -> Iterator[Decision]:
        """Give what each actor did after what; at last, that it ended."""
        pasts: dict[int, frozenset[int]] = {each: frozenset() for each, _ in self._ids}
        for index, happening in enumerate(self._happenings):
            yield self._decision(happening.actor, pasts[happening.actor], happening.text)
            known = self._causes[index] | {index}
            if happening.released_by is not None:
                known |= self._causes[happening.released_by] | {happening.released_by}
            pasts[happening.actor] |= known
        for actor, past in pasts.items():
            yield self._decision(actor, past, "")

    def _decision(self, actor: int, past: frozenset[int], text: str) -> Decision:
        return Decision(actor, frozenset(self._history(self._causes, sorted(past)).items()), text)

    def reversals(self) -> Iterator[tuple[tuple[int, ...], History]]:
        """Give for each race the order in which it ends the other way, as far as that has to be followed, and its history."""
        for second in range(len(self._ids)):
            for first in sorted(self._direct[second]):
                if self._is_race(first, second):
                    kept = [*range(first), *(each for each in range(first + 1, second) if first not in self._causes[each]), second]
                    history = self._history(_closed(self._direct, kept), kept)
                    yield tuple(self._happenings[each].actor for each in kept), history

    def _is_race(self, first: int, second: int) -> bool:
        if self._happenings[first].actor == self._happenings[second].actor:
            return False
        between = range(first + 1, second)
        if any(first in self._causes[each] and each in self._causes[second] for each in between):
            return False
        # It could not have come earlier than what its own actor had to wait for.
        before = max((each for each in range(second) if self._happenings[each].actor == self._happenings[second].actor), default=-1)
        return before < 0 or self._happenings[before].released_by != first


def _closed(direct: Sequence[frozenset[int]], indexes: Sequence[int]) -> dict[int, frozenset[int]]:
    """Give each step all that comes before it, by way of the steps at *indexes* alone."""
    present = frozenset(indexes)
    causes: dict[int, frozenset[int]] = {}
    for index in indexes:
        own = direct[index] & present
        causes[index] = own.union(*(causes[each] for each in own))
    return causes


class Histories:
    """The histories that were run, and those that wait to be.

    What was run may have another history than was meant: that two steps depend on each other may show only when they meet.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._count = 0
        self._with: dict[tuple[StepId, frozenset[StepId]], set[int]] = defaultdict(set)
        self._waiting: set[frozenset[tuple[StepId, frozenset[StepId]]]] = set()

    def add(self, history: History) -> None:
        """Keep a history that was run."""
        for step in history.items():
            self._with[step].add(self._count)
        self._count += 1

    def is_new(self, history: History) -> bool:
        """Check whether a history was not run and does not wait yet; from now on it does."""
        steps = frozenset(history.items())
        if steps in self._waiting or self.was_run(history):
            return False
        self._waiting.add(steps)
        return True

    def was_run(self, history: History) -> bool:
        """Check whether a history is the beginning of one that was run."""
        candidates: set[int] | None = None
        for step in history.items():
            known = self._with.get(step)
            if not known:
                return False
            candidates = set(known) if candidates is None else candidates & known
            if not candidates:
                return False
        return True
