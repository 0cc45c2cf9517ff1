"""Up to which position a log was brought here as a whole, as a restored dump is, and whether that is certain.

An event carries the id of the transaction that appended it, and its row, in a system column, the id of the one that wrote it. For
an event that was appended here these are the same, or, within a savepoint, the row has that of a subtransaction: an id that was
given out after that of its transaction and belongs to no other. For an event that was brought here they have nothing to do with
each other. Alone, that does not tell: an id from elsewhere may look like that of a transaction here. So the log is looked at as a
whole, for what cannot have happened otherwise; where it could have, the answer is that nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Text, and_, cast, column, false, func, literal, literal_column, or_, select, table

from sa_eventsource.checkpoints.renumbering import HIGHEST_GIVEN, read_cuts, seen_by_one
from sa_eventsource.mapping import lock_table, regclass_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection
    from sqlalchemy.sql import ColumnElement, FromClause
    from sqlalchemy.sql.selectable import NamedFromClause

    from sa_eventsource.mapping import EventSourceTables

_XMINS = 2**32
"""How many ids a row's system column can tell apart."""


def last_restored(connection: Connection, tables: EventSourceTables, here: str) -> int | None:
    """Find the position up to which the log was brought here by one transaction, as ``COPY`` does; None if that is not certain.

    It is certain if all of this holds.

    - The first event was written by a transaction that brought events: it, or another one of its events, has a foreign id.
    - So has the last event of that transaction. Events that were appended here come after all that were brought; if a migration
      has rewritten the table since, they have the same writer, and its last event was appended here.
    - All others come after, and each was appended here: by the transaction that wrote the row, or within a savepoint of it.
    - If a checkpoint from elsewhere seems to see one of these others, the first ones were brought for sure. Otherwise they may have
      been appended here as well, and rewritten, the log may be the same as usual in a cluster with another identifier, as after
      ``pg_upgrade``, and the checkpoint does see them.

    Args:
        connection: In a transaction. Writers of events wait until it ends.
        tables: The tables.
        here: Identifier of this cluster.

    Raises:
        ValueError: Nobody can read a checkpoint that came along.
    """
    connection.execute(lock_table(tables.events, "SHARE ROW EXCLUSIVE"))
    foreign = [cut for cut in read_cuts(connection, tables, here) if not cut.is_of_here]
    log = _log(tables.events.alias("stored"), {snapshot for cut in foreign for snapshot in cut.snapshots})
    first = connection.scalar(select(log.c.written_by).order_by(log.c.position).limit(1))
    if first is None:
        return 0
    landmarks = _landmarks(connection, tables, here, first)
    brought = _brought(connection, log, landmarks)
    if not (brought.has_other_writer and landmarks.is_foreign(brought.last_appended_by)):
        return None
    others = _others(connection, log, landmarks, brought)
    if others.are_doubtful or (others.are_seen and not brought.is_certain):
        return None
    return brought.last


@dataclass(frozen=True, slots=True)
class _Landmarks:
    """What happened here, as the ids of the transactions that did it.

    Attributes:
        created: The events table was created.
        first: The first event of the log was written.
        checkpoints: The first of the checkpoints from elsewhere was written; None if there is none.
    """

    created: int
    first: int
    checkpoints: int | None

    def is_foreign(self, appended_by: int) -> bool:
        """Check whether an event that the first writer wrote cannot have been appended here, after the move."""
        return appended_by > self.first or appended_by < max(self.created, self.checkpoints or 0)

    def is_certainly_brought(self, appended_by: ColumnElement[int]) -> ColumnElement[bool]:
        """Check whether the first writer must have brought an event, and not just rewritten or renumbered it here."""
        return or_(appended_by > self.first, and_(appended_by < self.created, appended_by > HIGHEST_GIVEN))


@dataclass(frozen=True, slots=True)
class _Brought:
    """The events of the first writer.

    Attributes:
        number: How many there are.
        last: The position of the last one.
        last_appended_by: The transaction id that it carries.
        has_other_writer: Whether one of them has the id of another transaction than the one that wrote it.
        is_certain: Whether one of them must have been brought.
    """

    number: int
    last: int
    last_appended_by: int
    has_other_writer: bool
    is_certain: bool


@dataclass(frozen=True, slots=True)
class _Others:
    """All other events.

    Attributes:
        are_doubtful: Whether one of them lies before the last of the first writer's, or may not have been appended here.
        are_seen: Whether a checkpoint from elsewhere seems to see one of them.
    """

    are_doubtful: bool
    are_seen: bool


def _brought(connection: Connection, log: FromClause, landmarks: _Landmarks) -> _Brought:
    is_of_first = log.c.written_by == landmarks.first
    number, last, has_other_writer, is_certain = connection.execute(
        select(
            func.count(),
            func.max(log.c.position),
            func.bool_or(log.c.appended_by != log.c.written_by),
            func.bool_or(landmarks.is_certainly_brought(log.c.appended_by)),
        ).where(is_of_first)
    ).one()
    last_appended_by = connection.execute(select(log.c.appended_by).where(is_of_first, log.c.position == last)).scalar_one()
    return _Brought(number, last, last_appended_by, has_other_writer, is_certain)


def _others(connection: Connection, log: FromClause, landmarks: _Landmarks, brought: _Brought) -> _Others:
    # A transaction that brought a single event may be one of many that brought one each, such as the INSERTs of a dump.
    over = landmarks.first if brought.number > 1 else max(landmarks.first, landmarks.checkpoints or 0)
    is_appended_here = and_(
        log.c.appended_by >= landmarks.created,
        log.c.appended_by <= log.c.written_by,
        or_(log.c.appended_by == log.c.written_by, log.c.appended_by > over),
    )
    is_other = log.c.written_by != landmarks.first
    are_doubtful, are_seen = connection.execute(
        select(
            func.coalesce(func.bool_or(or_(~is_appended_here, log.c.position < brought.last)), false()),
            func.coalesce(func.bool_or(log.c.is_seen), false()),
        ).where(is_other)
    ).one()
    # A subtransaction belongs to one transaction.
    of_several: Any = (
        select(literal_column("1"))
        .where(is_other)
        .group_by(log.c.written_by)
        .having(func.min(log.c.appended_by) != func.max(log.c.appended_by))
    )
    return _Others(are_doubtful or bool(connection.scalar(select(of_several.exists()))), are_seen)


def _log(events: NamedFromClause, snapshots: Collection[str]) -> FromClause:
    """Select the position of each event, both transactions, and whether one of the snapshots seems to see it."""
    return select(
        events.c.position,
        cast(cast(events.c.transaction_id, Text), BigInteger).label("appended_by"),
        _whole(writer(events)).label("written_by"),
        seen_by_one(events, snapshots).label("is_seen"),
    ).subquery("log")


def _landmarks(connection: Connection, tables: EventSourceTables, here: str, first: int) -> _Landmarks:
    attribute = table("pg_attribute", column("attrelid"), column("attname"), column("xmin"), schema="pg_catalog")
    events: Any = func.to_regclass(regclass_name(connection, tables.events))
    # A system column: no ALTER TABLE changes its row in the catalogue.
    created = select(_whole(attribute.c.xmin)).where(attribute.c.attrelid == events, attribute.c.attname == "ctid")
    positions = tables.projection_positions.alias("positions")
    checkpoints = select(func.min(_whole(writer(positions)))).where(
        positions.c.cluster.is_distinct_from(here), positions.c.snapshot_cursor.is_not(None)
    )
    row = connection.execute(select(created.scalar_subquery(), checkpoints.scalar_subquery())).one()
    return _Landmarks(row[0], first, row[1])


def writer(rows: NamedFromClause) -> ColumnElement[Any]:
    """The transaction, or subtransaction, that wrote a row: a system column, which no table declares; its lower 32 bits."""
    return literal_column(f"{rows.name}.xmin")


def is_of_another(events: NamedFromClause) -> ColumnElement[bool]:
    """Check whether an event has the id of another transaction than the one that wrote its row; a subtransaction is another."""
    return cast(cast(events.c.transaction_id, Text), BigInteger) != _whole(writer(events))


def _whole(transaction_id: ColumnElement[Any]) -> ColumnElement[int]:
    """Complete an id of which the lower 32 bits are known: the one next to those that are being given out."""
    half, all_ = literal(_XMINS // 2, BigInteger), literal(_XMINS, BigInteger)
    following = cast(cast(func.pg_snapshot_xmax(func.pg_current_snapshot()), Text), BigInteger)
    distance = cast(cast(transaction_id, Text), BigInteger) - following + half
    return following - half + func.mod(func.mod(distance, all_, type_=BigInteger) + all_, all_, type_=BigInteger)
