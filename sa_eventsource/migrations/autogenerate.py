"""What ``alembic revision --autogenerate`` has to know: the trigger, and how to write the library's column types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from alembic.autogenerate import comparators
from alembic.util import DispatchPriority
from sqlalchemy import Connection, MetaData, text

from sa_eventsource.mapping import find_tables
from sa_eventsource.mapping.column_types import (
    DOCUMENT,
    TransactionId,
    UtcDateTime,
    current_transaction_id,
    database_clock,
)
from sa_eventsource.mapping.immutability import TRIGGER
from sa_eventsource.migrations.operations import CreateEventImmutability
from sa_eventsource.read_models.row_types import StoredList, StoredNumber

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps
    from sqlalchemy import Table

_IMPORT = "import sa_eventsource.mapping.column_types"


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def _compare_triggers(context: AutogenContext, upgrade_ops: UpgradeOps, _schemas: set[str | None]) -> None:
    """Add the trigger where the events table has none, or is about to be created."""
    connection = context.connection
    if connection is None:
        return
    metadatas = context.metadata if isinstance(context.metadata, list | tuple) else [context.metadata]
    for metadata in metadatas:
        tables = find_tables(metadata) if isinstance(metadata, MetaData) else None
        if tables is not None and not _has_trigger(connection, tables.events):
            upgrade_ops.ops.append(CreateEventImmutability(tables.events.name, schema=tables.events.schema))


def _has_trigger(connection: Connection, events: Table) -> bool:
    if connection.dialect.name == "postgresql":
        name = connection.dialect.identifier_preparer.format_table(events)
        found = text("SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(:name) AND tgname LIKE :trigger")
        return bool(connection.scalar(found, {"name": name, "trigger": f"{TRIGGER}%"}) == 2)  # noqa: PLR2004 - rows and TRUNCATE
    if connection.dialect.name == "sqlite":
        found = text("SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name AND name LIKE :trigger")
        return bool(connection.scalar(found, {"name": events.name, "trigger": f"{TRIGGER}%"}) == 2)  # noqa: PLR2004 - UPDATE, DELETE
    return True


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
