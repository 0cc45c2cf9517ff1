"""Migration operations for hash-partitioned events: ``op.create_event_partitions`` and ``op.repartition_events``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.operations import Operations
from alembic.util import CommandError

from sa_eventsource.mapping import check_names_are_free, check_partitions, partition_statements
from sa_eventsource.migrations.operations import OnEventsTable
from sa_eventsource.migrations.repartition import repartition

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext


class _PartitionsOfEvents(OnEventsTable):
    """An operation on the partitions of one events table."""

    def __init__(self, table_name: str, partitions: int | None, *, schema: str | None = None) -> None:
        """Name the table, and say how many partitions it is to have."""
        super().__init__(table_name, schema=schema)
        self.partitions = partitions

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Say what differs, as ``alembic check`` reports it."""
        return *super().to_diff_tuple(), self.partitions


@Operations.register_operation("create_event_partitions")
class CreateEventPartitions(_PartitionsOfEvents):
    """Create the partitions of an events table that has just been created, or those that are missing."""

    name = "create_event_partitions"
    partitions: int

    @classmethod
    def create_event_partitions(
        cls, operations: Operations, table_name: str, partitions: int, *, schema: str | None = None
    ) -> None:
        """Create the partitions of an events table, and what its positions are drawn from; nothing on SQLite.

        Partitions that are there already stay as they are. The triggers come afterwards, by ``create_event_immutability``.

        Args:
            operations: Alembic's ``op``.
            table_name: Name of the events table, which was created with ``postgresql_partition_by='HASH (aggregate_id)'``.
            partitions: How many there are to be.
            schema: The table's schema.
        """
        operations.invoke(cls(table_name, partitions, schema=schema))

    def reverse(self) -> KeepEventPartitions:
        """Give the operation that undoes this one."""
        return KeepEventPartitions(self.table_name, self.partitions, schema=self.schema)


class KeepEventPartitions(_PartitionsOfEvents):
    """Undoes the creation of partitions: does nothing, for they go with their table."""

    name = "keep_event_partitions"


@Operations.register_operation("repartition_events")
class RepartitionEvents(_PartitionsOfEvents):
    """Move the events that are there into as many partitions as are declared."""

    name = "repartition_events"

    def __init__(self, table_name: str, partitions: int | None, *, schema: str | None = None, before: int | None = None) -> None:
        """Name the table, and say how many partitions it is to have and how many it has had."""
        super().__init__(table_name, partitions, schema=schema)
        self.before = before

    @classmethod
    def repartition_events(
        cls, operations: Operations, table_name: str, partitions: int | None, *, schema: str | None = None
    ) -> None:
        """Move an events table into a number of hash partitions, or from them into a table without; nothing on SQLite.

        All of an event stays as it is, its position and the transaction that wrote it too, so that whoever follows the log goes on
        where it is. The table is written again and locked meanwhile: nobody can read or append. Alembic writes what is to be done
        with the constraint and the index on positions before and behind it.

        Args:
            operations: Alembic's ``op``, with a connection: what the table has besides its columns is asked of the database.
            table_name: Name of the events table.
            partitions: How many partitions it is to have; None for none.
            schema: The table's schema.

        Raises:
            RepartitionError: Something would be lost with the table that was there: triggers or rules of the application, views and
                foreign keys that refer to it, its place in a publication. Drop it in the migration first, restore it afterwards.
            DeclarationError: There can be no such partitions, or something else has the name of one.
            CommandError: The migration is to be written as SQL.
        """
        operations.invoke(cls(table_name, partitions, schema=schema))

    def reverse(self) -> RepartitionEvents:
        """Give the operation that undoes this one."""
        return RepartitionEvents(self.table_name, self.before, schema=self.schema, before=self.partitions)


@Operations.implementation_for(CreateEventPartitions)
def _create(operations: Operations, operation: CreateEventPartitions) -> None:
    if operations.get_context().dialect.name == "postgresql":
        check_partitions(operation.partitions, operation.table_name)
        table = operation.table()
        if not operations.get_context().as_sql:
            check_names_are_free(operations.get_bind(), table, operation.partitions)
        for statement in partition_statements(table, operation.partitions):
            operations.execute(statement)


@Operations.implementation_for(KeepEventPartitions)
def _keep(_operations: Operations, _operation: KeepEventPartitions) -> None:
    pass


@Operations.implementation_for(RepartitionEvents)
def _repartition(operations: Operations, operation: RepartitionEvents) -> None:
    context = operations.get_context()
    if context.dialect.name != "postgresql":
        return
    if context.as_sql:
        raise CommandError(
            "op.repartition_events asks the database what the table has, and so cannot be written as SQL beforehand; run this "
            "migration with a connection (alembic upgrade without --sql)"
        )
    check_partitions(operation.partitions, operation.table_name)
    repartition(operations.get_bind(), operation.table(), operation.partitions)


@renderers.dispatch_for(CreateEventPartitions)
def _render_create(_context: AutogenContext, operation: CreateEventPartitions) -> str:
    return f"op.create_event_partitions({operation.arguments(operation.partitions)})"


@renderers.dispatch_for(KeepEventPartitions)
def _render_keep(_context: AutogenContext, operation: KeepEventPartitions) -> str:
    return f"pass  # the partitions of {operation.table_name} go with it"


@renderers.dispatch_for(RepartitionEvents)
def _render_repartition(_context: AutogenContext, operation: RepartitionEvents) -> str:
    return f"op.repartition_events({operation.arguments(operation.partitions)})"
