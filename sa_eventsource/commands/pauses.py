"""Pauses between attempts at what lost a race."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST = 0.01
_LONGEST = 1.0


def pauses_between(attempts: int) -> Iterator[float]:
    """Draw random pauses in seconds, growing, one less than there are attempts."""
    for number in range(attempts - 1):
        yield random.uniform(0, min(_FIRST * 2**number, _LONGEST))  # noqa: S311 - no secret
