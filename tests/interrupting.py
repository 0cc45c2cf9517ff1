"""Commits that are interrupted: a signal is looked for where a function of Python begins."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

from sqlalchemy.orm import Session


def is_interrupted(session: Session, number: int, counts: Callable[[FrameType], bool]) -> bool:
    """Commit, and raise KeyboardInterrupt as a signal does where the given one of some functions begins.

    Args:
        session: The session.
        number: Which of the calls is interrupted; they count from 1.
        counts: Tells by its frame whether a call counts.

    Returns:
        Whether there were as many calls.
    """
    calls = 0

    def trace(frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal calls
        if counts(frame):
            calls += 1
            if calls == number:
                sys.settrace(None)
                raise KeyboardInterrupt

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        session.commit()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(outer)
    return False
