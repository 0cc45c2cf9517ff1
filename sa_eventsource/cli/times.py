"""Times on the command line."""

from __future__ import annotations

from datetime import datetime

from sa_eventsource.cli.errors import UsageError


def parse_time(text: str | None, option: str) -> datetime | None:
    """Read a time in ISO 8601; None if none was given.

    Args:
        text: The time, with its offset from UTC.
        option: The option it was given to, for the message.

    Raises:
        UsageError: It is no time, or has no offset.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is no time in ISO 8601; write it like 2026-05-04T12:00:00Z") from None
    if moment.tzinfo is None:
        raise UsageError(f"{option}: {text!r} has no offset; write it, such as {moment.isoformat()}+00:00 or {moment.isoformat()}Z")
    return moment
