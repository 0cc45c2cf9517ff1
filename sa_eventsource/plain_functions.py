"""Functions that the library calls: plain ones, since calling a coroutine or generator function runs nothing of it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Any

from sa_eventsource.exceptions import DeclarationError

_KINDS = (
    (inspect.iscoroutinefunction, "a coroutine function (async def)"),
    (inspect.isasyncgenfunction, "an asynchronous generator function (async def with yield)"),
    (inspect.isgeneratorfunction, "a generator function (it has a yield)"),
)


def check_plain(where: str, function: Any, advice: str) -> None:
    """Refuse a function of which a call would run nothing.

    Args:
        where: What the function is, for the message.
        function: The function, a method, or an object that can be called.
        advice: What to write instead: a sentence.

    Raises:
        DeclarationError: It is a coroutine or generator function.
    """
    function = getattr(function, "__func__", function)
    for each in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - its code, not whether there is one
        for is_one, kind in _KINDS:
            if is_one(each):
                raise DeclarationError(f"{where} is {kind}: a call would run nothing of it. {advice}")


def takes(function: Any, number: int) -> bool:
    """Check whether a function can be called with so many arguments, given by place."""
    try:
        inspect.signature(function).bind(*[None] * number)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


def check_ran(where: str, result: object, advice: str) -> None:
    """Refuse what a call gave if it shows that nothing has run: a wrapper hides what kind of function is behind it.

    Args:
        where: What was called, for the message.
        result: What it returned, if not None.
        advice: What to write instead: a sentence.

    Raises:
        TypeError: It is a coroutine or a generator.
    """
    if isinstance(result, Awaitable | Generator | AsyncGenerator):
        if inspect.iscoroutine(result):
            result.close()  # or Python warns that it was never awaited
        raise TypeError(f"{where} returned {type(result).__name__} {result!r}: nothing of it has run. {advice}")
