"""Migration operations for the trigger that keeps events as they are: ``op.create_event_immutability("events")``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.autogenerate import renderers
from alembic.operations import MigrateOperation, Operations

from sa_eventsource.mapping.immutability import create_statements, drop_statements

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext


@Operations.register_operation("create_event_immutability")
class CreateEventImmutability(MigrateOperation):
    """Put the trigger on an events table."""

    def __init__(self, table_name: str, *, schema: str | None = None) -> None:
        """Name the table."""
        self.table_name = table_name
        self.schema = schema

    @classmethod
    def create_event_immutability(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Put the trigger on an events table; nothing on databases other than PostgreSQL and SQLite.

        Args:
            operations: Alembic's ``op``.
            table_name: Name of the events table.
            schema: Its schema.
        """
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> DropEventImmutability:
        """Give the operation that undoes this one."""
        return DropEventImmutability(self.table_name, schema=self.schema)


@Operations.register_operation("drop_event_immutability")
class DropEventImmutability(MigrateOperation):
    """Take the trigger off an events table."""

    def __init__(self, table_name: str, *, schema: str | None = None) -> None:
        """Name the table."""
        self.table_name = table_name
        self.schema = schema

    @classmethod
    def drop_event_immutability(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Take the trigger off an events table, with its function. Arguments as for ``create_event_immutability``."""
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> CreateEventImmutability:
        """Give the operation that undoes this one."""
        return CreateEventImmutability(self.table_name, schema=self.schema)


@Operations.implementation_for(CreateEventImmutability)
def _create(operations: Operations, operation: CreateEventImmutability) -> None:
    for statement in create_statements(operation.table_name, operation.schema, operations.get_context().dialect.name):
        operations.execute(statement)


@Operations.implementation_for(DropEventImmutability)
def _drop(operations: Operations, operation: DropEventImmutability) -> None:
    for statement in drop_statements(operation.table_name, operation.schema, operations.get_context().dialect.name):
        operations.execute(statement)


@renderers.dispatch_for(CreateEventImmutability)
def _render_create(_context: AutogenContext, operation: CreateEventImmutability) -> str:
    return f"op.create_event_immutability({_arguments(operation.table_name, operation.schema)})"


@renderers.dispatch_for(DropEventImmutability)
def _render_drop(_context: AutogenContext, operation: DropEventImmutability) -> str:
    return f"op.drop_event_immutability({_arguments(operation.table_name, operation.schema)})"


def _arguments(table_name: str, schema: str | None) -> str:
    return repr(table_name) if schema is None else f"{table_name!r}, schema={schema!r}"
