"""What ``alembic revision --autogenerate`` has to know: the triggers, and how to write the library's column types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from alembic.autogenerate import comparators
from alembic.util import DispatchPriority
from sqlalchemy import MetaData, inspect

from sa_eventsource.mapping import (
    DOCUMENT,
    TransactionId,
    UtcDateTime,
    current_transaction_id,
    database_clock,
    find_tables,
    schema_of,
    trigger_faults,
)
from sa_eventsource.migrations.operations import CreateEventImmutability
from sa_eventsource.read_models import StoredList, StoredNumber

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps

_IMPORT = "import sa_eventsource.mapping.column_types"


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def _compare_triggers(context: AutogenContext, upgrade_ops: UpgradeOps, _schemas: set[str | None]) -> None:
    """Put the triggers on an events table that is about to be created, and right where they are missing, disabled or changed."""
    connection = context.connection
    if connection is None:
        return
    metadatas = context.metadata if isinstance(context.metadata, list | tuple) else [context.metadata]
    for metadata in metadatas:
        tables = find_tables(metadata) if isinstance(metadata, MetaData) else None
        if tables is not None and trigger_faults(connection, tables.events):
            events = tables.events
            is_there = inspect(connection).has_table(events.name, schema=schema_of(connection, events))
            upgrade_ops.ops.append(CreateEventImmutability(events.name, schema=events.schema, is_repair=is_there))


def render_item(kind: str, item: Any, context: AutogenContext) -> str | Literal[False]:
    """Write the library's column types and defaults so that a migration runs on PostgreSQL and SQLite alike.

    Pass it to ``context.configure(render_item=...)`` in ``env.py``; one that is there already can call it first, and go on where
    it returns False.
    """
    if kind == "type" and isinstance(item, TransactionId | UtcDateTime):
        context.imports.add(_IMPORT)
        return f"sa_eventsource.mapping.column_types.{type(item).__name__}()"
    if kind == "type" and isinstance(item, StoredNumber):
        return "sa.Numeric()"
    if kind == "type" and (item is DOCUMENT or isinstance(item, StoredList)):
        context.imports.add(_IMPORT)
        return "sa_eventsource.mapping.column_types.DOCUMENT"
    if kind == "server_default" and isinstance(getattr(item, "arg", None), current_transaction_id):
        context.imports.add(_IMPORT)
        return "sa_eventsource.mapping.column_types.current_transaction_id()"
    if kind == "server_default" and isinstance(getattr(item, "arg", None), database_clock):
        context.imports.add(_IMPORT)
        return "sa_eventsource.mapping.column_types.database_clock()"
    return False
