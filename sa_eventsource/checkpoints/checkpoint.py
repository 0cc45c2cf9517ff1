"""How far each follower has come: a row of ``projection_positions``, locked while the follower is advanced."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, or_, select, update

from sa_eventsource.checkpoints.snapshot import Snapshot
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Column, Connection, Table

    from sa_eventsource.consumers import Follower
    from sa_eventsource.mapping import EventSourceTables

STATUSES = RUNNING, WAITING, STOPPED = "running", "waiting", "stopped"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a follower has come.

    On PostgreSQL, all that snapshot *since* sees has been processed. While a backlog is processed in batches, so has what *until*
    sees up to *position*. On SQLite, all up to *position* has.

    Attributes:
        since: The snapshot, as text; None before the first run.
        until: The end of the window that is being processed; None between windows.
        position: The position reached.
        cluster: Identifier of the database cluster that the snapshots are of.
        declaration: Fingerprint of the declaration that made the rows; None before the first run.
        processed_at: When it last advanced.
        status: ``"running"``; ``"waiting"`` while something other than an event stands in the way; ``"stopped"`` at an event that
            cannot be taken.
        failed_position: Where the event is that could not be taken at the last attempt; None if all went well.
        attempts: How often it was tried.
        retry_at: When it is to be tried again; None if there is nothing to retry.
        error: What went wrong, with the traceback.
    """

    since: str | None = None
    until: str | None = None
    position: int = 0
    cluster: str | None = None
    declaration: str | None = None
    processed_at: datetime | None = None
    status: str = RUNNING
    failed_position: int | None = None
    attempts: int = 0
    retry_at: datetime | None = None
    error: str | None = None

    @property
    def is_readable(self) -> bool:
        """Whether the snapshots are snapshots; anything else was not written by the library."""
        for text in (self.since, self.until):
            if text is not None:
                try:
                    Snapshot.parse(text)
                except ValueError:
                    return False
        return True

    @property
    def progress(self) -> tuple[str | None, str | None, int]:
        """What changes when the follower is advanced, and with nothing else."""
        return self.since, self.until, self.position

    def without_failure(self) -> Checkpoint:
        """The same, as if nothing had gone wrong."""
        return replace(self, status=RUNNING, failed_position=None, attempts=0, retry_at=None, error=None)


_COLUMNS = {
    "since": "snapshot_cursor",
    "until": "window_end",
    "position": "last_processed_position",
    "processed_at": "last_processed_at",
}


_NEW = "new checkpoint"
"""Whose advisory lock a transaction holds that inserts a row: the row itself nobody else sees yet."""


def lock_checkpoint(connection: Connection, follower: Follower) -> Checkpoint:
    """Read how far a follower has come, and keep all others from it until the transaction ends.

    Waits for another transaction that works on the follower. Its row is inserted if there is none.

    Args:
        connection: In a transaction, at READ COMMITTED.
        follower: The follower.
    """
    table = follower.tables.projection_positions
    database_of(connection.dialect).become_writer(connection, table)
    statement = _select(table, follower).with_for_update()
    while (row := connection.execute(statement).one_or_none()) is None:
        database_of(connection.dialect).lock_stream(connection, table, _NEW, follower.name)
        _insert(connection, follower)
    return Checkpoint(*row)


def lock_if_free(connection: Connection, follower: Follower) -> Checkpoint | None:
    """Do the same as :func:`lock_checkpoint`, unless another transaction works on the follower: then return None at once."""
    table = follower.tables.projection_positions
    database_of(connection.dialect).become_writer(connection, table)
    statement = _select(table, follower).with_for_update(skip_locked=True)
    row = connection.execute(statement).one_or_none()
    # An INSERT would wait for another one of the same name, as that of a rebuild that is under way.
    is_free = row is None and database_of(connection.dialect).lock_stream_if_free(connection, table, _NEW, follower.name)
    if is_free and _insert(connection, follower):
        row = connection.execute(statement).one_or_none()
    return None if row is None else Checkpoint(*row)


def read_checkpoint(connection: Connection, follower: Follower) -> Checkpoint:
    """Read how far a follower has come, without waiting for those who work on it."""
    row = connection.execute(_select(follower.tables.projection_positions, follower)).one_or_none()
    return Checkpoint() if row is None else Checkpoint(*row)


def read_checkpoints(connection: Connection, tables: EventSourceTables) -> list[tuple[str, Checkpoint]]:
    """Read all checkpoints of a log, with the names that they are kept under, by name."""
    table = tables.projection_positions
    rows = connection.execute(select(table.c.projection_name, *_columns(table)).order_by(table.c.projection_name))
    return [(name, Checkpoint(*values)) for name, *values in rows]


def save_checkpoint(connection: Connection, follower: Follower, checkpoint: Checkpoint, *, made_progress: bool = True) -> None:
    """Write how far a follower has come, in the transaction that brought it there."""
    table = follower.tables.projection_positions
    values: dict[str, Any] = {
        _COLUMNS.get(attribute.name, attribute.name): getattr(checkpoint, attribute.name)
        for attribute in fields(checkpoint)
        if attribute.name != "processed_at"
    }
    if made_progress:
        values["last_processed_at"] = func.current_timestamp()
    connection.execute(update(table).where(table.c.projection_name == follower.name).values(values))


def remove_checkpoints(connection: Connection, tables: EventSourceTables, name: str, *, keep: Collection[str] = ()) -> int:
    """Remove the checkpoints of a consumer and its shards, except those of some names; return how many there were."""
    column = tables.projection_positions.c.projection_name
    of_consumer = or_(column == name, column.startswith(f"{name}#", autoescape=True))
    return connection.execute(delete(tables.projection_positions).where(of_consumer, column.not_in(keep))).rowcount


def _insert(connection: Connection, follower: Follower) -> bool:
    """Insert the row unless it is there; return whether it was not."""
    insert = database_of(connection.dialect).insert(follower.tables.projection_positions)
    statement = insert.values(projection_name=follower.name).on_conflict_do_nothing()
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount > 0


def _select(table: Table, follower: Follower) -> Any:
    return select(*_columns(table)).where(table.c.projection_name == follower.name)


def _columns(table: Table) -> list[Column[Any]]:
    return [table.c[_COLUMNS.get(attribute.name, attribute.name)] for attribute in fields(Checkpoint)]
