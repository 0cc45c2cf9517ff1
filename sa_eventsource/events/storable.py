"""What no database stores, or no text says: found in a value and in all that it holds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel

from sa_eventsource.events.comparison import path_to, undeclared
from sa_eventsource.exceptions import EventPayloadError

_LONGEST = 4_000
"""A text that is not longer holds no number that Python refuses to read: those have more than 4,300 digits."""


def is_suspicious(text: str) -> bool:
    """Check whether a JSON text may hold what cannot be stored, or not be read again."""
    return "\\u0000" in text or "NaN" in text or "Infinity" in text or len(text) > _LONGEST


def refuse_unstorable(name: str, value: object) -> None:
    """Refuse a value that holds what cannot be stored.

    Args:
        name: The event's type, or what else the value is.
        value: The value.

    Raises:
        EventPayloadError: It does.
    """
    for field, reason in _unstorable(value, ""):
        raise EventPayloadError(name, field, reason)


def _unstorable(value: object, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case str() if "\x00" in value:
            yield path, "it holds a NUL character, which PostgreSQL cannot store"
        case float() if not math.isfinite(value):
            yield path, f"{value} is not a number that JSON can hold"
        case Decimal() if not value.is_finite():
            yield path, f"{value} is not a number that JSON can hold"
        case datetime() if value.utcoffset() is None:
            yield path, "it has no time zone; pass an aware time, such as datetime.now(UTC)"
        case _:
            if isinstance(value, BaseModel):
                for name in undeclared(value):
                    yield path_to(name, path), f"{type(value).__name__} has no such field, so it would be lost; correct its name"
            for key, each in _members(value):
                inner = path_to(key, path)
                if isinstance(key, str) and "\x00" in key:
                    yield inner, "its key holds a NUL character, which PostgreSQL cannot store"
                yield from _unstorable(each, inner)


def _members(value: object) -> Iterator[tuple[object, object]]:
    match value:
        case BaseModel():
            yield from vars(value).items()
            yield from (value.__pydantic_extra__ or {}).items()
        case Mapping():
            yield from value.items()
        case list() | tuple() | set() | frozenset() | deque():
            yield from enumerate(value)
        case _ if hasattr(type(value), "__dataclass_fields__"):
            yield from ((name, getattr(value, name, None)) for name in type(value).__dataclass_fields__)  # type: ignore[attr-defined]
