"""PostgreSQL's ``pg_snapshot`` as a value: which transactions of a cluster were visible at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What PostgreSQL writes as ``xmin:xmax:running``.

    Attributes:
        xmin: All transactions below it had ended.
        xmax: It and all transactions above had not begun.
        running: Those in between that had not ended, in ascending order.
    """

    xmin: int
    xmax: int
    running: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what PostgreSQL, or ``str()``, has written.

        Raises:
            ValueError: *text* is no snapshot.
        """
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), tuple(sorted(int(transaction) for transaction in running.split(",") if transaction)))

    def __str__(self) -> str:
        """Write it as PostgreSQL does."""
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.running))}"

    @property
    def age(self) -> tuple[int, int, int]:
        """A key that sorts the snapshots of one cluster by the time at which they were taken."""
        # Of two snapshots with the same end, the later one has fewer transactions running.
        return self.xmax, -len(self.running), self.xmin

    def sees_all_of(self, other: Snapshot) -> bool:
        """Check whether this one was taken at the same time as *other* or later: all that *other* sees is visible in it too."""
        return self.xmax >= other.xmax and all(
            transaction in other.running for transaction in self.running if transaction < other.xmax
        )

    def without(self, transaction: int) -> Snapshot:
        """The same, except for one transaction that is not to be seen yet."""
        if transaction >= self.xmax:
            return self
        return Snapshot(min(self.xmin, transaction), self.xmax, tuple(sorted({*self.running, transaction})))
