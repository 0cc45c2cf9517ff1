"""When an event was recorded, as nearly as it can be known for one whose log did not keep that time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID_7 = 7
_BITS_BEHIND_THE_TIME = 80
_LONGEST = timedelta(days=365 * 8000)


def recording_time(event_id: UUID, occurred_at: datetime) -> datetime:
    """Estimate when an event was recorded.

    An event's id is made when the event is applied, shortly before it is written, and one of version 7 holds that moment to the
    millisecond. Of an event with another id nothing is known but ``occurred_at``. All were recorded by now.

    Args:
        event_id: The event's id.
        occurred_at: When it happened, with a time zone.
    """
    known = occurred_at.astimezone(UTC)
    if event_id.version == _UUID_7:
        # The 48 bits reach beyond the years that Python knows.
        known = _EPOCH + min(timedelta(milliseconds=event_id.int >> _BITS_BEHIND_THE_TIME), _LONGEST)
    return min(known, datetime.now(UTC))


_POSTGRESQL = (
    "least(CASE WHEN event_id::text ~ '^.{14}7.{4}[89ab]' "
    "THEN to_timestamp(('x' || translate(substr(event_id::text, 1, 13), '-', ''))::bit(48)::bigint / 1000.0) "
    "ELSE occurred_at END, clock_timestamp())"
)
_MILLISECONDS = " + ".join(
    f"((instr('0123456789abcdef', lower(substr(event_id, {digit}, 1))) - 1) << {4 * (12 - digit)})" for digit in range(1, 13)
)
_FORM = "'%Y-%m-%d %H:%M:%f000'"
_SQLITE = (
    "min(CASE WHEN substr(event_id, 13, 1) = '7' AND lower(substr(event_id, 17, 1)) IN ('8', '9', 'a', 'b') "
    f"THEN coalesce(strftime({_FORM}, ({_MILLISECONDS}) / 1000.0, 'unixepoch'), '9999') "
    f"ELSE occurred_at END, strftime({_FORM}, 'now'))"
)
RECORDING_TIME = {"postgresql": _POSTGRESQL, "sqlite": _SQLITE}
"""The same by dialect, as an expression over the columns of events; SQLite keeps an id as 32 hexadecimal digits."""
