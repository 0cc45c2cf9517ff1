"""What ``alembic revision --autogenerate`` has to know: triggers, partitions, and how to write the library's column types."""

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
from sa_eventsource.migrations.partition_comparison import compare_partitions
from sa_eventsource.migrations.role_operations import compare_rights
from sa_eventsource.migrations.tenant_operations import compare_policies
from sa_eventsource.privacy import SearchHash
from sa_eventsource.read_models import StoredList, StoredNumber

if TYPE_CHECKING:
    from collections.abc import Callable

    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps

    RenderItem = Callable[[str, Any, AutogenContext], str | Literal[False]]

_TYPES = "sa_eventsource.migrations.types"


@comparators.dispatch_for("schema", priority=DispatchPriority.FIRST)
def _render_types(context: AutogenContext, _upgrade_ops: UpgradeOps, _schemas: set[str | None]) -> None:
    """Let :func:`render_item` write the library's types also where ``env.py`` does not pass it, or passes another one."""
    before: RenderItem | None = context.opts.get("render_item")
    if before is render_item:
        return

    def render(kind: str, item: Any, context: AutogenContext) -> str | Literal[False]:
        written = False if before is None else before(kind, item, context)
        return render_item(kind, item, context) if written is False else written

    context.opts["render_item"] = render


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def _compare_what_belongs_to_tables(context: AutogenContext, upgrade_ops: UpgradeOps, _schemas: set[str | None]) -> None:
    """Put partitions and triggers on an events table, and right where they are not as declared; grant what roles lack."""
    connection = context.connection
    if connection is None:
        return
    metadatas = context.metadata if isinstance(context.metadata, list | tuple) else [context.metadata]
    for metadata in metadatas:
        tables = find_tables(metadata) if isinstance(metadata, MetaData) else None
        if tables is None:
            continue
        compare_partitions(connection, tables, upgrade_ops)
        for events in (tables.events, tables.archived_events):
            if events is not None and trigger_faults(connection, events):
                is_there = inspect(connection).has_table(events.name, schema=schema_of(connection, events))
                upgrade_ops.ops.append(CreateEventImmutability(events.name, schema=events.schema, is_repair=is_there))
        compare_policies(connection, tables, upgrade_ops)
        compare_rights(connection, tables, upgrade_ops)


def render_item(kind: str, item: Any, context: AutogenContext) -> str | Literal[False]:
    """Write the library's column types and defaults so that a migration runs on PostgreSQL and SQLite alike.

    Autogeneration calls it once this package is imported. A ``render_item`` of the application's own, as
    ``context.configure(render_item=...)`` takes it, is asked first.
    """
    default = getattr(item, "arg", None) if kind == "server_default" else None
    if kind == "type" and isinstance(item, TransactionId | UtcDateTime):
        return _of_ours(f"{type(item).__name__}()", context)
    if kind == "type" and isinstance(item, SearchHash):
        return f"sa.String(length={item.length})"
    if kind == "type" and isinstance(item, StoredNumber):
        return "sa.Numeric()"
    if kind == "type" and (item is DOCUMENT or isinstance(item, StoredList)):
        return _of_ours("DOCUMENT", context)
    if isinstance(default, current_transaction_id | database_clock):
        return _of_ours(f"{type(default).__name__}()", context)
    return False


def _of_ours(expression: str, context: AutogenContext) -> str:
    context.imports.add(f"import {_TYPES}")
    return f"{_TYPES}.{expression}"
