"""How far each read model has come: a row of ``projection_positions``, locked while the model is brought further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from sa_eventsource.read_models import ReadModelDefinition


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a model has come.

    On PostgreSQL, all that snapshot *since* sees has been processed. While a backlog is worked off in batches, so has what *until*
    sees up to *position*. On SQLite, all up to *position* has.

    Attributes:
        since: The snapshot, as text; None before the first run.
        until: The end of the window that is being worked off; None between windows.
        position: The position reached.
        declaration: Fingerprint of the declaration that made the rows; None before the first run.
        processed_at: When it was last brought further.
    """

    since: str | None = None
    until: str | None = None
    position: int = 0
    declaration: str | None = None
    processed_at: datetime | None = None


def lock(connection: Connection, definition: ReadModelDefinition) -> Checkpoint:
    """Wait until no other transaction works on the model, keep others out until this one ends, and read how far it has come."""
    table = definition.tables.projection_positions
    is_ours = table.c.projection_name == definition.name
    take = update(table).where(is_ours).values(status=table.c.status)  # writes nothing new: it locks the row, on SQLite too
    if connection.execute(take).rowcount == 0:
        dialect_insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        connection.execute(dialect_insert(table).values(projection_name=definition.name).on_conflict_do_nothing())
        connection.execute(take)
    return read(connection, definition)


def read(connection: Connection, definition: ReadModelDefinition) -> Checkpoint:
    """Read how far the model has come, without waiting for those who work on it."""
    table = definition.tables.projection_positions
    columns = table.c
    row = connection.execute(
        select(
            columns.snapshot_cursor,
            columns.window_end,
            columns.last_processed_position,
            columns.declaration,
            columns.last_processed_at,
        ).where(columns.projection_name == definition.name)
    ).one_or_none()
    return Checkpoint() if row is None else Checkpoint(*row)


def save(connection: Connection, definition: ReadModelDefinition, checkpoint: Checkpoint) -> None:
    """Write how far the model has come, with the time, in the transaction that brought it there."""
    table = definition.tables.projection_positions
    connection.execute(
        update(table)
        .where(table.c.projection_name == definition.name)
        .values(
            snapshot_cursor=checkpoint.since,
            window_end=checkpoint.until,
            last_processed_position=checkpoint.position,
            declaration=checkpoint.declaration,
            last_processed_at=func.current_timestamp(),
        )
    )
