"""The table of commands: those that were handled under an id, and those that wait for their time.

A command has one row, whatever becomes of it, so that its id says whether it is done: a scheduled one that is handled by hand is
not run again, and one that is scheduled twice under an id is there once. A time-out names the process that has scheduled it: it
waits for what that process has yet to take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Integer, MetaData, String, Table, Text, Uuid, func, literal_column, text

from sa_eventsource.mapping.column_types import DOCUMENT, MAX_NAME_LENGTH, UtcDateTime
from sa_eventsource.mapping.kept_rows import KeptRows
from sa_eventsource.mapping.named_indexes import add_index

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy import ColumnElement, FromClause

SCHEDULED, DONE, PARKED, DISCARDED = "scheduled", "done", "parked", "discarded"
"""What a command's row says of it."""

MASKED_COLUMNS = ("command_data", "outcome", "metadata", "schedule_key", "error")
"""What may hold personal data: who is not to see that sees the others."""


def commands_table(name: str, metadata: MetaData, **where: Any) -> Table:
    """Put the table on a metadata.

    Args:
        name: Its name.
        metadata: The application's metadata.
        **where: The schema, if it has one of its own.
    """
    commands = Table(
        name,
        metadata,
        Column("command_id", Uuid, primary_key=True),
        Column("command_type", String(MAX_NAME_LENGTH), nullable=False),
        Column("command_data", DOCUMENT, nullable=False),
        Column("status", String(16), nullable=False),
        Column("outcome", DOCUMENT, nullable=True),
        Column("commit_token", Uuid, nullable=True),
        Column("correlation_id", Uuid, nullable=True),
        Column("causation_id", Uuid, nullable=True),
        Column("metadata", DOCUMENT, nullable=True),
        Column("schedule_key", String(MAX_NAME_LENGTH), nullable=True),
        Column("due_at", UtcDateTime, nullable=True),
        Column("process_type", String(MAX_NAME_LENGTH), nullable=True),
        Column("process_id", String(MAX_NAME_LENGTH), nullable=True),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("error", Text, nullable=True),
        Column("created_at", UtcDateTime, nullable=False, server_default=func.current_timestamp()),
        Column("handled_at", UtcDateTime, nullable=True),
        **where,
    )
    waits = is_scheduled(commands)
    add_index(commands.c.due_at, postgresql_where=waits, sqlite_where=waits)
    # What a process manager holds back is not walked through for what others have to do.
    add_index(commands.c.process_type, commands.c.due_at, postgresql_where=waits, sqlite_where=waits)
    failed = is_parked_command(commands)
    add_index(commands.c.status, postgresql_where=failed, sqlite_where=failed)  # few, among many that are done
    add_index(commands.c.schedule_key, unique=True, postgresql_where=waits, sqlite_where=waits)
    return commands


def is_scheduled(commands: FromClause) -> ColumnElement[bool]:
    """Select the commands that wait for their time, in words that PostgreSQL finds again in the partial indexes."""
    return commands.c.status == literal_column(f"'{SCHEDULED}'", String)


def is_parked_command(commands: Table) -> ColumnElement[bool]:
    """Select the commands that failed and are parked, in words that PostgreSQL finds again in the partial index."""
    return commands.c.status == literal_column(f"'{PARKED}'", String)


def old_commands(commands: Table, keep: timedelta) -> KeptRows:
    """Say which commands are not kept for ever: those that are done or discarded."""
    return KeptRows(commands, commands.c.handled_at, commands.c.status.in_((DONE, DISCARDED)), keep)
