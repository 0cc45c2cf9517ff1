"""Giving a log transaction ids that hold in any cluster, and translating the checkpoints of another one.

Within the old values all is consistent: snapshots of one cluster see ever more, so that the checkpoints, in the order of time, cut
the log into slices. :func:`renumber` keeps the slices and numbers them from 3 on, below every transaction id that a cluster gives
out, and the checkpoints with them. All then looks as if it had been written by a few transactions long ago: nothing is skipped,
nothing comes twice, whoever follows the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Text, and_, case, cast, exists, false, func, literal, or_, select, true

from sa_eventsource.checkpoints.checkpoint import read_checkpoints
from sa_eventsource.checkpoints.snapshot import Snapshot
from sa_eventsource.mapping import LOWEST_TRANSACTION_ID, XID8, lock_table
from sa_eventsource.store import database_of, visible_in

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection, FromClause, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.mapping import EventSourceTables

_MOST_SLICES = 600

HIGHEST_GIVEN = LOWEST_TRANSACTION_ID + _MOST_SLICES
"""The highest id that :func:`renumber` gives."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """What a checkpoint's snapshot sees, given as the number it gets and the condition in terms of the old values."""

    snapshot: str
    number: int


@dataclass(frozen=True, slots=True)
class Cut:
    """What a checkpoint says of the log in terms of transaction ids.

    Attributes:
        name: The name that it is kept under.
        is_of_here: Whether the ids are those of this cluster.
        since: Its snapshot, as text; None if it has none.
        until: The end of its window, likewise.
    """

    name: str
    is_of_here: bool
    since: str | None
    until: str | None

    @property
    def snapshots(self) -> set[str]:
        """Those that it has."""
        return {snapshot for snapshot in (self.since, self.until) if snapshot is not None}


def read_cuts(connection: Connection, tables: EventSourceTables, here: str) -> list[Cut]:
    """Read the checkpoints of a log, except for those of this cluster that nobody can read: they are to be rebuilt in any case.

    Raises:
        ValueError: Nobody can read one of another cluster.
    """
    cuts = []
    for name, checkpoint in read_checkpoints(connection, tables):
        cut = Cut(name, checkpoint.cluster == here, checkpoint.since, checkpoint.until)
        if checkpoint.is_readable:
            cuts.append(cut)
        elif not cut.is_of_here:
            raise ValueError(f"the checkpoint of {name!r} cannot be read; retire or rebuild it, or restore the row")
    return cuts


def seen_by_one(events: FromClause, snapshots: Collection[str]) -> ColumnElement[bool]:
    """Check whether one of some snapshots sees an event, by its present transaction id."""
    return or_(false(), *(visible_in(events, literal(snapshot)) for snapshot in snapshots))


def renumber(connection: Connection, tables: EventSourceTables, last_position: int, here: str) -> int:
    """Give the events up to a position, and all checkpoints, transaction ids that hold in any cluster.

    One statement updates the events, which the table's trigger otherwise refuses. Writers of events wait until the transaction
    ends. Vacuum the table afterwards.

    Args:
        connection: In a transaction, which the caller commits.
        tables: The tables.
        last_position: The last position that came with the old transaction ids; events after it were written here.
        here: Identifier of this cluster.

    Returns:
        The number of events that were given new ids.

    Raises:
        ValueError: Followers that began in this cluster have yet to take events that others took in the former one: no transaction
            id would be right for both. Or there are more checkpoints than can be numbered, or one that nobody can read.
    """
    events, positions = tables.events, tables.projection_positions
    connection.execute(lock_table(positions, "EXCLUSIVE"))
    cuts = read_cuts(connection, tables, here)
    foreign = [cut for cut in cuts if not cut.is_of_here]
    slices = _in_order({snapshot for cut in foreign for snapshot in cut.snapshots})
    changed = _renumber_events(connection, events, last_position, slices, [cut for cut in cuts if cut.is_of_here])
    translated: dict[str | None, str] = {part.snapshot: str(Snapshot(part.number + 1, part.number + 1)) for part in slices}
    for cut in foreign:
        connection.execute(
            positions.update()
            .where(positions.c.projection_name == cut.name)
            .values(
                snapshot_cursor=translated.get(cut.since),
                window_end=translated.get(cut.until),
                cluster=here if cut.snapshots else None,
            )
        )
    return changed


def _renumber_events(
    connection: Connection, events: Table, last_position: int, slices: Sequence[_Slice], of_here: Sequence[Cut]
) -> int:
    """Give events new ids, as far as no follower of this cluster sees a difference: to each, an event stays taken or new."""
    snapshots = {snapshot for cut in of_here for snapshot in cut.snapshots}
    is_brought = events.c.position <= last_position
    seen_by_all_here = and_(true(), *(visible_in(events, literal(snapshot)) for snapshot in snapshots))
    seen_elsewhere = seen_by_one(events, {part.snapshot for part in slices})
    if connection.scalar(select(exists().where(is_brought, seen_elsewhere, ~seen_by_all_here))):
        raise ValueError(
            "followers that began in this cluster have yet to take events that others have taken before the log was moved; "
            "let them catch up first, or rebuild them"
        )
    transaction_id = cast(events.c.transaction_id, XID8)
    is_of_future = transaction_id >= func.pg_snapshot_xmax(func.pg_current_snapshot(), type_=XID8)
    given = case(
        *((visible_in(events, literal(part.snapshot)), str(part.number)) for part in slices),
        (seen_by_all_here, str(LOWEST_TRANSACTION_ID + len(slices))),
        (is_of_future, cast(func.pg_current_xact_id(), Text)),
        else_=cast(transaction_id, Text),
    )
    new = cast(given, XID8)
    renumbered = events.update().values(transaction_id=new).where(is_brought, new != transaction_id)
    with database_of(connection.dialect).letting_events_change(connection, events):
        return connection.execute(renumbered).rowcount


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
    return [_Slice(snapshot, LOWEST_TRANSACTION_ID + index) for index, snapshot in enumerate(in_order)]
