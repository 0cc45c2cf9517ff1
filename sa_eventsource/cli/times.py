"""Times on the command line."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta

from sa_eventsource.cli.errors import UsageError


class Axis(enum.Enum):
    """Which of an event's two times an option means."""

    OCCURRED = "occurred"
    RECORDED = "recorded"


_LATE = timedelta(seconds=1)


def for_people(moment: datetime) -> str:
    """Write a time in UTC, to the millisecond."""
    return moment.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def is_late(occurred_at: datetime, recorded_at: datetime) -> bool:
    """Check whether an event was recorded at another time than it happened, as far as people care."""
    return abs(recorded_at - occurred_at) >= _LATE


def parse_time(text: str | None, option: str) -> datetime | None:
    """Read a time in ISO 8601; None if none was given. As :func:`read_time`."""
    return None if text is None else read_time(text, option)


def read_time(text: str, option: str, *, instead: str = "; write it like 2026-05-04T12:00:00Z") -> datetime:
    """Read a time in ISO 8601.

    Args:
        text: The time, with its offset from UTC.
        option: The option it was given to, for the message.
        instead: What to write instead of what is no time.

    Raises:
        UsageError: It is no time, or has no offset.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a time in ISO 8601{instead}") from None
    if moment.tzinfo is None:
        raise UsageError(f"{option}: {text!r} has no offset; write it, such as {moment.isoformat()}+00:00 or {moment.isoformat()}Z")
    return moment
