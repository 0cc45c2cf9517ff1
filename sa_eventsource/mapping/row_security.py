"""Row security on tables that should have none: it hides rows from those who are not told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from sa_eventsource.mapping.schemas import regclass_name
from sa_eventsource.mapping.tenant_columns import is_shared_by_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Table

    from sa_eventsource.mapping.tables import EventSourceTables


def row_security_faults(connection: Connection, tables: EventSourceTables) -> Iterator[tuple[Table, str]]:
    """Find what row security does to the library's tables that tenants do not share, each with what is wrong.

    Args:
        connection: On PostgreSQL.
        tables: The library's tables. Those that are not there are left out.
    """
    for option in tables.options.names():
        table: Table | None = getattr(tables, option)
        if table is not None and not is_shared_by_tenants(table):
            fault = _fault(connection, table)
            if fault is not None:
                yield table, fault


def _fault(connection: Connection, table: Table) -> str | None:
    """Say what row security, or policies that wait for it, do to a table that should have neither; None if it has none."""
    found = connection.execute(_FOUND, {"name": regclass_name(connection, table)}).one_or_none()
    if found is None:
        return None
    policies = f"policy {', '.join(found.policies)}" if found.policies else ""
    if found.is_enabled and policies:
        return f"row security is enabled, with {policies}, and hides rows from some roles"
    if found.is_enabled:
        return f"row security is enabled, and hides all rows from every role{'' if found.is_forced else ' but the owner'}"
    if policies:
        return f"there is {policies}, which hides rows from some roles as soon as row security is enabled"
    return "row security is forced on the owner too, and hides rows as soon as it is enabled" if found.is_forced else None


_FOUND = text("""
    SELECT relrowsecurity AS is_enabled, relforcerowsecurity AS is_forced,
        (SELECT array_agg(polname::text ORDER BY polname) FROM pg_policy WHERE polrelid = t.oid) AS policies
    FROM pg_class AS t WHERE t.oid = to_regclass(:name)
""")
