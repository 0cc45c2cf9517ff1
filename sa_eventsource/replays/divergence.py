"""Where two replays of a stream have different states."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.replays.replayed_steps import Replay


@dataclass(frozen=True, slots=True)
class Difference:
    """Versions, one after the other, at which a field has different values.

    Attributes:
        field: The field.
        first: The first of them.
        last: The last of them.
    """

    field: str
    first: int
    last: int


@dataclass(frozen=True)
class Divergence:
    """Where two replays have different states. Fields that only one of the classes has are named, and are no difference.

    Attributes:
        differences: The differences, by the version that each begins at.
        only_here: Fields that only the first class has.
        only_there: Fields that only the second class has.
        last: The last version that both came to; 0 for none.
    """

    differences: Sequence[Difference]
    only_here: Sequence[str]
    only_there: Sequence[str]
    last: int

    @classmethod
    def between(cls, here: Replay, there: Replay) -> Divergence:
        """Compare two replays of one stream."""
        both = [name for name in here.fields if name in there.fields]
        found: list[Difference] = []
        since: dict[str, int] = {}
        ours: dict[str, str | None] = {}
        theirs: dict[str, str | None] = {}
        version = 0
        for one, other in zip(here.steps, there.steps, strict=False):
            version = one.version
            ours.update(one.digests)
            theirs.update(other.digests)
            for name in {*one.digests, *other.digests}.intersection(both):
                if ours.get(name) != theirs.get(name):
                    since.setdefault(name, version)
                elif name in since:
                    found.append(Difference(name, since.pop(name), version - 1))
        found += [Difference(name, first, version) for name, first in since.items()]
        order = {name: number for number, name in enumerate(both)}
        return cls(
            # A state before the first event is no version that anybody can look at.
            sorted(
                (Difference(each.field, max(each.first, 1), each.last) for each in found if each.last),
                key=lambda each: (each.first, order[each.field]),
            ),
            [name for name in here.fields if name not in order],
            [name for name in there.fields if name not in order],
            version,
        )

    @cached_property
    def beginnings(self) -> Sequence[int]:
        """The versions at which a field begins to differ."""
        return sorted({each.first for each in self.differences})

    @property
    def parted(self) -> int | None:
        """The first version at which they differ; None where they are the same."""
        return self.beginnings[0] if self.beginnings else None

    def fields_at(self, version: int) -> list[str]:
        """List the fields that differ at a version."""
        return [each.field for each in self.differences if each.first <= version <= each.last]

    def before(self, version: int) -> int | None:
        """Find the last version before one at which a field begins to differ."""
        place = bisect_left(self.beginnings, version)
        return self.beginnings[place - 1] if place else None

    def after(self, version: int) -> int | None:
        """Find the next version after one at which a field begins to differ."""
        place = bisect_right(self.beginnings, version)
        return self.beginnings[place] if place < len(self.beginnings) else None
