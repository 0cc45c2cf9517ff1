"""Events as rows that a statement reads from a JSON array, in the place of those that are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.events import encode, encode_metadata
from sa_eventsource.mapping import READ, json_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sa_eventsource.events import RecordedEvent


def events_as_rows(events: Iterable[RecordedEvent[Any]]) -> str:
    """Write events in their present shape as rows of the log, a JSON array."""
    return "[" + ",".join([json_row(_as_row(recorded), READ) for recorded in events]) + "]"


def _as_row(recorded: RecordedEvent[Any]) -> dict[str, Any]:
    event_type, data, metadata = type(recorded.event).__event_type__, encode(recorded.event), encode_metadata(recorded.metadata)
    values = {name: getattr(recorded, name) for name in READ if name != "event_data"}
    return {**values, "event_type": event_type, "event_data": data, "metadata": metadata}
