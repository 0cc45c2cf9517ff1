"""Events to be shown: of a payload no more is read than its beginning, and only what is sealed in that is opened.

A payload that may hold something sealed cannot be cut anywhere: a sealed value is opened as a whole. A small one is read whole. Of
a large one the beginning is read, up to its first sealed value, and nothing is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, case, cast, func, literal

from sa_eventsource.events import SEALED_BEGINNING, sealed_names
from sa_eventsource.store import clear_payloads, database_of, select_raw_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row, Table

PREVIEW = 1_000
"""How many characters of a payload, and of metadata, a list gets."""

MOST_OPENED = 65_536
"""How many bytes a payload may have, as it is stored, and how many characters as a text, to be opened for a list."""

CUT = "…"
"""What the beginning of a payload begins with, and no JSON text does, where that may hold something sealed."""

_MARK = SEALED_BEGINNING[1:]


@dataclass(frozen=True, slots=True)
class Listed:
    """An event in a list.

    Attributes:
        row: Its columns, as ``select_raw_events`` gives them.
        payload: The beginning of its payload, in clear or with placeholders: one character more than is shown, if it is longer. It
            ends in ``…`` where something is sealed that was not opened.
    """

    row: Row[Any]
    payload: str


def select_listed(connection: Connection, events: Table, *, longest: int = PREVIEW, most_opened: int = MOST_OPENED) -> Any:
    """Build a SELECT of events for :func:`listed`: all columns, payload and metadata as far as they are shown.

    Args:
        connection: Where to read.
        events: The log.
        longest: How many characters of a payload, and of metadata, are shown.
        most_opened: As ``MOST_OPENED``.
    """
    text = cast(events.c.event_data, Text)
    payload: Any = func.substr(text, 1, longest + 1)
    sealed = sorted(sealed_names())
    if sealed:
        may_be_sealed = events.c.event_type.in_(sealed)
        stored_bytes = database_of(connection.dialect).stored_bytes(events.c.event_data)
        beginning = literal(CUT).concat(payload)
        payload = case(  # in this order: only of what is stored in few bytes, which may be compressed, all is read for its length
            (~may_be_sealed, payload),
            (stored_bytes > most_opened, beginning),
            (func.length(text) > most_opened, beginning),
            else_=text,
        )
    return select_raw_events(events, payload, func.substr(cast(events.c.metadata, Text), 1, longest + 1))


def listed(connection: Connection, events: Table, rows: Sequence[Row[Any]], *, longest: int = PREVIEW) -> list[Listed]:
    """Make a list of rows of :func:`select_listed`, of as many characters."""
    shown = [_beginning(row.event_data, longest) for row in rows]
    opened = [number for number, row in enumerate(rows) if shown[number] is None]
    payloads = clear_payloads(connection, events, [rows[number] for number in opened])
    for number, payload in zip(opened, payloads, strict=True):
        shown[number] = payload[: longest + 1]
    return [Listed(row, payload or "") for row, payload in zip(rows, shown, strict=True)]


def _beginning(text: str, longest: int) -> str | None:
    """Give what is shown of a payload; None where something has to be opened for it."""
    if not text.startswith(CUT):
        return None if _MARK in text[: longest + 1] else text[: longest + 1]
    beginning = text[len(CUT) :]
    mark = beginning.find(_MARK)
    return beginning if mark < 0 else beginning[: beginning.rindex("{", 0, mark)] + CUT
