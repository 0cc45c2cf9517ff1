"""How many events a log has of each type and version, in about the same time however long it is.

Types are found from name to name along their index. Of a short log, and of a type that few events have, all are counted. Of the
others, a sample is taken: events at positions that are drawn evenly from all, the same ones each time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import func, select

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Table

_SHORT = 20_000
"""So many positions at most are looked at one by one."""

_DRAWN = 4_000
_DIGITS = 2
_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Count:
    """How many events there are of a type and version.

    Attributes:
        number: How many.
        is_exact: Whether they were counted; otherwise it is an estimate, to two digits.
    """

    number: int
    is_exact: bool


Counts: TypeAlias = "Mapping[tuple[str, int], Count]"
"""By stored type and version."""


def count_events(connection: Connection, events: Table, *, exactly: bool) -> Counts:
    """Count the events of each type and version, or estimate how many there are.

    A version that only few events of a frequent type have may be missing among estimates.

    Args:
        connection: Where to read.
        events: The log.
        exactly: Whether to count all, which reads all of the log.
    """
    low, high = connection.execute(select(func.min(events.c.position), func.max(events.c.position))).one()
    if low is None:
        return {}
    if exactly or high - low < _SHORT:
        rows: Any = connection.execute(_by_version(events))
        return {(event_type, version): Count(number, is_exact=True) for event_type, version, number in rows}
    share = (high - low + 1) / _DRAWN
    drawn = _drawn(connection, events, low, high)
    ends = time.monotonic() + _SECONDS
    found: dict[tuple[str, int], Count] = {}
    for event_type in stored_types_in(connection, events):
        of_type = {version: hits for (name, version), hits in drawn.items() if name == event_type}
        counted = None
        if sum(of_type.values()) * share <= _SHORT and time.monotonic() < ends:
            counted = _counted(connection, events, event_type)
        if counted is not None:
            found |= {(event_type, version): Count(number, is_exact=True) for version, number in counted.items()}
        else:
            found |= {(event_type, version): Count(_rounded(hits * share), is_exact=False) for version, hits in of_type.items()}
    return found


def stored_types_in(connection: Connection, events: Table) -> list[str]:
    """List the types that events are stored under, from name to name along their index."""
    following = events.alias("following")
    names = select(func.min(events.c.event_type).label("name")).cte("names", recursive=True)
    behind = select(func.min(following.c.event_type)).where(following.c.event_type > names.c.name).scalar_subquery()
    names = names.union_all(select(behind).where(names.c.name.is_not(None)))
    return list(connection.execute(select(names.c.name).where(names.c.name.is_not(None))).scalars())


def _drawn(connection: Connection, events: Table, low: int, high: int) -> dict[tuple[str, int], int]:
    """Count events at positions that are drawn from all. Where there is none, as in a hole, none is counted."""
    draw = Random(0)  # noqa: S311 - a sample, and the same one each time
    positions = {draw.randint(low, high) for _ in range(_DRAWN)}
    rows: Any = connection.execute(_by_version(events).where(events.c.position.in_(positions)))
    return {(event_type, version): number for event_type, version, number in rows}


def _counted(connection: Connection, events: Table, event_type: str) -> dict[int, int] | None:
    """Count the events of a type by version; None where there are too many."""
    some = select(events.c.event_version).where(events.c.event_type == event_type).limit(_SHORT + 1).subquery()
    rows: Any = connection.execute(select(some.c.event_version, func.count()).group_by(some.c.event_version))
    found: dict[int, int] = {version: number for version, number in rows}  # noqa: C416 - no dict of rows
    return found if sum(found.values()) <= _SHORT else None


def _by_version(events: Table) -> Any:
    kind = (events.c.event_type, events.c.event_version)
    return select(*kind, func.count()).group_by(*kind)


def _rounded(number: float) -> int:
    digits = len(str(int(number)))
    return int(round(number, _DIGITS - digits))
