"""Recognising a log that was moved to another cluster, where transaction ids and snapshots mean nothing, and giving it new ones.

A dump that is restored, or a logical replica, brings the events' transaction ids and the checkpoints' snapshots from the cluster
they were taken in; the new one counts transactions of its own. Within the old values all is consistent: snapshots of one cluster
see ever more, so that the checkpoints, in the order of time, cut the log into slices. :func:`renumber` keeps the slices and numbers
them from 3 on, below every transaction id that a cluster gives out, and the checkpoints with them. All then looks as if it had been
written by a few transactions long ago: nothing is skipped, nothing comes twice, whoever follows the log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Numeric, Text, case, cast, exists, false, func, inspect, literal, literal_column, or_, select

from sa_eventsource.checkpoints.checkpoint import read_checkpoint
from sa_eventsource.checkpoints.replication import is_subscribed
from sa_eventsource.checkpoints.snapshot import Snapshot
from sa_eventsource.exceptions import MovedLogError
from sa_eventsource.mapping import SWITCH, XID8, lock_table, tables_of_base
from sa_eventsource.store import database_of, visible_in

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import ColumnElement
    from sqlalchemy.sql.selectable import NamedFromClause

    from sa_eventsource.checkpoints.checkpoint import Checkpoint
    from sa_eventsource.consumers import Follower
    from sa_eventsource.mapping import EventSourceTables

_FIRST = 3
"""The lowest normal transaction id; a new cluster's first user transactions have some 700."""

_MOST_SLICES = 600


def cluster_identifier() -> ColumnElement[str]:
    """The identifier of the database cluster that answers, as text."""
    return cast(select(literal_column("system_identifier")).select_from(func.pg_control_system()).scalar_subquery(), Text)


def check_cluster(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> Checkpoint:
    """See to it that transaction ids and a checkpoint's snapshots are of the cluster that answers.

    A log that was restored as a whole is given new ones in this transaction.

    Returns:
        The checkpoint, as it is now, with the cluster's identifier.

    Raises:
        MovedLogError: They are of another one, and it is not certain which events came with them.
    """
    if database_of(connection.dialect).has_one_writer:
        return checkpoint
    tables = follower.tables
    here, comes_by_subscription = _here(connection, tables)
    if comes_by_subscription:
        raise MovedLogError(checkpoint.cluster, here, by_subscription=True)
    if checkpoint.cluster == here:
        return checkpoint
    if checkpoint.cluster is None and not _has_future_transactions(connection, tables):
        return replace(checkpoint, cluster=here)
    boundary = _last_restored(connection, tables)
    if boundary is None:
        raise MovedLogError(checkpoint.cluster, here)
    renumber(connection, tables, boundary)
    return replace(read_checkpoint(connection, follower), cluster=here)


def is_moved(connection: Connection, tables: EventSourceTables, checkpoint: Checkpoint) -> bool:
    """Check whether a follower's checkpoint, or the log that it is about to follow, is of another cluster; changes nothing."""
    if database_of(connection.dialect).has_one_writer:
        return False
    here, comes_by_subscription = _here(connection, tables)
    if comes_by_subscription:
        return True
    return _has_future_transactions(connection, tables) if checkpoint.cluster is None else checkpoint.cluster != here


def _here(connection: Connection, tables: EventSourceTables) -> tuple[str, bool]:
    """Ask which cluster answers, and whether events keep coming from another one with transaction ids that mean nothing here.

    They do where a subscription brings them and the newest has another id than the transaction that wrote its row. A subscription
    to the other columns alone leaves the id to this cluster, and its events are followed as those of any session.
    """
    cluster, subscribed = connection.execute(select(cluster_identifier(), is_subscribed(connection, tables))).one()
    if not subscribed:
        return cluster, False
    newest = tables.events.alias("newest")
    is_foreign = select(_is_of_another(newest)).select_from(newest).order_by(newest.c.position.desc()).limit(1)
    return cluster, bool(connection.scalar(is_foreign))


def adopt(session: Session, base: Any, *, last_position: int | None = None, keep: bool = False) -> int:
    """Settle a log that came from another cluster, where that does not happen by itself: what raised ``MovedLogError`` goes on.

    In one transaction, which it commits; writers of events and all followers wait for it. Each event is then still taken once, also
    where the log is of this cluster already, or this is called a second time.

    Args:
        session: A session without a transaction in progress.
        base: The declarative base.
        last_position: The last position that was brought here; the events behind it were appended here. None for all.
        keep: Whether the transaction ids still hold, as after ``pg_upgrade`` or in a physical copy: only the new cluster is noted.

    Returns:
        The number of events that were given new transaction ids.

    Raises:
        MovedLogError: More events will come by a subscription, with ids of the other cluster. End it first.
        ValueError: *last_position* is less than 0, or behind the log's end. Or followers that began in this cluster have yet to
            take events that others took in the former one: no transaction id would be right for both. Let them catch up first.
    """
    tables = tables_of_base("adopt()", base)
    positions = tables.projection_positions
    try:
        connection = session.connection(bind_arguments=any_bind(tables))
        if database_of(connection.dialect).has_one_writer:
            return 0
        changed = 0
        cluster, comes_by_subscription = _here(connection, tables)
        if comes_by_subscription:
            raise MovedLogError(None, cluster, by_subscription=True)
        if keep:
            connection.execute(positions.update().where(positions.c.cluster.is_not(None)).values(cluster=cluster))
        else:
            connection.execute(lock_table(tables.events, "SHARE ROW EXCLUSIVE"))
            newest: int = connection.scalar(select(func.coalesce(func.max(tables.events.c.position), 0))) or 0
            if last_position is not None and not 0 <= last_position <= newest:
                raise ValueError(f"last_position is {last_position}, and the log's last position is {newest}")
            changed = renumber(connection, tables, newest if last_position is None else last_position)
        session.commit()
    finally:
        session.rollback()
    return changed


def any_bind(tables: EventSourceTables) -> dict[str, Any]:
    """Lead a session with several binds to the database of a log."""
    for aggregate in list(tables.aggregate_classes.values()):
        return {"mapper": inspect(aggregate)}
    return {"clause": tables.events}


def _has_future_transactions(connection: Connection, tables: EventSourceTables) -> bool:
    """Check whether events carry transaction ids that this cluster has not given out yet; this transaction's own has been."""
    xid = tables.events.c.transaction_id
    is_other = cast(xid, XID8).is_distinct_from(func.pg_current_xact_id_if_assigned(type_=XID8))
    newest = select(xid).where(is_other).order_by(xid.desc()).limit(1).scalar_subquery()
    end = func.pg_snapshot_xmax(func.pg_current_snapshot(), type_=XID8)
    return bool(connection.scalar(select(func.coalesce(cast(newest, XID8) >= end, False))))


def _last_restored(connection: Connection, tables: EventSourceTables) -> int | None:
    """Find the position up to which the log was restored; None if that is not certain.

    It is if all events up to there were written by one transaction of this cluster, as ``COPY`` in a restored dump does, which
    also gave them transaction ids that are not its own, and all behind carry the id of the transaction that wrote them.
    """
    connection.execute(lock_table(tables.events, "SHARE ROW EXCLUSIVE"))
    first, later, oldest = (tables.events.alias(name) for name in ("first", "later", "oldest"))
    written_otherwise = _writer(later) != _writer(first)
    found = connection.execute(
        select(
            func.max(first.c.position),
            func.bool_or(_is_of_another(first)),
            select(func.min(later.c.position)).where(written_otherwise).scalar_subquery(),
            exists().where(written_otherwise, _is_of_another(later)),
        )
        .where(_writer(first) == select(_writer(oldest)).select_from(oldest).order_by(oldest.c.position).limit(1).scalar_subquery())
        .group_by(_writer(first))
    ).one_or_none()
    if found is None:
        return 0
    last, is_of_others, next_written, are_others_behind = found
    is_certain = is_of_others and not are_others_behind and (next_written is None or next_written > last)
    return int(last) if is_certain else None


def _writer(events: NamedFromClause) -> ColumnElement[Any]:
    """The transaction that wrote a row: a system column, which no table declares; its lower 32 bits."""
    return literal_column(f"{events.name}.xmin")


def _is_of_another(events: NamedFromClause) -> ColumnElement[bool]:
    """Check whether an event has the id of another transaction than the one that wrote its row."""
    transaction_id: ColumnElement[Any] = cast(cast(events.c.transaction_id, Text), Numeric)
    return transaction_id % literal_column("4294967296") != cast(cast(_writer(events), Text), Numeric)


@dataclass(frozen=True, slots=True)
class _Slice:
    """What a checkpoint's snapshot sees, given as the number it gets and the condition in terms of the old values."""

    snapshot: str
    number: int


def renumber(connection: Connection, tables: EventSourceTables, last_position: int) -> int:
    """Give the events up to a position, and all checkpoints, transaction ids that hold in any cluster.

    One statement updates the events, which the table's trigger otherwise refuses. Writers of events wait until the transaction
    ends. Vacuum the table afterwards.

    Args:
        connection: In a transaction, which the caller commits.
        tables: The tables.
        last_position: The last position that came with the old transaction ids; events behind it were written here.

    Returns:
        The number of events that were given new ids.
    """
    events, positions = tables.events, tables.projection_positions
    connection.execute(lock_table(positions, "EXCLUSIVE"))
    _let_events_change(connection, "on")
    here: str = connection.execute(select(cluster_identifier())).scalar_one()
    rows: list[Any] = list(
        connection.execute(
            select(positions.c.projection_name, positions.c.snapshot_cursor, positions.c.window_end).where(
                positions.c.cluster.is_distinct_from(here)
            )
        )
    )
    slices = _in_order({each for row in rows for each in (row.snapshot_cursor, row.window_end) if each is not None})
    behind_all: ColumnElement[Any] = literal(str(_FIRST + len(slices)))
    # An event that a follower of this cluster has yet to take gets an id that is new to it, and not one from long ago.
    is_awaited = exists().where(
        positions.c.cluster == here,
        positions.c.snapshot_cursor.is_not(None),
        ~database_of(connection.dialect).taken(events, positions),
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
    renumbered = events.update().values(transaction_id=cast(number, XID8))
    changed = connection.execute(renumbered.where(events.c.position <= last_position)).rowcount
    translated = {each.snapshot: str(Snapshot(each.number + 1, each.number + 1)) for each in slices}
    for row in rows:
        connection.execute(
            positions.update()
            .where(positions.c.projection_name == row.projection_name)
            .values(
                snapshot_cursor=translated.get(row.snapshot_cursor),
                window_end=translated.get(row.window_end),
                cluster=here if row.snapshot_cursor or row.window_end else None,
            )
        )
    _let_events_change(connection, "off")
    return changed


def _let_events_change(connection: Connection, switch: str) -> None:
    connection.execute(select(func.set_config(SWITCH, switch, True)))  # noqa: FBT003 - until the transaction ends


def _in_order(snapshots: set[str]) -> list[_Slice]:
    """Put snapshots of one cluster into the order in which they were taken: each sees all that those before it see.

    Raises:
        ValueError: There are more than can be numbered.
    """
    if len(snapshots) > _MOST_SLICES:
        raise ValueError(f"{len(snapshots)} different checkpoints; at most {_MOST_SLICES} can be moved to another cluster")
    in_order = sorted(snapshots, key=lambda snapshot: Snapshot.parse(snapshot).age)
    return [_Slice(snapshot, _FIRST + index) for index, snapshot in enumerate(in_order)]
