"""What a run says of a guarantee."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Ruling: TypeAlias = Literal["held", "broken", "not tested"]

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says of one guarantee.

    Attributes:
        name: A short name that does not change.
        guarantee: What is guaranteed.
        count: How often it was put to the test.
        unit: What was counted.
        problems: How it was broken; the first twenty of them.
        broken: How often.
    """

    name: str
    guarantee: str
    count: int
    unit: str
    problems: tuple[str, ...] = field(default=())
    broken: int = 0

    @classmethod
    def of(cls, name: str, guarantee: str, count: int, unit: str, problems: Iterable[str]) -> Verdict:
        """Rule on what was found."""
        found = list(problems)
        return cls(name, guarantee, count, unit, tuple(found[:_SHOWN]), len(found))

    @property
    def ruling(self) -> Ruling:
        """Whether it held; what was never put to the test has not."""
        if self.broken:
            return "broken"
        return "held" if self.count else "not tested"
