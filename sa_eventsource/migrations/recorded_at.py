"""The migration of a log from before ``recorded_at``: ``op.add_recorded_at("events")``.

A plain ``add_column`` would have every event say that it was recorded during the migration. This operation gives each event the
time that its id was made, where the id tells (see :mod:`sa_eventsource.store.recording_times`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.autogenerate import comparators, renderers
from alembic.operations import MigrateOperation, Operations, ops
from alembic.util import DispatchPriority
from sqlalchemy import Column, MetaData, Table, literal_column

from sa_eventsource.mapping import TableStatement, UtcDateTime, create_statements, database_clock, find_tables
from sa_eventsource.store import RECORDING_TIME

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps

_COLUMN, _TYPE = "recorded_at", "TIMESTAMP WITH TIME ZONE"


@Operations.register_operation("add_recorded_at")
class AddRecordedAt(MigrateOperation):
    """Add the column to an events table that has none."""

    def __init__(self, table_name: str, *, schema: str | None = None) -> None:
        """Name the table."""
        self.table_name = table_name
        self.schema = schema

    @classmethod
    def add_recorded_at(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Add ``recorded_at`` to an events table, with a time for the events that are there.

        That is the time in an event id that is a UUIDv7, as the library makes them, and else ``occurred_at``, but not later than
        now. The table is rewritten, and locked meanwhile; "Manage the schema with Alembic" says how to avoid that.

        Args:
            operations: Alembic's ``op``.
            table_name: Name of the events table.
            schema: Its schema.
        """
        operations.invoke(cls(table_name, schema=schema))

    def to_diff_tuple(self) -> tuple[str, str, str | None]:
        """Say what is pending, as ``alembic check`` reports it."""
        return "add_recorded_at", self.table_name, self.schema

    def reverse(self) -> ops.DropColumnOp:
        """Give the operation that undoes this one."""
        return ops.DropColumnOp(self.table_name, _COLUMN, schema=self.schema)


@Operations.implementation_for(AddRecordedAt)
def _add(operations: Operations, operation: AddRecordedAt) -> None:
    dialect = operations.get_context().dialect
    table = Table(operation.table_name, MetaData(), Column(_COLUMN, UtcDateTime()), schema=operation.schema)
    if dialect.name == "postgresql":
        operations.execute(TableStatement(table, lambda names: f"ALTER TABLE {names.table} ADD COLUMN {_COLUMN} {_TYPE}"))
        # A column that is converted may be worked out from others, and no trigger sees it; what is added with a default may not.
        operations.execute(
            TableStatement(
                table,
                lambda names: (
                    f"ALTER TABLE {names.table} ALTER COLUMN {_COLUMN} TYPE {_TYPE} USING {RECORDING_TIME['postgresql']}, "
                    f"ALTER COLUMN {_COLUMN} SET DEFAULT clock_timestamp(), ALTER COLUMN {_COLUMN} SET NOT NULL"
                ),
            )
        )
        return
    column: Column[Any] = Column(_COLUMN, UtcDateTime(), server_default=database_clock(), nullable=False)
    with operations.batch_alter_table(operation.table_name, schema=operation.schema, recreate="auto") as batch:
        batch.add_column(column)
    if dialect.name == "sqlite":
        # SQLite cannot add a column with such a default: the table was made again, and its triggers went with the old one.
        operations.execute(table.update().values({_COLUMN: literal_column(RECORDING_TIME["sqlite"])}))
        for statement in create_statements(table, "sqlite"):
            operations.execute(statement)


@renderers.dispatch_for(AddRecordedAt)
def _render(_context: AutogenContext, operation: AddRecordedAt) -> str:
    schema = "" if operation.schema is None else f", schema={operation.schema!r}"
    return f"op.add_recorded_at({operation.table_name!r}{schema})"


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def _replace_plain_column(context: AutogenContext, upgrade_ops: UpgradeOps, _schemas: set[str | None]) -> None:
    """Put this operation where autogeneration would add the column to a log that exists."""
    metadatas = context.metadata if isinstance(context.metadata, list | tuple) else [context.metadata]
    tables = [find_tables(metadata) for metadata in metadatas if isinstance(metadata, MetaData)]
    names = {(each.events.schema, each.events.name) for each in tables if each is not None}
    for position, altered in enumerate(upgrade_ops.ops):
        if isinstance(altered, ops.ModifyTableOps) and (altered.schema, altered.table_name) in names:
            added = [each for each in altered.ops if isinstance(each, ops.AddColumnOp) and each.column.name == _COLUMN]
            if added:
                altered.ops.remove(added[0])
                upgrade_ops.ops.insert(position, AddRecordedAt(altered.table_name, schema=altered.schema))
                return
