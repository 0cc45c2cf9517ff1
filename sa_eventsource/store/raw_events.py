"""Events as they are stored: rows with payload and metadata as text, whether or not a class can read them, and rows as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, select

from sa_eventsource.mapping import DOCUMENTS, EVENT_COLUMNS, EXPORTED, as_json, json_members

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, FromClause, Row


def select_raw_events(
    events: FromClause, payload: ColumnElement[str] | None = None, metadata: ColumnElement[str] | None = None
) -> Any:
    """Build a SELECT of all columns of events, ``event_data`` and ``event_metadata`` as the JSON text that is stored.

    Args:
        events: The log.
        payload: What to give as ``event_data`` in its place; None for what is stored.
        metadata: Likewise as ``event_metadata``.
    """
    columns = {each.name: stored_text(events, each.name) for each in EVENT_COLUMNS}
    if payload is not None:
        columns["event_data"] = payload.label("event_data")
    if metadata is not None:
        columns["metadata"] = metadata.label("event_metadata")
    return select(*columns.values())


def stored_text(events: FromClause, name: str) -> Any:
    """Select a column of events, a document as the JSON text that is stored; metadata under a name that rows do not have."""
    label = "event_metadata" if name == "metadata" else name
    return cast(events.c[name], Text).label(label) if name in DOCUMENTS else events.c[name]


def event_members(row: Row[Any]) -> dict[str, str]:
    """Give the columns of a row of :func:`select_raw_events` as JSON texts by name, all but the transaction's id.

    SQLite lets other programs store what is not JSON; such a text stands, quoted, in a member ``not_json``.
    """
    members = stored_members(row)
    broken = not_json(row)
    members |= dict.fromkeys(broken, "null")
    return {**members, "not_json": as_json(broken)} if broken else members


def stored_members(row: Row[Any]) -> dict[str, str]:
    """Give the columns of a row whose documents are known to be JSON; otherwise as :func:`event_members`."""
    members = json_members({**row._mapping, "metadata": row.event_metadata}, EXPORTED)  # noqa: SLF001 - SQLAlchemy's public name
    for name in DOCUMENTS:
        # Strings hold their line breaks escaped: what is here stands between tokens.
        members[name] = members[name].replace("\r", " ").replace("\n", " ")
    return members


def not_json(row: Row[Any]) -> dict[str, str]:
    """Find what should be JSON and is not in a row of :func:`select_raw_events`: texts by name of the column."""
    texts = {"event_data": row.event_data, "metadata": row.event_metadata}
    return {name: text for name, text in texts.items() if text is not None and not _is_json(text)}


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except RecursionError:
        return True  # nested deeper than Python reads, which is no fault of the text
    except ValueError:
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
