"""Where in the log a follower begins: with its first event, behind a position or a time, or with what comes from now on."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from sa_eventsource.arguments import check_moment, whole_number

Place: TypeAlias = Literal["beginning"] | datetime | int
"""A place in the log: before its first event, before the first that was recorded at a time or later, or behind a position."""

Start: TypeAlias = Place | Literal["now"]
"""Where a new follower begins: at a place in the log, or behind all that is visible when it is first looked after."""


def check_place(name: str, value: object, *, words: tuple[str, ...] = ("beginning",)) -> None:
    """Refuse what is no place in the log.

    Args:
        name: The argument's name, for the message.
        value: What the caller gave.
        words: The texts that mean one.

    Raises:
        TypeError: *value* is neither one of the words nor a time nor a whole number.
        ValueError: It is a time without a time zone, or a negative number.
    """
    if isinstance(value, datetime):
        check_moment(name, value)
    elif value not in words:
        known = ", ".join(f'"{word}"' for word in words)
        whole_number(name, value, minimum=0, meaning=f"{known}, a datetime with a time zone, or a position, which is 0 or more")
