"""A sample of keys that is drawn alike from the log and from the stored rows."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_VALUES = 2**32


@dataclass(frozen=True, slots=True)
class Sample:
    """Which keys are looked at.

    A key's digest decides, so that rows which are in the log only, or in the table only, are drawn as well as others.

    Attributes:
        size: About how many; None for all.
        seed: Another one draws others.
    """

    size: int | None
    seed: int

    def of(self, total: int) -> Callable[[str], bool]:
        """Make the function that decides whether a key out of so many is drawn."""
        if self.size is None or total <= self.size:
            return lambda _: True
        limit = self.size * _VALUES // total
        prefix = zlib.crc32(f"{self.seed}:".encode())
        return lambda key: zlib.crc32(key.encode("utf-8", "surrogatepass"), prefix) < limit
