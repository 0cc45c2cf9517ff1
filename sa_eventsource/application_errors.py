"""What code of the application raises: what it says, in words that can be stored, and whether it is that code's failure alone.

A handler may raise anything: an error whose ``__str__`` raises, one with half of a surrogate pair in its text, ``SystemExit`` from
a library for command lines. None of them may end the worker that called it, and again at each start.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType


def text_of(error: BaseException) -> str:
    """Get what an error says, as far as databases and logs can hold it; also where its ``__str__`` raises."""
    try:
        text = str(error)
    except BaseException as raised:
        if ends_program(raised):
            raise
        text = f"what it says is not known: its __str__ raises {type(raised).__name__}"
    return storable(text)


def traceback_of(error: BaseException) -> str:
    """Write an error with its traceback and its causes, as far as databases and logs can hold them."""
    return storable(_traceback(error)).rstrip()


def is_loggable(error: BaseException) -> bool:
    """Check whether a log can hold an error's traceback: else its line would not be written, as into a file."""
    text = _traceback(error)
    return storable(text) == text


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as raised:  # noqa: BLE001 - attributes of the application's own, which a traceback looks at
        return f"{type(error).__name__}: the traceback cannot be written: {type(raised).__name__}"


def storable(text: str) -> str:
    r"""Write ``\x00`` and ``\udcff`` for what PostgreSQL's text and UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


def ends_program(error: BaseException, *, awaited: bool = False) -> bool:
    """Check whether what came out of code of the application is meant for those who called the library, and not its failure.

    That is an interrupt, what a signal's handler raised, as ``sys.exit()`` for SIGTERM, and the end of the task or the greenlet
    that the code ran in. ``SystemExit`` as such is not: a handler has no program to end.

    Args:
        error: What was raised.
        awaited: Whether the code runs in a task of asyncio, which can be cancelled or closed around it.
    """
    if isinstance(error, Exception):
        return False
    if isinstance(error, BaseExceptionGroup):
        return any(ends_program(each, awaited=awaited) for each in error.exceptions)
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "GreenletExit" or _came_by_signal(error):
        return True
    if isinstance(error, asyncio.CancelledError):
        return awaited and _is_cancelled()
    return awaited and isinstance(error, GeneratorExit)


def _is_cancelled() -> bool:
    """Check whether the task that is at work is being cancelled: if not, it was one that it has waited for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _came_by_signal(error: BaseException) -> bool:
    """Check whether a function that handles a signal is among those that the error came through."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers = {_code_of(signal.getsignal(each)) for each in signal.valid_signals()}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


def _code_of(function: Any) -> CodeType | None:
    while isinstance(function, partial):
        function = function.func
    code: CodeType | None = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return code
