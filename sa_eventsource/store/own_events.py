"""What a transaction has written itself: to be asked before it is rolled back, after which nobody can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select, tuple_

from sa_eventsource.store.databases import database_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sa_eventsource.store.append import AppendRefusedError, LogAppend

_EVENTS_AT_ONCE = 200
"""SQLite's oldest limit on parameters is 999; an event has four."""


def written_earlier(append: LogAppend, error: AppendRefusedError, first: UUID | None) -> Sequence[Any]:
    """Find the events that a transaction wrote earlier under the ids or in the places of an append that was refused.

    Args:
        append: The append, whose transaction is as its INSERT has left it.
        error: What it raised.
        first: Id of the first event that the transaction wrote to this log; None if it wrote none.

    Returns:
        Rows of the log, by position.
    """
    if first is None:
        return ()
    events, beginning = append.tables.events, append.tables.events.alias("beginning")
    is_own = database_of(append.connection.dialect).written_with(events, beginning)
    own = select(events).join(beginning, is_own).where(beginning.c.event_id == first)
    place = tuple_(events.c.aggregate_type, events.c.aggregate_id, events.c.version)
    asked = [
        (event.event_id, (stream.aggregate_type, stream.aggregate_id, event.version))
        for stream in append.streams
        for event in stream.events
    ]
    found: dict[UUID, Any] = {}
    for start in range(0, len(asked), _EVENTS_AT_ONCE):
        ids, places = zip(*asked[start : start + _EVENTS_AT_ONCE], strict=True)
        rows = append.connection.execute(own.where(or_(events.c.event_id.in_(ids), place.in_(places))))
        found.update({row.event_id: row for row in rows})
    in_order = sorted(found.values(), key=lambda row: row.position)
    return in_order[: len(in_order) - error.written]  # the last are those that went in with the append itself
