"""The events of one correlation: which led to which.

The first event of a chain often has no correlation id: those that follow from it have its id as theirs. It belongs to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Row, Table

MOST_READ = 10_000
"""How many events of a correlation are read at most, to find what belongs together."""

MOST_SHOWN = 200
"""How many of them a page shows at most: nobody follows more lines."""

_MOST_CAUSES = 50


@dataclass(frozen=True, slots=True)
class Branch:
    """An event in a tree.

    Attributes:
        row: Its columns, without its payload.
        depth: How many causes it has in the tree, one before the other.
        parent: The place of its cause in the list of branches; None for one whose cause is not in the tree.
    """

    row: Row[Any]
    depth: int
    parent: int | None


@dataclass(frozen=True, slots=True)
class Family:
    """The events of a correlation.

    Attributes:
        correlation_id: What they have in common.
        rows: The events, in the order of the log.
        is_whole: Whether these are all; otherwise there were more than ``MOST_READ``.
    """

    correlation_id: UUID
    rows: Sequence[Row[Any]]
    is_whole: bool


def read_family(connection: Connection, events: Table, correlation_id: UUID) -> Family:
    """Read the events of a correlation, by its index: few columns of each, in the order of the log."""
    # Without ORDER BY: the database would otherwise walk the log by position, where it believes the correlation to be frequent.
    rows = list(connection.execute(_select(events).where(events.c.correlation_id == correlation_id).limit(MOST_READ + 1)))
    is_whole = len(rows) <= MOST_READ
    first = read_event(connection, events, correlation_id)
    found = {each.event_id: each for each in [*rows, *([first] if first is not None and first.correlation_id is None else [])]}
    return Family(correlation_id, sorted(found.values(), key=_position), is_whole)


def read_event(connection: Connection, events: Table, event_id: UUID) -> Row[Any] | None:
    """Read an event by its id; None if there is none."""
    return connection.execute(_select(events).where(events.c.event_id == event_id)).one_or_none()


def causes_of(connection: Connection, events: Table, family: Family, row: Row[Any]) -> list[Row[Any]]:
    """Find what led to an event, the nearest cause first, also where it is of another correlation; 50 at most."""
    known = {each.event_id: each for each in family.rows}
    found = {row.event_id: row}
    cause: Row[Any] | None = row
    while cause is not None and len(found) <= _MOST_CAUSES:
        wanted = cause.causation_id
        cause = None if wanted is None or wanted in found else known.get(wanted) or read_event(connection, events, wanted)
        if cause is not None:
            found[cause.event_id] = cause
    return list(found.values())[1:]


def effects_of(family: Family, row: Row[Any]) -> list[Row[Any]]:
    """Find what followed from an event, and from that, in the order of the log."""
    by_cause = _by_cause(family.rows)
    found: list[Row[Any]] = []
    seen, causes = {row.event_id}, [row]
    while causes:
        for each in by_cause.get(causes.pop().event_id, ()):
            if each.event_id not in seen:
                seen.add(each.event_id)
                found.append(each)
                causes.append(each)
    return sorted(found, key=_position)


def branches_of(rows: Iterable[Row[Any]]) -> list[Branch]:
    """Make the tree of some events: each below its cause, effects of one cause in the order of the log."""
    ordered = sorted(rows, key=_position)
    by_cause, ids = _by_cause(ordered), {each.event_id for each in ordered}
    branches: list[Branch] = []
    seen: set[UUID] = set()
    # What remains after the first ones would be in a circle, which nothing in the database forbids: it is cut open.
    for root in sorted(ordered, key=lambda each: (each.causation_id in ids, each.position)):
        waiting: list[tuple[Row[Any], int, int | None]] = [(root, 0, None)]
        while waiting:
            row, depth, parent = waiting.pop()
            if row.event_id not in seen:
                seen.add(row.event_id)
                here = len(branches)
                branches.append(Branch(row, depth, parent))
                waiting += [(each, depth + 1, here) for each in reversed(by_cause.get(row.event_id, ()))]
    return branches


def _by_cause(rows: Iterable[Row[Any]]) -> dict[UUID, list[Row[Any]]]:
    found: dict[UUID, list[Row[Any]]] = {}
    for row in rows:
        if row.causation_id is not None:
            found.setdefault(row.causation_id, []).append(row)
    return found


def _position(row: Row[Any]) -> int:
    position: int = row.position
    return position


def _select(events: Table) -> Any:
    return select(*(events.c[name] for name in _COLUMNS))


_COLUMNS = (
    "event_id",
    "causation_id",
    "correlation_id",
    "position",
    "event_type",
    "event_version",
    "aggregate_type",
    "aggregate_id",
    "version",
    "occurred_at",
)
