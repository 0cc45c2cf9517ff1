"""Why nobody goes on: who waits for each other in a circle, and where a thread is that does not come back."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence


def circle(whom: Mapping[int, Sequence[int]]) -> list[int]:
    """Find some that wait for each other, directly or by way of others.

    Args:
        whom: For each that waits, for whom.

    Returns:
        Those of one circle, in order; empty if there is none.
    """
    for start in sorted(whom):
        if start in reached(whom, start):
            return sorted(each for each in reached(whom, start) if start in reached(whom, each))
    return []


def reached(whom: Mapping[int, Sequence[int]], start: int) -> set[int]:
    """Give those that one waits for, directly or by way of others."""
    others: set[int] = set()
    fresh = [start]
    while fresh:
        fresh = [other for each in fresh for other in whom.get(each, ()) if other not in others]
        others.update(fresh)
    return others


def place_of(thread: threading.Thread | None) -> str:
    """Say at which line a thread is, for the end of a message; nothing where that is not known."""
    frame = None if thread is None or thread.ident is None else sys._current_frames().get(thread.ident)  # noqa: SLF001 - documented
    if frame is None:
        return ""
    place = traceback.extract_stack(frame)[-1]
    return f"; it is at {place.filename}:{place.lineno}, in {place.name}()"
