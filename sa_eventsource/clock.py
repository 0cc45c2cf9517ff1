"""Which time it is for what the application applies: now, unless a test says otherwise."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_frozen: ContextVar[datetime | None] = ContextVar("sa_eventsource_clock", default=None)


def now() -> datetime:
    """Get the present moment, in UTC."""
    return _frozen.get() or datetime.now(UTC)


@contextmanager
def frozen_at(moment: datetime) -> Iterator[None]:
    """Have it be one moment within the block, for this thread or task."""
    token = _frozen.set(moment)
    try:
        yield
    finally:
        _frozen.reset(token)
