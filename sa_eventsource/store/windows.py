"""Windows: the events that one snapshot of the database sees and an earlier one did not.

A reader that remembers a position only would skip events: positions are drawn at INSERT and become visible at COMMIT. A reader
that remembers a snapshot does not (PgQ's way, https://wiki.postgresql.org/wiki/PgQ_Tutorial): what is visible now and was not then
is new, whatever its position. Within a window, position order keeps each stream in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Text, any_, bindparam, func, or_, select, type_coerce
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import UserDefinedType

from sa_eventsource.mapping.column_types import XID8

if TYPE_CHECKING:
    from sqlalchemy import Table
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


def in_window(events: Table, *, has_start: bool) -> list[ColumnElement[bool]]:
    """Select the events of a window on PostgreSQL; parameters are ``since`` and ``until``.

    Args:
        events: The events table.
        has_start: Whether the window has a start; without one, it holds all that ``until`` sees.
    """
    xid = events.c.transaction_id
    until = sql_cast(bindparam("until", type_=Text), PgSnapshot)
    conditions: list[ColumnElement[bool]] = [func.pg_visible_in_snapshot(xid, until)]
    if has_start:
        since = sql_cast(bindparam("since", type_=Text), PgSnapshot)
        running = select(func.pg_snapshot_xip(since)).scalar_subquery()
        conditions.append(
            or_(
                type_coerce(xid, XID8) >= type_coerce(func.pg_snapshot_xmax(since), XID8),
                type_coerce(xid, XID8) == any_(func.array(running, type_=XID8)),
            )
        )
    return conditions


def between_positions(events: Table) -> list[ColumnElement[bool]]:
    """Select the events after position ``after`` up to ``upto``, which is included."""
    position = events.c.position
    return [position > bindparam("after", type_=BigInteger), position <= bindparam("upto", type_=BigInteger)]
