"""Waiting for what must happen, with a limit that is a failure."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(reached: Callable[[], object], what: str = "nothing happens", seconds: float = 60) -> None:
    """Ask again and again until something is reached.

    What asks ``pg_stat_activity`` does so in autocommit: a transaction sees the sessions as they were at its first look.

    Args:
        reached: Tells whether it is.
        what: What to say if it is not.
        seconds: For how long.
    """
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, what
        time.sleep(0.005)
