"""The INSERTs into each log, built once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.mapping import APPENDED, built_once
from sa_eventsource.store.databases import database_of

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Dialect

    from sa_eventsource.store.databases import InsertStatements, KeysToLock


def insert_statements(
    events: Table, dialect: type[Dialect], columns: tuple[str, ...] = APPENDED, keys: KeysToLock | None = None
) -> InsertStatements:
    """Get the statements for an events table.

    Args:
        events: The table.
        dialect: The class of the dialect of the connection that they are executed on; an instance would be kept alive.
        columns: What is given: ``APPENDED`` or ``MOVED``.
        keys: The keys of subjects that the statements are to lock.

    Raises:
        CompileError: The dialect is neither PostgreSQL nor SQLite.
    """
    return built_once(events.metadata, _build, events, dialect, columns, keys)


def _build(events: Table, dialect: type[Dialect], columns: tuple[str, ...], keys: KeysToLock | None) -> InsertStatements:
    return database_of(dialect).insert_statements(events, columns, keys)
