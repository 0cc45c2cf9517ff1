"""Windows: the events that one snapshot of the database sees and an earlier one did not.

A reader that remembers a position only would skip events: positions are drawn at INSERT and become visible at COMMIT. A reader
that remembers a snapshot does not (PgQ's way, https://wiki.postgresql.org/wiki/PgQ_Tutorial): what is visible now and was not then
is new, whatever its position. Within a window, position order keeps each stream in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, BigInteger, Text, and_, any_, bindparam, false, func, literal_column, or_, type_coerce
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import UserDefinedType

from sa_eventsource.mapping import XID8

if TYPE_CHECKING:
    from sqlalchemy import FromClause, Table
    from sqlalchemy.sql import ColumnElement


class PgSnapshot(UserDefinedType[str]):
    """PostgreSQL's ``pg_snapshot``, as text in Python."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Name the type in casts."""
        return "pg_snapshot"


def current_snapshot() -> ColumnElement[str]:
    """What the running statement sees, as text."""
    return sql_cast(func.pg_current_snapshot(), Text)


def in_window(events: Table, *, has_start: bool, until: ColumnElement[str] | None = None) -> list[ColumnElement[bool]]:
    """Select the events of a window on PostgreSQL; parameters are ``since`` and, unless it is given, ``until``.

    Both ends are bounds on the indexed transaction id, so that a window is read without the rest of the log, and the transactions
    that were running when it began are looked up one by one: one that stays open for hours costs a look into the index.

    Their ids are read from the snapshot's text, which the planner does too. Of ids that only the execution finds, it supposes ten,
    each with as many events as the average; where a few transactions brought the log, as an import does, it would read it all.

    Args:
        events: The events table.
        has_start: Whether the window has a start; without one, it holds all that ``until`` sees.
        until: The snapshot in which it ends.
    """
    xid = type_coerce(events.c.transaction_id, XID8)
    end = sql_cast(bindparam("until", type_=Text) if until is None else until, PgSnapshot)
    conditions: list[ColumnElement[bool]] = [
        func.pg_visible_in_snapshot(xid, end),
        xid < type_coerce(func.pg_snapshot_xmax(end), XID8),
    ]
    if has_start:
        since = sql_cast(bindparam("since", type_=Text), PgSnapshot)
        listed = func.split_part(bindparam("since", type_=Text), literal_column("':'"), literal_column("3"))
        running = sql_cast(func.string_to_array(listed, literal_column("','")), ARRAY(XID8))
        conditions.append(or_(xid >= type_coerce(func.pg_snapshot_xmax(since), XID8), xid == any_(running)))
    return conditions


def visible_in(events: FromClause, snapshot: ColumnElement[str]) -> ColumnElement[bool]:
    """Select the events that a snapshot, given as text, sees; null where it is null."""
    return func.pg_visible_in_snapshot(type_coerce(events.c.transaction_id, XID8), sql_cast(snapshot, PgSnapshot))


def taken(events: Table, *, in_progress: bool) -> ColumnElement[bool]:
    """Select the events that a reader has taken which has come to snapshot ``since``.

    Args:
        events: The events table.
        in_progress: Whether it is working off a window: it has then also taken what ``until`` sees up to position ``upto``.
    """
    since, until = (sql_cast(bindparam(name, type_=Text), PgSnapshot) for name in ("since", "until"))
    xid = type_coerce(events.c.transaction_id, XID8)
    seen: ColumnElement[bool] = func.pg_visible_in_snapshot(xid, since)
    if not in_progress:
        return seen
    walked = and_(func.pg_visible_in_snapshot(xid, until), events.c.position <= bindparam("upto", type_=BigInteger))
    return or_(func.coalesce(seen, false()), walked)


def between_positions(events: Table) -> list[ColumnElement[bool]]:
    """Select the events after position ``after`` up to ``upto``, which is included."""
    position = events.c.position
    return [position > bindparam("after", type_=BigInteger), position <= bindparam("upto", type_=BigInteger)]
