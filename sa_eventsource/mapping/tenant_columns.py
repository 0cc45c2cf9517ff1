"""The column that says whose a row is, on each table that tenants share.

The database fills it in from a setting of the transaction, so that no INSERT names it, and it is a part of each key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Index, String, UniqueConstraint, event, text

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping.column_types import MAX_NAME_LENGTH
from sa_eventsource.mapping.tenant_policies import policy_statements

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Table

TENANT_ID = "tenant_id"
TENANT_SETTING = "sa_eventsource.tenant"
"""The setting of a transaction that says whose it is; also the name under which a session or a connection has it."""
ALL_TENANTS = "*"
"""The value with which a worker sees the rows of all tenants; no row is inserted under it."""

_UNSET = ("", ALL_TENANTS)
_OF_ALL = ("position",)
"""What is unique among all tenants."""


def add_tenant(table: Table, worker: str) -> None:
    """Put the column on a table and into all that is unique, and have ``create_all`` put the policies on it.

    Args:
        table: The table. It may be mapped already: the mapping leaves the column out.
        worker: The role that may see all tenants.
    """
    if TENANT_ID in table.c:
        if _is_ours(table.c[TENANT_ID]):
            return
        raise DeclarationError(f"{table.name!r} has a column {TENANT_ID!r}, and the library would add one of that name. Rename it")
    default = text(f"nullif(nullif(current_setting('{TENANT_SETTING}', true), ''), '{ALL_TENANTS}')")
    tenant = Column(TENANT_ID, String(MAX_NAME_LENGTH), primary_key=True, server_default=default, info={TENANT_SETTING: True})
    table.append_column(tenant)
    for constraint in [each for each in table.constraints if isinstance(each, UniqueConstraint)]:
        columns = list(constraint.columns)
        if tuple(each.name for each in columns) != _OF_ALL:
            table.constraints.discard(constraint)
            table.append_constraint(UniqueConstraint(tenant, *columns, name=constraint.name))
    for index in [each for each in table.indexes if each.unique]:
        table.indexes.discard(index)
        options: Any = dict(index.dialect_kwargs)
        Index(index.name, tenant, *index.expressions, unique=True, **options)
    event.listen(table, "before_create", _refuse_others, propagate=True)
    event.listen(table, "after_create", _policies(worker), propagate=True)


def conflict_key(table: Table, *columns: Any) -> list[ColumnElement[Any]]:
    """Give the columns by which a row is known that these columns identify: with the tenant, where tenants share the table."""
    return [table.c[TENANT_ID], *columns] if is_shared_by_tenants(table) else list(columns)


def is_shared_by_tenants(table: Table) -> bool:
    """Check whether tenants share a table."""
    return TENANT_ID in table.c and _is_ours(table.c[TENANT_ID])


def _is_ours(column: Column[Any]) -> bool:
    return TENANT_SETTING in column.info


def _refuse_others(table: Table, connection: Connection, **_: object) -> None:
    if connection.dialect.name != "postgresql":
        raise DeclarationError(
            f"tenants share {table.name!r} by row security, which PostgreSQL has and {connection.dialect.name} has not. Give each "
            "tenant a database there"
        )


def _policies(worker: str) -> Any:
    def put(table: Table, connection: Connection, **_: object) -> None:
        for statement in policy_statements(table, worker):
            connection.execute(statement)

    return put
