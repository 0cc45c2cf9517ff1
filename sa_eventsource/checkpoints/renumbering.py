"""Giving a log transaction ids that hold in any cluster, and translating the checkpoints of another one.

Within the old values all is consistent: snapshots of one cluster see ever more, so that the checkpoints, in the order of time, cut
the log into slices. :func:`renumber` keeps the slices and numbers them from 3 on, below every transaction id that a cluster gives
out, and the checkpoints with them. All then looks as if it had been written by a few transactions long ago: nothing is skipped,
nothing comes twice, whoever follows the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, and_, case, cast, exists, false, func, literal, or_, select

from sa_eventsource.checkpoints.checkpoint import Checkpoint
from sa_eventsource.checkpoints.snapshot import Snapshot
from sa_eventsource.mapping import SWITCH, XID8, lock_table
from sa_eventsource.store import database_of, visible_in

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.mapping import EventSourceTables

_FIRST = 3
"""The lowest normal transaction id; a new cluster's first user transactions have some 700."""

_MOST_SLICES = 600

HIGHEST_GIVEN = _FIRST + _MOST_SLICES
"""The highest id that :func:`renumber` gives."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """What a checkpoint's snapshot sees, given as the number it gets and the condition in terms of the old values."""

    snapshot: str
    number: int


@dataclass(frozen=True, slots=True)
class ForeignCheckpoint:
    """A checkpoint that is not of this cluster, or of none.

    Attributes:
        name: The name that it is kept under.
        since: Its snapshot, as text; None if it has none.
        until: The end of its window, likewise.
    """

    name: str
    since: str | None
    until: str | None


def foreign_checkpoints(connection: Connection, tables: EventSourceTables, here: str) -> list[ForeignCheckpoint]:
    """Read the checkpoints that are not of this cluster.

    Raises:
        ValueError: Nobody can read one.
    """
    positions = tables.projection_positions
    columns = (positions.c.projection_name, positions.c.snapshot_cursor, positions.c.window_end)
    rows = connection.execute(select(*columns).where(positions.c.cluster.is_distinct_from(here)))
    found = [ForeignCheckpoint(*row) for row in rows]
    for each in found:
        if not Checkpoint(since=each.since, until=each.until).is_readable:
            raise ValueError(f"the checkpoint of {each.name!r} cannot be read; retire or rebuild it, or restore the row")
    return found


def renumber(connection: Connection, tables: EventSourceTables, last_position: int, here: str) -> int:
    """Give the events up to a position, and all checkpoints, transaction ids that hold in any cluster.

    One statement updates the events, which the table's trigger otherwise refuses. Writers of events wait until the transaction
    ends. Vacuum the table afterwards.

    Args:
        connection: In a transaction, which the caller commits.
        tables: The tables.
        last_position: The last position that came with the old transaction ids; events behind it were written here.

        here: Identifier of this cluster.

    Returns:
        The number of events that were given new ids.

    Raises:
        ValueError: Followers that began in this cluster have yet to take events that others took in the former one: no transaction
            id would be right for both. Or there are more checkpoints than can be numbered, or one that nobody can read.
    """
    events, positions = tables.events, tables.projection_positions
    connection.execute(lock_table(positions, "EXCLUSIVE"))
    rows = foreign_checkpoints(connection, tables, here)
    slices = _in_order({snapshot for row in rows for snapshot in (row.since, row.until) if snapshot is not None})
    behind_all: ColumnElement[Any] = literal(str(_FIRST + len(slices)))
    # An event that a follower of this cluster has yet to take gets an id that is new to it, where one from long ago would count as
    # taken: as all do that its cursor sees, and, in a window that begins with the log, all that lie before its position.
    counts_as_taken = or_(
        positions.c.snapshot_cursor.is_not(None),
        and_(positions.c.window_end.is_not(None), events.c.position <= positions.c.last_processed_position),
    )
    is_awaited = exists().where(
        positions.c.cluster == here, counts_as_taken, ~database_of(connection.dialect).taken(events, positions)
    )
    taken_elsewhere = or_(false(), *(visible_in(events, literal(each.snapshot)) for each in slices))
    if connection.scalar(select(exists().where(events.c.position <= last_position, is_awaited, taken_elsewhere))):
        raise ValueError(
            "followers that began in this cluster have yet to take events that others have taken before the log was moved; "
            "let them catch up first, or rebuild them"
        )
    this_transaction = cast(func.pg_current_xact_id(), Text)
    number = case(
        *((visible_in(events, literal(each.snapshot)), str(each.number)) for each in slices),
        (is_awaited, this_transaction),
        else_=behind_all,
    )
    renumbered = events.update().values(transaction_id=cast(number, XID8)).where(events.c.position <= last_position)
    _let_events_change(connection, "on")
    changed = connection.execute(renumbered).rowcount
    _let_events_change(connection, "off")
    translated: dict[str | None, str] = {each.snapshot: str(Snapshot(each.number + 1, each.number + 1)) for each in slices}
    for row in rows:
        connection.execute(
            positions.update()
            .where(positions.c.projection_name == row.name)
            .values(
                snapshot_cursor=translated.get(row.since),
                window_end=translated.get(row.until),
                cluster=here if row.since or row.until else None,
            )
        )
    return changed


def _let_events_change(connection: Connection, switch: str) -> None:
    connection.execute(select(func.set_config(SWITCH, switch, True)))  # noqa: FBT003 - until the transaction ends


def _in_order(snapshots: set[str]) -> list[_Slice]:
    """Put snapshots of one cluster into the order in which they were taken: each sees all that those before it see.

    Raises:
        ValueError: There are more than can be numbered.
    """
    if len(snapshots) > _MOST_SLICES:
        raise ValueError(
            f"there are {len(snapshots)} different checkpoints; at most {_MOST_SLICES} can be moved to another cluster"
        )
    in_order = sorted(snapshots, key=lambda snapshot: Snapshot.parse(snapshot).age)
    return [_Slice(snapshot, _FIRST + index) for index, snapshot in enumerate(in_order)]
