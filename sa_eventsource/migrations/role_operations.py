"""Migration operation for the rights of roles: ``op.grant_rights("shop_app", "events", ["SELECT", "INSERT"])``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.operations import MigrateOperation, Operations
from sqlalchemy import MetaData, Table

from sa_eventsource.roles import grant_statements, role_statement, tables_to_grant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps
    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables


class _OfRole(MigrateOperation):
    name: str

    def __init__(self, role: str, table_name: str, privileges: Sequence[str], *, schema: str | None = None) -> None:
        """Name the role and the table."""
        self.role = role
        self.table_name = table_name
        self.privileges = tuple(privileges)
        self.schema = schema

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Say what differs, as ``alembic check`` reports it."""
        return self.name, self.role, self.table_name, self.privileges, self.schema


@Operations.register_operation("grant_rights")
class GrantRights(_OfRole):
    """Give a role these rights on a table, and no others."""

    name = "grant_rights"

    @classmethod
    def grant_rights(
        cls, operations: Operations, role: str, table_name: str, privileges: Sequence[str], *, schema: str | None = None
    ) -> None:
        """Give a role these rights on a table, and no others; nothing on databases other than PostgreSQL.

        The role is created unless it is there, which needs the attribute ``CREATEROLE``.

        Args:
            operations: Alembic's ``op``.
            role: The role.
            table_name: The table.
            privileges: As ``GRANT`` names them, such as ``["SELECT", "UPDATE (created_at)"]``; none to take all of them.
            schema: The table's schema.
        """
        operations.invoke(cls(role, table_name, privileges, schema=schema))

    def reverse(self) -> KeepRights:
        """Give the operation that undoes this one."""
        return KeepRights(self.role, self.table_name, self.privileges, schema=self.schema)


class KeepRights(_OfRole):
    """Undoes a grant: does nothing. Rights go with their table, and what they were before is not known."""

    name = "keep_rights"


def compare_rights(connection: Connection, tables: EventSourceTables, upgrade_ops: UpgradeOps) -> None:
    """Have the roles of a base, if it declares any, granted what they lack, also on tables that are about to be created."""
    if tables.options.roles is None or connection.dialect.name != "postgresql":
        return
    for role, table, privileges in tables_to_grant(connection, tables):
        upgrade_ops.ops.append(GrantRights(role, table.name, privileges, schema=table.schema))


@Operations.implementation_for(GrantRights)
def _grant(operations: Operations, operation: GrantRights) -> None:
    if operations.get_context().dialect.name != "postgresql":
        return
    table = Table(operation.table_name, MetaData(), schema=operation.schema)
    operations.execute(role_statement(table, operation.role))
    for statement in grant_statements(operation.role, table, operation.privileges):
        operations.execute(statement)


@Operations.implementation_for(KeepRights)
def _keep(_operations: Operations, _operation: KeepRights) -> None:
    pass


@renderers.dispatch_for(GrantRights)
def _render_grant(_context: AutogenContext, operation: GrantRights) -> str:
    schema = "" if operation.schema is None else f", schema={operation.schema!r}"
    return f"op.grant_rights({operation.role!r}, {operation.table_name!r}, {list(operation.privileges)!r}{schema})"


@renderers.dispatch_for(KeepRights)
def _render_keep(_context: AutogenContext, operation: KeepRights) -> str:
    return f"pass  # the rights of {operation.role} on {operation.table_name} stay, or go with the table"
