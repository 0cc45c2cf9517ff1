"""Work on a session that nobody cuts off in the middle, also where the task that wants it is cancelled."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from sa_eventsource.consumers import is_handling
from sa_eventsource.store import message_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

log = logging.getLogger("sa_eventsource.worker")

T = TypeVar("T")

_LOOK_UP = 0.05
_PATIENCE = 5.0
"""Seconds between two looks at work that is to end, and until what it asks the database is cancelled all the same."""


async def uncut(session: AsyncSession, work: Callable[[Session], T]) -> T:
    """Work in a task of its own, so that being cancelled cuts off nothing but handlers.

    Between what the driver does and what SQLAlchemy notes of it, a connection would go back to the pool as it is: in autocommit, or
    at another isolation level, for whoever gets it next; or it would not go back at all.

    Args:
        session: The session. It is in the hands of the work until this returns.
        work: What to do.
    """
    working = asyncio.create_task(session.run_sync(work), name="sa_eventsource worker at work")
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await _end(working, session.sync_session)
        raise


async def _end(working: asyncio.Task[T], session: Session) -> None:
    """Wait for the end of a task, and cancel it while a handler is at work; whatever it raises is nobody's matter any more."""
    patience = time.monotonic() + _PATIENCE
    while not working.done():
        if is_handling(session) or time.monotonic() >= patience:
            working.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([working], timeout=_LOOK_UP)
    if not working.cancelled() and (error := working.exception()) is not None:
        log.warning("the worker was cancelled; what it was at has failed: %s", message_of(error))
