"""Migration operations for the triggers that keep events as they are: ``op.create_event_immutability("events")``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.operations import MigrateOperation, Operations
from sqlalchemy import MetaData, Table

from sa_eventsource.mapping import create_statements, drop_statements

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext


class OnEventsTable(MigrateOperation):
    """An operation on what belongs to one events table."""

    name: str

    def __init__(self, table_name: str, *, schema: str | None = None) -> None:
        """Name the table."""
        self.table_name = table_name
        self.schema = schema

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Say what differs, as ``alembic check`` reports it."""
        return self.name, self.table_name, self.schema

    def table(self) -> Table:
        """Get the table, for its name and schema."""
        return Table(self.table_name, MetaData(), schema=self.schema)

    def arguments(self, *behind_table: object) -> str:
        """Write the arguments as they stand in a script; those behind the table's name are the operation's own."""
        schema = "" if self.schema is None else f", schema={self.schema!r}"
        return ", ".join(map(repr, (self.table_name, *behind_table))) + schema


@Operations.register_operation("create_event_immutability")
class CreateEventImmutability(OnEventsTable):
    """Put the triggers on an events table, or put them right again."""

    name = "create_event_immutability"

    def __init__(self, table_name: str, *, schema: str | None = None, is_repair: bool = False) -> None:
        """Name the table, and say whether it was there before: what undoes the migration then leaves the triggers on it."""
        super().__init__(table_name, schema=schema)
        self.is_repair = is_repair

    @classmethod
    def create_event_immutability(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Put the triggers on an events table; nothing on databases other than PostgreSQL and SQLite.

        Triggers that are there already, disabled or changed, are put right.

        Args:
            operations: Alembic's ``op``.
            table_name: Name of the events table.
            schema: Its schema.
        """
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> DropEventImmutability | KeepEventImmutability:
        """Give the operation that undoes this one."""
        kind = KeepEventImmutability if self.is_repair else DropEventImmutability
        return kind(self.table_name, schema=self.schema)


@Operations.register_operation("drop_event_immutability")
class DropEventImmutability(OnEventsTable):
    """Take the triggers off an events table."""

    name = "drop_event_immutability"

    @classmethod
    def drop_event_immutability(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Take the triggers off an events table, with their function. Arguments as for ``create_event_immutability``."""
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> CreateEventImmutability:
        """Give the operation that undoes this one."""
        return CreateEventImmutability(self.table_name, schema=self.schema)


class KeepEventImmutability(OnEventsTable):
    """Undoes a repair: does nothing, for what was broken is not to be broken again."""

    name = "keep_event_immutability"


@Operations.implementation_for(CreateEventImmutability)
def _create(operations: Operations, operation: CreateEventImmutability) -> None:
    for statement in create_statements(operation.table(), operations.get_context().dialect.name):
        operations.execute(statement)


@Operations.implementation_for(DropEventImmutability)
def _drop(operations: Operations, operation: DropEventImmutability) -> None:
    for statement in drop_statements(operation.table(), operations.get_context().dialect.name):
        operations.execute(statement)


@Operations.implementation_for(KeepEventImmutability)
def _keep(_operations: Operations, _operation: KeepEventImmutability) -> None:
    pass


@renderers.dispatch_for(CreateEventImmutability)
def _render_create(_context: AutogenContext, operation: CreateEventImmutability) -> str:
    return f"op.create_event_immutability({operation.arguments()})"


@renderers.dispatch_for(DropEventImmutability)
def _render_drop(_context: AutogenContext, operation: DropEventImmutability) -> str:
    return f"op.drop_event_immutability({operation.arguments()})"


@renderers.dispatch_for(KeepEventImmutability)
def _render_keep(_context: AutogenContext, operation: KeepEventImmutability) -> str:
    return f"pass  # the triggers that guard {operation.table_name} stay as they were put right"
