"""Recognising a log that was moved to another cluster, where transaction ids and snapshots mean nothing.

A dump that is restored, or a logical replica, brings the events' transaction ids and the checkpoints' snapshots from the cluster
they were taken in; the new one counts transactions of its own. Where it is certain which events were brought, the log is given new
ids (:func:`renumber`); where it is not, nothing is taken until somebody decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, exists, func, inspect, literal_column, select

from sa_eventsource.checkpoints.checkpoint import read_checkpoint
from sa_eventsource.checkpoints.renumbering import renumber
from sa_eventsource.checkpoints.replication import is_subscribed
from sa_eventsource.checkpoints.restored import is_of_another, last_restored
from sa_eventsource.exceptions import MovedLogError
from sa_eventsource.mapping import XID8, draw_behind, lock_table, tables_of_base
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.checkpoints.checkpoint import Checkpoint
    from sa_eventsource.consumers import Follower
    from sa_eventsource.mapping import EventSourceTables


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
    cluster = _cluster(connection, tables)
    if cluster.has_foreign_subscription:
        raise MovedLogError(checkpoint.cluster, cluster.identifier, by_subscription=True)
    if checkpoint.cluster == cluster.identifier and cluster.has_future_events:
        raise MovedLogError(None, cluster.identifier, reason=_BROUGHT_LATER)
    if checkpoint.cluster == cluster.identifier or (checkpoint.cluster is None and not cluster.has_future_events):
        return replace(checkpoint, cluster=cluster.identifier)
    if cluster.has_future_events and _has_followers(connection, tables, cluster):
        raise MovedLogError(checkpoint.cluster, cluster.identifier, reason=_BROUGHT_LATER)
    try:
        boundary = last_restored(connection, tables, cluster.identifier)
        if boundary is None:
            raise MovedLogError(checkpoint.cluster, cluster.identifier)
        renumber(connection, tables, boundary, cluster.identifier)
    except ValueError as error:
        raise MovedLogError(checkpoint.cluster, cluster.identifier, reason=str(error)) from error
    return replace(read_checkpoint(connection, follower), cluster=cluster.identifier)


def is_moved(connection: Connection, tables: EventSourceTables, checkpoint: Checkpoint) -> bool:
    """Check whether a follower's checkpoint, or the log that it follows, is of another cluster; changes nothing."""
    if database_of(connection.dialect).has_one_writer:
        return False
    cluster = _cluster(connection, tables)
    is_elsewhere = checkpoint.cluster not in (None, cluster.identifier)
    return is_elsewhere or cluster.has_foreign_subscription or cluster.has_future_events


_BROUGHT_LATER = "it was brought here when others followed the log already, which would skip some of its events"


@dataclass(frozen=True, slots=True)
class _Cluster:
    """The cluster that answers, and what shows that events came from another one.

    Attributes:
        identifier: Its identifier.
        has_foreign_subscription: Whether a subscription keeps bringing events with transaction ids that mean nothing here.
        has_future_events: Whether events carry transaction ids that it has not given out yet.
    """

    identifier: str
    has_foreign_subscription: bool
    has_future_events: bool


def _cluster(connection: Connection, tables: EventSourceTables) -> _Cluster:
    """Ask which cluster answers, and whether events came from another one.

    A subscription brings foreign ids where the newest event has another id than the transaction that wrote its row. One to the
    other columns alone leaves the id to this cluster, and its events are followed as those of any session. An event of a savepoint
    has another id as well; whether it was appended here could not be told from the row alone, and it is taken for foreign.
    """
    asked = select(cluster_identifier(), is_subscribed(connection, tables), _has_future_transactions(tables))
    identifier, is_by_subscription, has_future_events = connection.execute(asked).one()
    if is_by_subscription:
        newest = tables.events.alias("newest")
        is_foreign = select(is_of_another(newest)).select_from(newest).order_by(newest.c.position.desc()).limit(1)
        is_by_subscription = bool(connection.scalar(is_foreign))
    return _Cluster(identifier, is_by_subscription, has_future_events)


def _has_future_transactions(tables: EventSourceTables) -> ColumnElement[bool]:
    """Check whether events carry transaction ids that this cluster has not given out yet; this transaction's own has been."""
    xid = tables.events.c.transaction_id
    is_other = cast(xid, XID8).is_distinct_from(func.pg_current_xact_id_if_assigned(type_=XID8))
    newest = select(xid).where(is_other).order_by(xid.desc()).limit(1).scalar_subquery()
    end = func.pg_snapshot_xmax(func.pg_current_snapshot(), type_=XID8)
    return func.coalesce(cast(newest, XID8) >= end, False)


def _has_followers(connection: Connection, tables: EventSourceTables, cluster: _Cluster) -> bool:
    """Check whether anybody has begun to follow the log in this cluster."""
    positions = tables.projection_positions
    has_begun = positions.c.snapshot_cursor.is_not(None) | positions.c.window_end.is_not(None)
    return bool(connection.scalar(select(exists().where(positions.c.cluster == cluster.identifier, has_begun))))


def adopt(session: Session, base: Any, *, last_position: int | None = None, keep: bool = False) -> int:
    """Settle a log that came from another cluster, where that does not happen automatically: what raised ``MovedLogError`` goes on.

    In one transaction, which it commits; writers of events and all followers wait for it. Each event is then still taken once, also
    where the log is of this cluster already, or this is called a second time.

    Args:
        session: A session without a transaction in progress.
        base: The declarative base.
        last_position: The last position that was brought here; the events after it were appended here. None for all.
        keep: Whether the transaction ids still hold, as after ``pg_upgrade`` or in a physical copy: only the new cluster is noted.

    Returns:
        The number of events that were given new transaction ids.

    Raises:
        MovedLogError: More events will come by a subscription, with ids of the other cluster. End it first.
        ValueError: *last_position* is less than 0, or after the log's end. Or followers that began in this cluster have yet to
            take events that others took in the former one: no transaction id would be right for both. Let them catch up first.
    """
    tables = tables_of_base("adopt()", base)
    positions = tables.projection_positions
    try:
        connection = session.connection(bind_arguments=any_bind(tables))
        if database_of(connection.dialect).has_one_writer:
            return 0
        changed = 0
        cluster = _cluster(connection, tables)
        if cluster.has_foreign_subscription:
            raise MovedLogError(None, cluster.identifier, by_subscription=True)
        if keep:
            connection.execute(positions.update().where(positions.c.cluster.is_not(None)).values(cluster=cluster.identifier))
        else:
            connection.execute(lock_table(tables.events, "SHARE ROW EXCLUSIVE"))
            newest: int = connection.scalar(select(func.coalesce(func.max(tables.events.c.position), 0))) or 0
            if last_position is not None and not 0 <= last_position <= newest:
                raise ValueError(f"last_position is {last_position}, and the log's last position is {newest}")
            changed = renumber(connection, tables, newest if last_position is None else last_position, cluster.identifier)
            if tables.options.partitions is not None:
                draw_behind(connection, tables.events, newest)
        session.commit()
    finally:
        session.rollback()
    return changed


def any_bind(tables: EventSourceTables) -> dict[str, Any]:
    """Lead a session with several binds to the database of a log."""
    for aggregate in list(tables.aggregate_classes.values()):
        return {"mapper": inspect(aggregate)}
    return {"clause": tables.events}
