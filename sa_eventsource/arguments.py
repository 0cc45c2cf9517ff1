"""Checks of arguments that would be misunderstood in silence where they are of another type than the one declared."""

from __future__ import annotations

import operator
import typing
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias
from uuid import UUID

TimeAxis: TypeAlias = Literal["occurred", "recorded"]
"""One of an event's two times: when it happened (as it was then), or when it was written to the log (as we knew it then)."""

MAX_VERSION = 2**31 - 1
"""The highest version that a stream can have: the column is an ``integer``."""

MAX_POSITION = 2**63 - 1
_AXES = typing.get_args(TimeAxis)

EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
"""What times of events lie between: a day within Python's years: a database shows them in a zone of its own."""


def whole_number(name: str, value: Any, *, minimum: int, meaning: str, maximum: int = MAX_POSITION) -> int:
    """Take an argument that must be a whole number, as ``range()`` does: an ``int``, or what has ``__index__`` (as NumPy's have).

    Args:
        name: The argument's name, for the message.
        value: What the caller gave.
        minimum: The smallest number that makes sense.
        meaning: What is wanted, for the message: "a version; versions count from 1".
        maximum: The highest number that the database can hold there.

    Returns:
        The number as a plain ``int``.

    Raises:
        TypeError: *value* is no whole number; texts, floats, ``Decimal``, ``None`` and ``bool`` are not.
        ValueError: *value* is below *minimum* or above *maximum*.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be {meaning}, not {value!r}, which is of type {type(value).__name__}")
    if number < minimum:
        raise ValueError(f"{name} must be {meaning}, not {number}")
    if number > maximum:
        raise ValueError(f"{name} must be {meaning}, not {number}; the highest possible is {maximum}")
    return number


def version_number(name: str, value: Any, *, minimum: int, meaning: str) -> int:
    """Take an argument that must be a version. As :func:`whole_number`."""
    return whole_number(name, value, minimum=minimum, meaning=meaning, maximum=MAX_VERSION)


def check_moment(name: str, value: Any) -> None:
    """Refuse what is no moment.

    Args:
        name: The argument's name, for the message.
        value: What the caller gave.

    Raises:
        TypeError: *value* is no ``datetime``.
        ValueError: It has no time zone.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime with a time zone, such as datetime.now(UTC), not {value!r}")
    if value.utcoffset() is None:
        raise ValueError(f"{name} {value!r} has no time zone; pass an aware time, such as datetime.now(UTC)")


def comparable_moment(moment: datetime) -> datetime:
    """Get a moment that compares with those of all events as *moment* does, and that every database takes.

    In UTC, ``datetime.max`` of a zone west of it lies in the year 10000, for which Python has no ``datetime``.

    Args:
        moment: The moment, with a time zone.
    """
    return max(EARLIEST - timedelta(microseconds=1), min(moment, LATEST))


def check_moment_of_event(name: str, value: Any) -> None:
    """Refuse what is no moment, or one that could not be read from the log again. As :func:`check_moment`.

    Raises:
        ValueError: It also lies outside of the years 1 to 9999 in UTC, or within a day of their ends.
    """
    check_moment(name, value)
    if not EARLIEST <= value < LATEST:
        raise ValueError(f"{name} {value!r} cannot be read back from a database; it must lie from {EARLIEST} to {LATEST}")


def check_uuid(name: str, value: Any) -> None:
    """Refuse what is no ``UUID``, though it may be the text of one.

    Args:
        name: The argument's name, for the message.
        value: What the caller gave.

    Raises:
        TypeError: *value* is none.
    """
    if not isinstance(value, UUID):
        raise TypeError(f"{name} must be a UUID, not {value!r}, which is of type {type(value).__name__}; pass uuid.UUID(...)")


def check_axis(value: Any) -> None:
    """Refuse what is no time axis.

    Raises:
        ValueError: *value* is neither ``"occurred"`` nor ``"recorded"``.
    """
    if value not in _AXES:
        raise ValueError(
            f'axis must be "occurred" (when it happened) or "recorded" (when it was written to the log), not {value!r}'
        )


def check_age(value: Any) -> None:
    """Refuse what is no age of rows that are to be deleted.

    Raises:
        TypeError: *value* is no ``timedelta``.
        ValueError: It is negative.
    """
    if not isinstance(value, timedelta):
        raise TypeError(f"older_than must be a timedelta, such as timedelta(days=30), not {value!r}")
    if value < timedelta(0):
        raise ValueError(f"older_than must be 0 or more, not {value}")


def check_timeout(value: Any) -> None:
    """Refuse what is no number of seconds to wait, before anything is done that would be waited for.

    Raises:
        TypeError: *value* is no number.
        ValueError: It is negative, or no number of seconds at all.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"timeout must be a number of seconds, not {value!r}")
    if not value >= 0:
        raise ValueError(f"timeout must be 0 or more seconds, not {value!r}")


def check_written(function: str, argument: str, value: object) -> None:
    """Refuse a text that is kept for the record, such as a reason, and says nothing.

    Args:
        function: What was called, for the message: "archive".
        argument: The argument's name.
        value: What the caller gave.

    Raises:
        TypeError: It is no text.
        ValueError: It is empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"{function}({argument}={value!r}): write a text")
    if not value.strip():
        raise ValueError(f"{function}({argument}={value!r}): write a text, for the record")
