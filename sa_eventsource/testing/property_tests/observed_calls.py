"""Finding out what a function asks that another run would answer otherwise: the clock, chance, the session, files, the network.

Python reports each call of a thread to a profile function: those of functions in C by the function itself, so that it is known by
whatever name it is called.
"""

from __future__ import annotations

import datetime as dt
import gc
import io
import os
import random
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

T = TypeVar("T")

_CLOCKS = {time.time, time.time_ns, time.monotonic, time.monotonic_ns, time.perf_counter, time.perf_counter_ns, time.process_time}
_FILES = {io.open, os.open, os.listdir, os.stat}
_CHANCE = random.random.__self__  # type: ignore[attr-defined]  # a generator of the application's own, with a seed, is its own affair
_SQLALCHEMY = os.path.dirname(sqlalchemy.__file__) + os.sep  # noqa: PTH120 - compared with texts, and often
_SESSIONS = tuple(
    _SQLALCHEMY + each.replace("/", os.sep) for each in ("orm/session.py", "ext/asyncio/session.py", "engine/base.py")
)
_HARMLESS = ("logging", "warnings")
"""Modules that may ask what they like: nothing of it comes into the state."""


class Observation:
    """What was found while functions ran."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.found: list[str] = []

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function, and note what it asks."""
        before, depth = sys.getprofile(), sys._getframe()  # noqa: SLF001 - the only way to know where the function begins

        def note(frame: FrameType, event: str, subject: Any) -> None:
            asked = _of_c_function(subject) if event == "c_call" else _of_frame(frame) if event == "call" else None
            if asked is not None and not _is_harmless(frame, depth):
                self.found.append(f"{asked}, in {_place(frame, depth)}")

        collects = gc.isenabled()
        gc.disable()  # what listens to the garbage collector, as Hypothesis does, and what it destroys, would be observed too
        sys.setprofile(note)
        try:
            return function(*arguments)
        finally:
            sys.setprofile(before)
            if collects:
                gc.enable()


def _of_c_function(function: Any) -> str | None:
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if name in {"now", "utcnow", "today"} and isinstance(owner, type) and issubclass(owner, dt.date):
        return f"the clock ({owner.__name__}.{name})"
    if function in _CLOCKS:
        return f"the clock (time.{name})"
    if owner is _CHANCE or function is os.urandom or isinstance(owner, random.SystemRandom):
        return f"chance ({'os.urandom' if function is os.urandom else 'random'})"
    if function in _FILES:
        return f"a file ({name})"
    if isinstance(owner, socket.socket):
        return "the network"
    return None


def _of_frame(frame: FrameType) -> str | None:
    return f"the session ({frame.f_code.co_qualname})" if frame.f_code.co_filename in _SESSIONS else None


def _is_harmless(frame: FrameType, end: FrameType) -> bool:
    return any(each.f_globals.get("__name__", "").partition(".")[0] in _HARMLESS for each in _frames(frame, end))


def _place(frame: FrameType, end: FrameType) -> str:
    """Name the outermost function that is at work: the one that the application has written."""
    *_, outermost = _frames(frame, end)
    return f"{outermost.f_code.co_qualname}, line {outermost.f_lineno}"


def _frames(frame: FrameType | None, end: FrameType) -> list[FrameType]:
    found = []
    while frame is not None and frame is not end:
        found.append(frame)
        frame = frame.f_back
    return found
