"""The threads in which pages wait for the database: of the browsers' own, so that they take none from the application."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")

MOST = 10
"""How many pages are made at once in an event loop. Each holds one connection, of the 15 that an engine opens by default: where the
application shares the engine, it keeps the others."""

_limiter: RunVar[CapacityLimiter] = RunVar("sa_eventsource_browser_threads")


async def in_thread(function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call a function in a thread; where as many run already, when one of them is done.

    Starlette's ``run_in_threadpool`` would take one of the 40 threads in which the application's own plain functions run.
    """
    return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=_limiter_here())


def _limiter_here() -> CapacityLimiter:
    """Get the running event loop's limiter: one cannot wait in several loops, as there are behind WSGI and in tests."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(MOST)
        _limiter.set(limiter)
        return limiter
