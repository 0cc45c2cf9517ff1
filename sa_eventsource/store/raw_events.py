"""Events as they are stored: rows with payload and metadata as text, whether or not a class can read them, and rows as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, select

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row, Table


_DOCUMENTS = ("event_data", "metadata")

NOT_JSON = "not_json"
"""Name of the member that holds what should be JSON and is not."""


def select_raw_events(events: Table) -> Any:
    """Build a SELECT of all columns of events, ``event_data`` and ``event_metadata`` as the JSON text that is stored."""
    columns = events.c
    return select(
        columns.position,
        columns.event_id,
        columns.aggregate_type,
        columns.aggregate_id,
        columns.version,
        columns.event_type,
        columns.event_version,
        columns.occurred_at,
        columns.recorded_at,
        cast(columns.event_data, Text).label("event_data"),
        cast(columns.metadata, Text).label("event_metadata"),
        columns.correlation_id,
        columns.causation_id,
        columns.transaction_id,
    )


def event_members(row: Row[Any]) -> dict[str, str]:
    """Give the columns of a row of :func:`select_raw_events` as JSON texts by name, all but the transaction's id.

    Payload and metadata are taken over as the text they are, so that no number loses a digit. SQLite lets other programs store what
    is no JSON; such a text stands, quoted, in a member ``not_json``.
    """
    members = {
        "position": str(row.position),
        "event_id": f'"{row.event_id}"',
        "aggregate_type": as_json(row.aggregate_type),
        "aggregate_id": as_json(row.aggregate_id),
        "version": str(row.version),
        "event_type": as_json(row.event_type),
        "event_version": str(row.event_version),
        "occurred_at": f'"{row.occurred_at.isoformat()}"',
        "recorded_at": f'"{row.recorded_at.isoformat()}"',
        "event_data": row.event_data,
        "metadata": "null" if row.event_metadata is None else row.event_metadata,
        "correlation_id": "null" if row.correlation_id is None else f'"{row.correlation_id}"',
        "causation_id": "null" if row.causation_id is None else f'"{row.causation_id}"',
    }
    broken = {name: members[name] for name in _DOCUMENTS if not _is_json(members[name])}
    for name in _DOCUMENTS:
        # Strings hold their line breaks escaped: what is here stands between tokens.
        members[name] = "null" if name in broken else members[name].replace("\r", " ").replace("\n", " ")
    return {**members, NOT_JSON: as_json(broken)} if broken else members


def as_json(value: object) -> str:
    """Write a value as JSON text, with characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_object(members: Mapping[str, str]) -> str:
    """Write a JSON object whose values are JSON texts already."""
    return "{" + ",".join(f"{as_json(name)}:{text}" for name, text in members.items()) + "}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except RecursionError:
        return True  # nested deeper than Python reads, which is no fault of the text
    except ValueError:
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
