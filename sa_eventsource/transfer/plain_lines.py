"""Lines of an export that need no further look: they are as an export writes them, letter by letter.

One pattern recognises such a line, and its parts hold what the log can hold. What a pattern cannot tell is left to the database,
which refuses it: days that no month has, payloads that are no JSON, or JSON that cannot be stored. All other lines may be right as
well; :func:`~sa_eventsource.transfer.export_format.read_event` looks at them closely, and says what is wrong with some.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sa_eventsource.mapping import MAX_NAME_LENGTH


class PlainEvent(NamedTuple):
    """The texts of an event's columns, in the order of an export; None where it has no value."""

    position: str
    event_id: str
    aggregate_type: str
    aggregate_id: str
    version: str
    event_type: str
    event_version: str
    event_data: str
    metadata: str | None
    occurred_at: str
    correlation_id: str | None
    causation_id: str | None
    recorded_at: str

    @property
    def stream(self) -> tuple[str, str]:
        """Type name and id of the stream."""
        return self.aggregate_type, self.aggregate_id


_DIGITS = r"0|[1-9][0-9]{0,17}"
_NUMBER = r"[1-9][0-9]{0,8}"
_SMALL = r"[1-9][0-9]{0,3}"
_NAME = rf'"([^"\\\x00-\x1f]{{1,{MAX_NAME_LENGTH}}})"'
_UUID = r'"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"'
# Not in the years at whose ends times can be written and not be read: the close look tells.
_TIME = r'"((?!0001|9999)[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?\+00:00)"'
# From the first brace to one that makes the rest of the line fit: what lies between is JSON, or the database refuses it.
_DOCUMENT = r"(\{[^\x00-\x1f]*\})"

_PATTERNS = {
    "position": f"({_DIGITS})",
    "event_id": _UUID,
    "aggregate_type": _NAME,
    "aggregate_id": _NAME,
    "version": f"({_NUMBER})",
    "event_type": _NAME,
    "event_version": f"({_SMALL})",
    "event_data": _DOCUMENT,
    "metadata": f"(?:null|{_DOCUMENT})",
    "occurred_at": _TIME,
    "correlation_id": f"(?:null|{_UUID})",
    "causation_id": f"(?:null|{_UUID})",
    "recorded_at": _TIME,
}
_LINE = re.compile(r"\{" + ",".join(f'"{name}":{_PATTERNS[name]}' for name in PlainEvent._fields) + r"\}\r?\n?")

_MOST_BRACKETS = 500
"""Documents with more may be nested more deeply than Python reads, though PostgreSQL does."""


def plain_event(line: str) -> PlainEvent | None:
    """Take a line apart that is as an export writes it; None for any other.

    Args:
        line: The line, with or without the characters that end it.
    """
    found = _LINE.fullmatch(line)
    if found is None or line.count("{") + line.count("[") > _MOST_BRACKETS:
        return None
    return PlainEvent._make(found.groups())


def copy_row(event: PlainEvent) -> str:
    """Write the columns behind the position as a row of ``COPY ... FROM STDIN``."""
    row = "\t".join(["\x00" if text is None else text for text in event[1:]])  # no text has a NUL
    return row.replace("\\", "\\\\").replace("\x00", "\\N") + "\n"
