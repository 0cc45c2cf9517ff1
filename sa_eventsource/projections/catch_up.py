"""Bringing a read model up to date: a batch of events and the checkpoint in one transaction, so that each event counts once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, text
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from sa_eventsource.events import decode_metadata, encode, encode_metadata
from sa_eventsource.exceptions import ReadModelChangedError
from sa_eventsource.projections.backlog import next_batch, read_batch
from sa_eventsource.projections.checkpoints import Checkpoint, lock, save
from sa_eventsource.read_models import apply_events, call_handler, handling, refused
from sa_eventsource.read_models.handlers import forget_rows
from sa_eventsource.read_models.sql import is_outdated, write_statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.projections.backlog import Batch
    from sa_eventsource.read_models import ReadModelDefinition

_DECLARED_BATCH = 100_000
_HANDLER_BATCH = 1_000


def catch_up(session: Session, definition: ReadModelDefinition, *, batch_size: int | None = None) -> int:
    """Let a model take all events that it has not taken yet and that are visible when it is done with the others.

    Each batch is a transaction of its own: it commits the rows together with the checkpoint, or neither.

    Args:
        session: A session without a transaction in progress.
        definition: The model. A strong one has nothing to catch up with.
        batch_size: Events in a transaction; None for what suits the model.

    Returns:
        The number of events taken.

    Raises:
        ReadModelError: A handler raised, or the database refused a row. The batch is rolled back; earlier ones stay.
        ReadModelChangedError: The rows were made under another declaration.
    """
    if definition.is_strong:
        return 0
    size = batch_size or (_HANDLER_BATCH if definition.handlers else _DECLARED_BATCH)
    total = 0
    while True:
        try:
            connection = begin(session, definition)
            checkpoint = lock(connection, definition)
            _check_declaration(definition, checkpoint)
            batch = next_batch(connection, definition, checkpoint, size)
            take(session, connection, definition, batch)
            save(connection, definition, _after(definition, batch, is_last=batch.count < size))
            session.commit()
        except BaseException:
            session.rollback()
            raise
        session.expunge_all()
        total += batch.count
        if batch.count < size:
            return total


def rebuild(session: Session, definition: ReadModelDefinition, *, progress: Callable[[int], None] | None = None) -> int:
    """Make a model's rows anew from the whole log, in one transaction: readers see the old rows until it commits.

    For an eventual model, writers go on; what they commit in the meantime is caught up with afterwards. For a strong model,
    writers of events wait (``LOCK TABLE ... IN SHARE MODE``).

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
    try:
        connection = begin(session, definition)
        lock(connection, definition)
        is_postgresql = connection.dialect.name == "postgresql"
        if definition.is_strong and is_postgresql:
            name = connection.dialect.identifier_preparer.format_table(definition.tables.events)
            connection.execute(text(f"LOCK TABLE {name} IN SHARE MODE"))
        connection.execute(_delete_rows(definition))
        total = _rebuild_rows(session, connection, definition, progress)
        session.commit()
    except BaseException:
        session.rollback()
        raise
    session.expunge_all()
    return total


def begin(session: Session, definition: ReadModelDefinition) -> Connection:
    """Begin a transaction that sees, statement by statement, what others have committed."""
    arguments = {"mapper": definition.model.__mapper__}
    connection = session.connection(bind_arguments=arguments)
    if connection.dialect.name == "postgresql":
        session.rollback()
        return session.connection(bind_arguments=arguments, execution_options={"isolation_level": "READ COMMITTED"})
    return connection


def take(
    session: Session, connection: Connection, definition: ReadModelDefinition, batch: Batch, *, into_empty: bool = False
) -> None:
    """Let a model take a batch of events.

    Raises:
        ReadModelError: A handler raised, or the database refused a row. Roll back.
    """
    if not batch.count:
        return
    in_python = connection.dialect.name != "postgresql"
    events = read_batch(connection, definition, batch) if definition.handlers or in_python else []
    try:
        if definition.events and in_python:
            apply_events(connection, definition, events)
        elif definition.events:
            _write(connection, definition, batch, into_empty=into_empty)
        for each in events:
            call_handler(definition, each, session)
        with handling(session):
            session.flush()
    except (IntegrityError, DataError, ProgrammingError) as error:
        raise refused(definition, events, error) from error


def _write(connection: Connection, definition: ReadModelDefinition, batch: Batch, *, into_empty: bool) -> None:
    statements = write_statements(
        definition,
        "window from the start" if batch.since is None else "window",
        with_upcasted=batch.outdated > 0,
        into_empty=into_empty,
    )
    parameters = batch.parameters
    if batch.outdated:
        outdated = read_batch(connection, definition, batch, is_outdated(definition, definition.tables.events))
        parameters["upcasted"] = "[" + ",".join(map(_as_row, outdated)) + "]"
    if statements.remove is not None:
        statements.remove.execute(connection, parameters)
    statements.write.execute(connection, parameters)


def _as_row(each: RecordedEvent[Any]) -> str:
    """Write an event in its present shape as a row of the log, in JSON."""
    row = {
        "position": each.position,
        "aggregate_type": each.aggregate_type,
        "aggregate_id": each.aggregate_id,
        "version": each.version,
        "event_id": str(each.event_id),
        "event_type": type(each.event).__event_type__,
        "occurred_at": each.occurred_at.isoformat(),
        "correlation_id": None if each.correlation_id is None else str(each.correlation_id),
        "causation_id": None if each.causation_id is None else str(each.causation_id),
        "metadata": decode_metadata(encode_metadata(each.metadata)) or None,
    }
    return f'{json.dumps(row)[:-1]}, "event_data": {encode(each.event)}}}'


def _rebuild_rows(
    session: Session, connection: Connection, definition: ReadModelDefinition, progress: Callable[[int], None] | None
) -> int:
    checkpoint = Checkpoint(declaration=definition.fingerprint)
    whole = next_batch(connection, definition, checkpoint, None)
    if not (whole.outdated or definition.handlers or connection.dialect.name != "postgresql"):
        take(session, connection, definition, whole, into_empty=True)
        save(connection, definition, _after(definition, whole, is_last=True))
        if progress is not None:
            progress(whole.count)
        return whole.count
    size = _HANDLER_BATCH if definition.handlers else _DECLARED_BATCH
    total = 0
    checkpoint = replace(checkpoint, until=whole.until)
    while True:
        batch = next_batch(connection, definition, checkpoint, size)
        take(session, connection, definition, batch)
        forget_rows(session)
        total += batch.count
        if progress is not None:
            progress(total)
        if batch.count < size:
            save(connection, definition, _after(definition, batch, is_last=True))
            return total
        checkpoint = replace(checkpoint, position=batch.upto)


def _after(definition: ReadModelDefinition, batch: Batch, *, is_last: bool) -> Checkpoint:
    """How far a model has come with a batch; with the last of a window, the window is done."""
    return Checkpoint(
        since=batch.until if is_last else batch.since,
        until=None if is_last else batch.until,
        position=batch.upto,
        declaration=definition.fingerprint,
    )


def _check_declaration(definition: ReadModelDefinition, checkpoint: Checkpoint) -> None:
    if checkpoint.declaration is not None and checkpoint.declaration != definition.fingerprint:
        raise ReadModelChangedError(definition.name)


def _delete_rows(definition: ReadModelDefinition) -> Any:
    statement = delete(definition.table)
    return statement if definition.has_own_table else statement.where(definition.table.c.projection_name == definition.name)
