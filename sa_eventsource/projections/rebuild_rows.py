"""Rebuilding some rows of a read model: those of given keys, or those that the events of a stretch of the log belong to."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, delete, func, literal_column, or_, select

from sa_eventsource.arguments import comparable_moment
from sa_eventsource.checkpoints import at_end, lock_checkpoint, of_consumer, of_taken
from sa_eventsource.consumers import followers_of
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.projections.parking import has_parked
from sa_eventsource.projections.plans import check_declaration
from sa_eventsource.projections.transaction import following, reading
from sa_eventsource.read_models import RowsInMemory, is_row
from sa_eventsource.read_models.sql import events_as_rows, is_outdated, of_streams, streams_of_rows, write_statements
from sa_eventsource.store import database_of, recorded_in_parts, select_events

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.checkpoints import Checkpoint
    from sa_eventsource.consumers import Follower, Streams
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.read_models import ReadModelDefinition

_Key = tuple[Any, ...]

_DELETED_AT_A_TIME = 200
_READ_AT_A_TIME = 1_000


def refuse_handlers(definition: ReadModelDefinition) -> None:
    """Refuse a model that cannot be rebuilt in part.

    Raises:
        DeclarationError: It has handlers, which cannot be run for one row.
    """
    if definition.handlers:
        raise DeclarationError(
            f"{definition.name} has @handles methods, which may write any row: rebuild it as a whole with EventReplayer.rebuild()"
        )


def rebuild_rows(session: Session, definition: ReadModelDefinition, keys: Collection[_Key]) -> int:
    """Rebuild the rows of some keys, from all events that the model has taken, in one transaction.

    The model is kept from taking others until it commits; for a strong one, writers of events wait.

    Args:
        session: A session without a transaction in progress.
        definition: The model, without ``@handles`` methods.
        keys: The keys, each as a tuple of the values of its parts.

    Returns:
        The number of rows that there are of these keys now.

    Raises:
        ReadModelChangedError: The rows were made under another declaration.
    """
    normal = {tuple(part.type.normalise(value) for part, value in zip(definition.key, key, strict=True)) for key in keys}
    in_order = sorted(normal, key=repr)
    with following(session, definition) as connection:
        _rebuild(connection, definition, _taken(connection, definition, locked_followers(connection, definition)), normal)
        return sum(_count(connection, definition, chunk) for chunk in _chunks(in_order))


def rebuild_rows_of(
    connection: Connection,
    definition: ReadModelDefinition,
    followers: Sequence[tuple[Follower, Checkpoint]],
    conditions: Sequence[ColumnElement[bool]],
) -> int:
    """Rebuild the rows that some events belong to, in a transaction in progress at READ COMMITTED.

    Args:
        connection: The connection.
        definition: The model, without ``@handles`` methods.
        followers: What :func:`locked_followers` gave. Of a strong model, writers of events wait from here on.
        conditions: Which events.

    Returns:
        The number of keys whose rows were rebuilt.
    """
    keys = keys_of_events(connection, definition, conditions)
    rebuild_rows_with(connection, definition, followers, keys)
    return len(keys)


def keys_of_events(connection: Connection, definition: ReadModelDefinition, conditions: Sequence[ColumnElement[bool]]) -> set[_Key]:
    """Find the keys of the rows that some events belong to."""
    found = {definition.key_of(event) for event in _read(connection, definition, [of_consumer(definition), *conditions])}
    return {key for key in found if key is not None}


def rebuild_rows_with(
    connection: Connection,
    definition: ReadModelDefinition,
    followers: Sequence[tuple[Follower, Checkpoint]],
    keys: set[_Key],
) -> None:
    """Rebuild the rows of some keys, in a transaction in progress at READ COMMITTED. As :func:`rebuild_rows_of`."""
    if keys:
        _rebuild(connection, definition, _taken(connection, definition, followers), keys)


def _rebuild(
    connection: Connection, definition: ReadModelDefinition, progress: Sequence[tuple[Follower, Checkpoint]], keys: set[_Key]
) -> None:
    _delete(connection, definition, sorted(keys, key=repr))
    if definition.is_folded(connection.dialect):
        _fold(connection, definition, progress, keys)
    else:
        for follower, checkpoint in progress:
            _write(connection, follower, checkpoint, keys)


def keys_between(
    session: Session,
    definition: ReadModelDefinition,
    *,
    positions: tuple[int, int] | None = None,
    times: tuple[datetime, datetime] | None = None,
) -> set[_Key]:
    """Find the keys of the rows that the events of a stretch of the log belong to.

    Args:
        session: A session without a transaction in progress.
        definition: The model.
        positions: The first and the last position.
        times: The earliest time, and the one before which events occurred.
    """
    events = definition.tables.events
    where = [of_consumer(definition)]
    if positions is not None:
        where.append(events.c.position.between(*positions))
    if times is not None:
        first, end = map(comparable_moment, times)
        where += [events.c.occurred_at >= first, events.c.occurred_at < end]
    with reading(session, definition) as connection:
        keys = {definition.key_of(event) for event in _read(connection, definition, where)}
    return {key for key in keys if key is not None}


def locked_followers(connection: Connection, definition: ReadModelDefinition) -> list[tuple[Follower, Checkpoint]]:
    """Lock all checkpoints of the model, and return how far each follower has come.

    Raises:
        ReadModelChangedError: The rows were made under another declaration.
    """
    progress = []
    for follower in followers_of(definition, connection.dialect):
        checkpoint = lock_checkpoint(connection, follower)
        check_declaration(definition, checkpoint)
        progress.append((follower, checkpoint))
    return progress


def _taken(
    connection: Connection, definition: ReadModelDefinition, progress: Sequence[tuple[Follower, Checkpoint]]
) -> Sequence[tuple[Follower, Checkpoint]]:
    """Give what each follower has taken: a strong one has come to the end, where writers of events wait from here on."""
    if definition.is_strong:
        database_of(connection.dialect).lock_log(connection, definition.tables.events)
        end = at_end(connection, definition.tables)
        return [(follower, end) for follower, _ in progress]
    return progress


def _fold(
    connection: Connection, definition: ReadModelDefinition, progress: Sequence[tuple[Follower, Checkpoint]], keys: set[_Key]
) -> None:
    """Work out the rows in Python, from what each follower has taken."""
    rows = RowsInMemory(connection, definition)
    for follower, checkpoint in progress:
        if _has_taken_none(connection, checkpoint):
            continue
        where, parameters = _of_rows(connection, follower, checkpoint, _streams(connection, follower), keys)
        events = _read(connection, definition, where, parameters)
        while some := list(islice(events, _READ_AT_A_TIME)):
            rows.take(event for event in some if definition.key_of(event) in keys)
    rows.store()


def _write(connection: Connection, follower: Follower, checkpoint: Checkpoint, keys: set[_Key]) -> None:
    """Have the database work out the rows, from what a follower has taken."""
    if _has_taken_none(connection, checkpoint):
        return
    definition: Any = follower.consumer
    streams = _streams(connection, follower)
    where, parameters = _of_rows(connection, follower, checkpoint, streams, keys)
    in_progress = checkpoint.until is not None
    where.append(is_outdated(definition, definition.tables.events))
    outdated = [event for event in _read(connection, definition, where, parameters) if definition.key_of(event) in keys]
    parts = definition.key
    documents = [[part.type.to_json(value) for part, value in zip(parts, key, strict=True)] for key in keys]
    statements = write_statements(
        definition, "rows in progress" if in_progress else "rows", streams=streams, with_upcasted=bool(outdated)
    )
    # Without its removals: the rows are not there, and what came before a removal is left out by the positions.
    statements.write.execute(
        connection, {**parameters, "keys": json.dumps(documents, default=str), "upcasted": events_as_rows(definition, outdated)}
    )


def _has_taken_none(connection: Connection, checkpoint: Checkpoint) -> bool:
    has_snapshots = not database_of(connection.dialect).has_one_writer
    return has_snapshots and checkpoint.since is None and checkpoint.until is None


def _streams(connection: Connection, follower: Follower) -> Streams:
    return follower.streams(without_parked=has_parked(connection, follower.consumer))


def _of_rows(
    connection: Connection, follower: Follower, checkpoint: Checkpoint, streams: Streams, keys: set[_Key]
) -> tuple[list[ColumnElement[bool]], dict[str, Any]]:
    """Select what a follower has taken; only of the rows' streams, where their keys say which these are."""
    definition: Any = follower.consumer
    where, parameters = of_taken(follower, checkpoint, streams)
    if database_of(connection.dialect).works_out_fields:
        where += of_streams(definition)
        parameters |= streams_of_rows(connection, definition, keys)
    return where, parameters


def _read(
    connection: Connection,
    definition: ReadModelDefinition,
    where: Sequence[ColumnElement[bool]],
    parameters: dict[str, Any] | None = None,
) -> Iterator[RecordedEvent[Any]]:
    events = definition.tables.events
    by_position: ColumnElement[int] = events.c.position
    if parameters and "stream_ids" in parameters:
        # A cursor is planned for its first rows: it would walk the index on positions through the log, for those of a few streams.
        by_position = by_position + literal_column("0", BigInteger)
    statement = select_events(events).where(*where).order_by(by_position)
    rows = connection.execute(statement, parameters or {}, execution_options={"yield_per": _READ_AT_A_TIME})
    found = recorded_in_parts(connection, events, rows, _READ_AT_A_TIME, definition.personal_data)
    return filter(definition.takes, found)  # of a stored event that is read as several, some may be others


def _delete(connection: Connection, definition: ReadModelDefinition, keys: Sequence[_Key]) -> None:
    for chunk in _chunks(keys):
        connection.execute(delete(definition.table).where(or_(*(is_row(definition, key) for key in chunk))))


def _count(connection: Connection, definition: ReadModelDefinition, keys: Sequence[_Key]) -> int:
    condition = or_(*(is_row(definition, key) for key in keys))
    return connection.execute(select(func.count()).select_from(definition.table).where(condition)).scalar_one()


def _chunks(keys: Sequence[_Key]) -> Iterator[Sequence[_Key]]:
    return (keys[start : start + _DELETED_AT_A_TIME] for start in range(0, len(keys), _DELETED_AT_A_TIME))
