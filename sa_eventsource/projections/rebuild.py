"""Rebuilding a read model's rows from the whole log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete

from sa_eventsource.checkpoints import (
    Checkpoint,
    check_cluster,
    lock_checkpoint,
    next_batch,
    read_batch,
    remove_checkpoints,
    save_checkpoint,
)
from sa_eventsource.consumers import Follower, followers_of
from sa_eventsource.observation import observed
from sa_eventsource.projections.parking import has_parked
from sa_eventsource.projections.plans import after
from sa_eventsource.projections.processing import process_batch
from sa_eventsource.projections.transaction import following
from sa_eventsource.read_models import RowsInMemory, forget_rows
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import Batch
    from sa_eventsource.read_models import ReadModelDefinition


def rebuild(session: Session, definition: ReadModelDefinition, *, progress: Callable[[int], None] | None = None) -> int:
    """Rebuild a model's rows from the whole log, in one transaction: readers see the old rows until it commits.

    For an eventual model, writers go on; what they commit in the meantime is caught up with afterwards. For a strong model,
    writers of events wait (``LOCK TABLE ... IN SHARE MODE``). What the model has parked stays there.

    Args:
        session: A session without a transaction in progress.
        definition: The model. For one with handlers, all rows of its own table are deleted and the handlers run for every event;
            what they wrote elsewhere stays.
        progress: Called with the number of events taken so far, after each batch.

    Returns:
        The number of events taken.

    Raises:
        ReadModelError: A handler raised, or the database refused a row. Everything is as it was.
    """
    with observed("rebuild", definition.name) as observation:
        observation.events = _rebuild(session, definition, progress or _report_to_nobody)
    return observation.events


def _rebuild(session: Session, definition: ReadModelDefinition, progress: Callable[[int], None]) -> int:
    with following(session, definition) as connection:
        checkpoint = _lock_all(connection, definition)
        if definition.is_strong:
            database_of(connection.dialect).lock_log(connection, definition.tables.events)
        connection.execute(_delete_rows(definition))
        return _rebuild_rows(session, connection, definition, checkpoint, progress)


def _lock_all(connection: Connection, definition: ReadModelDefinition) -> Checkpoint:
    """Keep all followers of the model from it; return a checkpoint that has come nowhere, in the cluster that answers."""
    followers = followers_of(definition, connection.dialect)
    checkpoint = Checkpoint()
    for follower in followers:
        checkpoint = check_cluster(connection, follower, lock_checkpoint(connection, follower))
    remove_checkpoints(connection, definition.tables, definition.name, keep=[follower.name for follower in followers])
    return Checkpoint(cluster=checkpoint.cluster)


def _rebuild_rows(
    session: Session,
    connection: Connection,
    definition: ReadModelDefinition,
    checkpoint: Checkpoint,
    progress: Callable[[int], None],
) -> int:
    whole_model = Follower(definition, definition.name)
    without_parked = has_parked(connection, definition)
    whole = next_batch(connection, whole_model, checkpoint, None)
    parts = _parts(connection, whole_model, replace(checkpoint, until=whole.until), progress)
    if definition.is_folded(connection.dialect) and not definition.handlers:
        rows = RowsInMemory(connection, definition)
        for part in parts:
            rows.take(read_batch(connection, whole_model, part, whole_model.streams(without_parked=without_parked)))
        rows.store()
    elif whole.outdated or definition.handlers:
        for part in parts:
            process_batch(session, whole_model, part, without_parked=without_parked)
            forget_rows(session)
    else:
        process_batch(session, whole_model, whole, without_parked=without_parked, into_empty=True)
        progress(whole.count)
    for follower in followers_of(definition, connection.dialect):
        save_checkpoint(connection, follower, after(definition, checkpoint, whole, is_last=True))
    return whole.count


def _parts(connection: Connection, follower: Follower, checkpoint: Checkpoint, progress: Callable[[int], None]) -> Iterator[Batch]:
    """Walk through the log from a checkpoint on, in batches that suit the model; report each when the next one is asked for."""
    size = follower.consumer.batch_size
    total, is_last = 0, False
    while not is_last:
        batch = next_batch(connection, follower, checkpoint, size)
        yield batch
        total += batch.count
        progress(total)
        is_last = batch.count < size
        checkpoint = replace(checkpoint, position=batch.upto)


def _report_to_nobody(_total: int) -> None: ...


def _delete_rows(definition: ReadModelDefinition) -> Any:
    statement = delete(definition.table)
    return statement if definition.has_own_table else statement.where(definition.table.c.projection_name == definition.name)
