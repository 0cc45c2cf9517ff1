"""Events that no class declares any more: whoever takes events by the types that the code knows passes them by."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from sa_eventsource.counting import counted
from sa_eventsource.events import current_class, is_retired
from sa_eventsource.exceptions import UnknownEventTypeError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables

log = logging.getLogger("sa_eventsource.rebuild")


def forgotten_types(connection: Connection, tables: EventSourceTables) -> dict[str, int]:
    """Count the events of each type in the log that no class declares, by stored name."""
    events = tables.events
    counted = select(events.c.event_type, func.max(events.c.event_version), func.count()).group_by(events.c.event_type)
    forgotten = {}
    for name, version, number in connection.execute(counted.order_by(events.c.event_type)):
        try:
            _ = is_retired(name, version) or current_class(name, version)
        except UnknownEventTypeError:
            forgotten[name] = number
    return forgotten


def warn_of_forgotten_types(connection: Connection, tables: EventSourceTables, model: str) -> None:
    """Log that a rebuild has left events out which the rows may have been made of before."""
    for name, number in forgotten_types(connection, tables).items():
        log.warning(
            "%s was rebuilt without %s of type %r, which no class declares. Import the module of its class, or, where the "
            "class was renamed, list the name in its __former_types__, and rebuild the model again",
            model,
            counted(number, "event"),
            name,
        )
