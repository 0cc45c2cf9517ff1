"""Lines of an exported log, made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

from sa_eventsource.mapping import as_json, json_object

HEADER = '{"format":"sa_eventsource.events","format_version":2,"exported_at":"2026-05-04T12:00:00+00:00"}'
OLD_HEADER = HEADER.replace('"format_version":2', '"format_version":1')


def members(number: int, **changes: str | None) -> dict[str, str]:
    """Make the members of the *number*-th event of one stream, as JSON texts, in an export's order; None leaves one out."""
    values: dict[str, str | None] = {
        "position": str(number),
        "event_id": f'"{UUID(int=number)}"',
        "aggregate_type": '"Order"',
        "aggregate_id": '"o-1"',
        "version": str(number),
        "event_type": '"shop.NoteAdded"',
        "event_version": "1",
        "event_data": '{"text":"hello"}',
        "metadata": "null",
        "occurred_at": '"2026-05-04T12:00:00.123456+00:00"',
        "correlation_id": "null",
        "causation_id": "null",
        "recorded_at": '"2026-05-09T08:00:00.654321+00:00"',
        **changes,
    }
    return {name: text for name, text in values.items() if text is not None}


def line(number: int, **changes: str | None) -> str:
    """Make the line of the *number*-th event of one stream."""
    return json_object(members(number, **changes))


def header(count: object) -> str:
    """Make a header that says how many events there are."""
    return f'{HEADER[:-1]},"count":{as_json(count)}}}'


def exactly(text: str) -> object:
    """Read a line with the digits of numbers as they are, without its position."""
    values: dict[str, object] = json.loads(text, parse_float=_digits, parse_int=_digits)
    del values["position"]
    return values


def _digits(text: str) -> tuple[str, str]:
    return ("number", text)


def in_lines(events: Sequence[Mapping[str, str]]) -> list[str]:
    """Put a header before events."""
    return [HEADER, *(json_object(event) for event in events)]
