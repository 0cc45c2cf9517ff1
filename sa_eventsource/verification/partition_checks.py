"""Is the log partitioned as it is declared, and does what no constraint of a partitioned log can refuse not occur?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from sa_eventsource.counting import counted
from sa_eventsource.mapping import found_partitions
from sa_eventsource.verification.findings import MOST_FINDINGS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables


def check_partitions(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find partitions that differ from the declared ones; in a partitioned log, event ids and positions that occur twice."""
    found = found_partitions(connection, tables.events)
    fault = found.fault(tables.options.partitions)
    if fault is not None:
        yield Finding(
            "partitions", tables.events.name, f"{fault}. Migrate the database: alembic revision --autogenerate writes what is to do"
        )
    if found.is_partitioned:
        yield from _check_ids(connection, tables)
        yield from _check_positions(connection, tables)


def _check_ids(connection: Connection, tables: EventSourceTables) -> Iterator[Finding]:
    events = tables.events
    number = func.count()
    twice = select(events.c.event_id, number, func.min(events.c.position), func.max(events.c.position))
    for event_id, times, first, last in connection.execute(
        twice.group_by(events.c.event_id).having(number > 1).order_by(events.c.event_id).limit(MOST_FINDINGS)
    ):
        have = counted(times, "event has", "events have")
        yield Finding(
            "partitions",
            f"event {event_id}",
            f"{have} this id, at positions from {first} to {last}: it was given to events of several streams at the "
            "same moment. Whoever remembers events by their id takes one of them only; append what the others say once more",
        )


def _check_positions(connection: Connection, tables: EventSourceTables) -> Iterator[Finding]:
    events = tables.events
    number = func.count()
    twice = select(events.c.position, number).group_by(events.c.position).having(number > 1)
    for position, times in connection.execute(twice.order_by(events.c.position).limit(MOST_FINDINGS)):
        have = counted(times, "event has", "events have")
        yield Finding(
            "partitions",
            f"position {position}",
            f"{have} it: the sequence that positions are drawn from was set back. Rebuild the read models",
        )
