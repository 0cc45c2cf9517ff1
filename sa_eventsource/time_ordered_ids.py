"""Ids that sort by the time they were made."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_maker: ContextVar[Callable[[], UUID] | None] = ContextVar("sa_eventsource_ids", default=None)


def uuid7() -> UUID:
    """Make a UUID of version 7, so that index entries made one after the other lie side by side.

    The first 48 bits are Unix milliseconds, the next 12 the fraction of that millisecond (RFC 9562, section 6.2, method 3), the
    rest is random. Ids of one process sort by the time they were made to about a quarter of a microsecond; no order within that.
    """
    make = _maker.get()
    if make is not None:
        return make()
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=(milliseconds << 80) | (0x7000 | fraction) << 64 | (0b10 << 62) | random)


@contextmanager
def ids_made_by(make: Callable[[], UUID]) -> Iterator[None]:
    """Have a test's function make the ids within the block, for this thread or task."""
    token = _maker.set(make)
    try:
        yield
    finally:
        _maker.reset(token)
