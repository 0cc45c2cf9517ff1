"""What ``alembic revision --autogenerate`` has to know of hash-partitioned events.

The partitions are tables that no metadata has, and Alembic would drop them. Where there are more or fewer than are declared, the
events are to be moved; what Alembic finds to do with the constraint and the index on positions goes before and behind that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import inspect

from sa_eventsource.mapping import found_partitions, schema_of
from sa_eventsource.migrations.operations import CreateEventImmutability
from sa_eventsource.migrations.partition_operations import CreateEventPartitions, RepartitionEvents

if TYPE_CHECKING:
    from alembic.operations.ops import UpgradeOps
    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables, FoundPartitions

_POSITION = "position"


def compare_partitions(connection: Connection, tables: EventSourceTables, upgrade_ops: UpgradeOps) -> None:
    """Put what partitions need among the operations that Alembic has found.

    Args:
        connection: To the database.
        tables: The tables that are declared.
        upgrade_ops: What Alembic has found; it is changed.
    """
    events, wanted = tables.events, tables.options.partitions
    if connection.dialect.name != "postgresql":
        if wanted is not None and inspect(connection).has_table(events.name, schema=schema_of(connection, events)):
            _take_position_changes(upgrade_ops, tables)  # one table, whose positions stay unique
        return
    found = found_partitions(connection, events)
    _leave_partitions_alone(connection, found, upgrade_ops)
    if not found.is_there:
        if wanted is not None:
            upgrade_ops.ops.append(CreateEventPartitions(events.name, wanted, schema=events.schema))
    elif found.fault(wanted) is not None:
        if wanted is not None and found.missing(wanted):
            upgrade_ops.ops.append(CreateEventPartitions(events.name, wanted, schema=events.schema))
            upgrade_ops.ops.append(CreateEventImmutability(events.name, schema=events.schema, is_repair=True))
        else:
            _repartition(tables, found, upgrade_ops)


def _leave_partitions_alone(connection: Connection, found: FoundPartitions, upgrade_ops: UpgradeOps) -> None:
    default = connection.dialect.default_schema_name
    partitions = {(None if schema == default else schema, name) for schema, name in found.tables}
    upgrade_ops.ops[:] = [
        each
        for each in upgrade_ops.ops
        if not isinstance(each, ops.DropTableOp | ops.ModifyTableOps) or (each.schema, each.table_name) not in partitions
    ]


def _repartition(tables: EventSourceTables, found: FoundPartitions, upgrade_ops: UpgradeOps) -> None:
    events = tables.events
    before = len(found.tables) if found.is_partitioned else None
    changes = _take_position_changes(upgrade_ops, tables)
    dropped = [each for each in changes if isinstance(each, ops.DropConstraintOp | ops.DropIndexOp)]
    added = [each for each in changes if isinstance(each, ops.AddConstraintOp | ops.CreateIndexOp)]
    moved = RepartitionEvents(events.name, tables.options.partitions, schema=events.schema, before=before)
    for part in (ops.ModifyTableOps(events.name, dropped, schema=events.schema), moved):
        upgrade_ops.ops.append(part)
    upgrade_ops.ops.append(ops.ModifyTableOps(events.name, added, schema=events.schema))


def _take_position_changes(upgrade_ops: UpgradeOps, tables: EventSourceTables) -> list[Any]:
    """Take out what Alembic would do with the positions alone."""
    taken: list[Any] = []
    for altered in upgrade_ops.ops:
        if isinstance(altered, ops.ModifyTableOps) and altered.table_name == tables.events.name:
            of_positions = [each for each in altered.ops if _columns(each) == [_POSITION]]
            altered.ops[:] = [each for each in altered.ops if each not in of_positions]
            taken += of_positions
    upgrade_ops.ops[:] = [each for each in upgrade_ops.ops if not isinstance(each, ops.ModifyTableOps) or each.ops]
    return taken


def _columns(operation: Any) -> list[str]:
    """Name the columns that an operation on a constraint, an index or a column is about."""
    if isinstance(operation, ops.AlterColumnOp):
        return [operation.column_name]
    if isinstance(operation, ops.AddConstraintOp | ops.DropConstraintOp):
        return [each.name for each in getattr(operation.to_constraint(), "columns", ())]
    if isinstance(operation, ops.CreateIndexOp | ops.DropIndexOp):
        return [getattr(each, "name", "") for each in operation.to_index().expressions]
    return []
