"""Drawing a schedule at random so that each has a fair chance: probabilistic concurrency testing.

Actors have priorities, and the first of those that can make a step makes it. At a few steps, drawn beforehand, the one whose
turn it would be becomes the last. A race that needs *d* steps in a certain order is met with a probability of at least 1 /
(actors · steps^(d - 1)) in each run, where a choice at every step would need luck at every step.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHANGES = 4


class Priorities:
    """Chooses for one run."""

    def __init__(self, seed: str, actors: int, steps: int) -> None:
        """Draw priorities and where they change.

        Args:
            seed: The same one gives the same choices.
            actors: How many there are.
            steps: How many steps a run has, about.
        """
        chance = random.Random(seed)  # noqa: S311 - no secret
        self._order = chance.sample(range(actors), actors)
        self._changes = {chance.randrange(max(steps, 1)) for _ in range(chance.randint(1, _CHANGES))}
        self._step = -1

    def __call__(self, able: Sequence[int], _last: int | None) -> int:
        """Choose among the actors that can make a step."""
        self._step += 1
        chosen = next(each for each in self._order if each in able)
        if self._step in self._changes:
            self._order.remove(chosen)
            self._order.append(chosen)
            chosen = next(each for each in self._order if each in able)
        return chosen
