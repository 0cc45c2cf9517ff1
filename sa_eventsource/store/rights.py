"""What the role that is connected may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from sa_eventsource.mapping import regclass_name
from sa_eventsource.store.databases import database_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table


def reader_without_right(connection: Connection, table: Table) -> str | None:
    """Name the role that is connected, where it may not read a table; as :func:`role_without_right`."""
    return role_without_right(connection, table, "SELECT")


def role_without_right(connection: Connection, table: Table, privilege: str) -> str | None:
    """Name the role that is connected, where it lacks a privilege on a table; None where there is no such table, or no roles."""
    if not database_of(connection.dialect).is_server:
        return None
    row = connection.execute(_HAS_RIGHT, {"name": regclass_name(connection, table), "privilege": privilege}).one()
    return None if row.has_right is not False else str(row.role)


_HAS_RIGHT = text(
    "SELECT current_user::text AS role, has_table_privilege(t.oid, :privilege) AS has_right "
    "FROM (SELECT to_regclass(:name)::oid AS oid) AS t"
)
