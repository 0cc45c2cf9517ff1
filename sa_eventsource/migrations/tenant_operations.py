"""Migration operations for tables that tenants share: ``op.create_tenant_policies("events", "shop_worker")``, ``op.add_tenant``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.operations import MigrateOperation, Operations
from sqlalchemy import MetaData, Table

from sa_eventsource.mapping import addition_statement, is_shared_by_tenants, policy_fault, policy_statements, tenants_worker
from sa_eventsource.store import check_tenant

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps
    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables


class _OnSharedTable(MigrateOperation):
    name: str

    def __init__(self, table_name: str, worker: str, *, schema: str | None = None) -> None:
        """Name the table, and the role that sees all tenants."""
        self.table_name = table_name
        self.worker = worker
        self.schema = schema

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Say what differs, as ``alembic check`` reports it."""
        return self.name, self.table_name, self.worker, self.schema


@Operations.register_operation("create_tenant_policies")
class CreateTenantPolicies(_OnSharedTable):
    """Put row security on a table that tenants share, or put it right again."""

    name = "create_tenant_policies"

    @classmethod
    def create_tenant_policies(cls, operations: Operations, table_name: str, worker: str, *, schema: str | None = None) -> None:
        """Put row security on a table that tenants share, or put it right again.

        Args:
            operations: Alembic's ``op``.
            table_name: The table, which has a column ``tenant_id``.
            worker: The role that may see all tenants. It is created unless it is there, which needs the attribute ``CREATEROLE``.
            schema: The table's schema.
        """
        operations.invoke(cls(table_name, worker, schema=schema))

    def reverse(self) -> KeepTenantPolicies:
        """Give the operation that undoes this one."""
        return KeepTenantPolicies(self.table_name, self.worker, schema=self.schema)


@Operations.register_operation("add_tenant")
class AddTenant(MigrateOperation):
    """Give a table that is there already, with all its rows, to a tenant, so that others can share it."""

    def __init__(self, table_name: str, tenant: str, worker: str, *, schema: str | None = None) -> None:
        """Name the table, the tenant, and the role that sees all tenants."""
        self.table_name = table_name
        self.tenant = tenant
        self.worker = worker
        self.schema = schema

    @classmethod
    def add_tenant(cls, operations: Operations, table_name: str, tenant: str, worker: str, *, schema: str | None = None) -> None:
        """Add the column ``tenant_id`` to a table of the library, put it into all that is unique, and put row security on it.

        No row is written, so that it takes no longer for a long log than its unique indexes take to be built; the table is locked
        meanwhile. Do so with all tables of the library, in one migration, while the application and its workers are stopped: their
        next release declares ``EventSourceOptions(tenants=True)``. It cannot be undone.

        Args:
            operations: Alembic's ``op``.
            table_name: The table, which has no such column.
            tenant: Whose all rows are that it holds.
            worker: The role that may see all tenants. It is created unless it is there, which needs the attribute ``CREATEROLE``.
            schema: The table's schema.

        Raises:
            TenantIdError: The tenant is no text of 1 to 255 characters, or ``"*"``.
        """
        operations.invoke(cls(table_name, check_tenant(tenant), worker, schema=schema))


class KeepTenantPolicies(_OnSharedTable):
    """Undoes that: does nothing. Policies go with their table, and while it is there tenants are not to see each other."""

    name = "keep_tenant_policies"


def compare_policies(connection: Connection, tables: EventSourceTables, upgrade_ops: UpgradeOps) -> None:
    """Put policies on the tables that tenants share where they are missing, also on tables that are about to be created."""
    worker = tenants_worker(tables.options)
    if worker is None or connection.dialect.name != "postgresql":
        return
    for table in tables.events.metadata.sorted_tables:
        if is_shared_by_tenants(table) and policy_fault(connection, table, worker) is not None:
            upgrade_ops.ops.append(CreateTenantPolicies(table.name, worker, schema=table.schema))


@Operations.implementation_for(CreateTenantPolicies)
def _create(operations: Operations, operation: CreateTenantPolicies) -> None:
    table = Table(operation.table_name, MetaData(), schema=operation.schema)
    for statement in policy_statements(table, operation.worker):
        operations.execute(statement)


@Operations.implementation_for(AddTenant)
def _add(operations: Operations, operation: AddTenant) -> None:
    table = Table(operation.table_name, MetaData(), schema=operation.schema)
    for statement in (addition_statement(table, operation.tenant), *policy_statements(table, operation.worker)):
        operations.execute(statement)


@Operations.implementation_for(KeepTenantPolicies)
def _keep(_operations: Operations, _operation: KeepTenantPolicies) -> None:
    pass


@renderers.dispatch_for(CreateTenantPolicies)
def _render_create(_context: AutogenContext, operation: CreateTenantPolicies) -> str:
    schema = "" if operation.schema is None else f", schema={operation.schema!r}"
    return f"op.create_tenant_policies({operation.table_name!r}, {operation.worker!r}{schema})"


@renderers.dispatch_for(KeepTenantPolicies)
def _render_keep(_context: AutogenContext, operation: KeepTenantPolicies) -> str:
    return f"pass  # row security stays on {operation.table_name}, or goes with the table"
