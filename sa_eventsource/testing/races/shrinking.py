"""Making a schedule that ends badly shorter: with fewer switches from one actor to another, then with fewer steps."""

from __future__ import annotations

from itertools import combinations, groupby, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sa_eventsource.testing.races.exploration import Ending

_RUNS = 400
"""How many schedules are run at most to find a shorter one."""

Score = tuple[int, int, tuple[int, ...]]


def switches(order: Sequence[int]) -> int:
    """Count how often the turn goes to another actor."""
    return sum(one != other for one, other in pairwise(order))


def shrink(ending: Ending, run: Callable[[Sequence[int]], Ending], actors: int) -> Ending:
    """Look for the shortest schedule that ends as badly.

    First by moving turns together, which finds a short one fast; then all schedules with fewer switches are run, those with the
    fewest first, so that the one that is left is the shortest, as far as the number of runs allows.

    Args:
        ending: A run that ended badly.
        run: Runs a schedule, and gives its end.
        actors: How many there are.
    """
    best, runs = ending, _Runs(run)
    is_shorter = True
    while is_shorter:
        is_shorter = False
        for order in _moved_together(_order(best)):
            if (tried := runs.tried(order, best)) is not None:
                best, is_shorter = tried, True
                break
    steps = len(_order(best))
    for count in range(switches(_order(best))):
        for order in _with_switches(count, steps, actors):
            if (tried := runs.tried(order, best)) is not None:
                return tried
    return best


class _Runs:
    """Runs each schedule once, until there were enough."""

    def __init__(self, run: Callable[[Sequence[int]], Ending]) -> None:
        self._run = run
        self._tried: set[tuple[int, ...]] = set()

    def tried(self, order: tuple[int, ...], best: Ending) -> Ending | None:
        """Run a schedule; give its end if it ended as badly, and is shorter."""
        if order in self._tried or len(self._tried) >= _RUNS:
            return None
        self._tried.add(order)
        ending = self._run(order)
        is_as_bad = ending.problem is not None and ending.actor == best.actor
        return ending if is_as_bad and _score(ending) < _score(best) else None


def _order(ending: Ending) -> tuple[int, ...]:
    return tuple(each.actor for each in ending.run.happenings)


def _score(ending: Ending) -> Score:
    order = _order(ending)
    return switches(order), len(order), order


def _moved_together(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Give the orders in which two neighbouring blocks of turns have changed places, or one turn has."""
    blocks = [tuple(block) for _, block in groupby(order)]
    for index in range(len(blocks) - 1):
        yield _joined([*blocks[:index], blocks[index + 1], blocks[index], *blocks[index + 2 :]])
    for index in range(len(order) - 1):
        if order[index] != order[index + 1]:
            yield (*order[:index], order[index + 1], order[index], *order[index + 2 :])


def _joined(blocks: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(each for block in blocks for each in block)


def _with_switches(count: int, steps: int, actors: int) -> Iterator[tuple[int, ...]]:
    """Give all orders of so many steps with so many switches; whoever has ended or waits is left out as they are run."""
    for places in combinations(range(1, steps), count):
        lengths = [end - start for start, end in pairwise((0, *places, steps))]
        for whose in _sequences(count + 1, actors):
            yield _joined([(actor,) * length for actor, length in zip(whose, lengths, strict=True)])


def _sequences(length: int, actors: int) -> Iterator[tuple[int, ...]]:
    """Give all sequences of actors in which no one comes twice in a row."""
    if length == 0:
        yield ()
        return
    for rest in _sequences(length - 1, actors):
        for actor in range(actors):
            if not rest or rest[-1] != actor:
                yield (*rest, actor)
