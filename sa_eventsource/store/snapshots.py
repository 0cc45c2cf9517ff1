"""Snapshots: the state of an aggregate, stored every so many events, so that loading it reads only what came after.

The state is not taken from the instance that a session has, which other code may have changed: a list of it that was sorted, say.
It is rebuilt from what the log holds, from the snapshot before on, in the transaction that has just written the last event. So
a snapshot is what a load would make, and no other can be newer: whatever is stored for the aggregate is replaced.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Text, and_, bindparam, func, select, true, union_all

from sa_eventsource.aggregates import AggregateDefinition, definition_of, past_view
from sa_eventsource.application_errors import text_of
from sa_eventsource.events import CLOSED_TYPE, is_personal
from sa_eventsource.exceptions import SnapshotError, SnapshotWarning
from sa_eventsource.mapping import built_once, conflict_key
from sa_eventsource.pipelined import MAY_BE_HELD
from sa_eventsource.store.databases import database_of, parameters_of
from sa_eventsource.store.sealing import StoredState, is_masked, sealed_state
from sa_eventsource.store.stored_streams import read_streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Insert, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store.append import Appended, StreamAppend
    from sa_eventsource.store.databases import Database
    from sa_eventsource.store.stored_streams import StoredStream


def write_snapshots(appended: Appended) -> None:
    """Store the state of each aggregate that has passed a multiple of its ``__snapshot_frequency__``.

    Runs in the transaction that wrote the events: one statement reads the streams of a class, one writes the snapshots. A state
    that does not survive being stored is left out, with a warning: the snapshot that is there, or none, and the events after it
    say it as well.
    """
    due: dict[AggregateDefinition, list[str]] = {}
    for definition, stream in _due(appended):
        due.setdefault(definition, []).append(stream.aggregate_id)
    if not due:
        return
    rows = [row for definition, ids in due.items() for row in _rows(appended.connection, definition, ids)]
    if rows:
        if appended.held is not None:
            appended.held.belong_to()
        statement = _statement(appended.tables, database_of(appended.connection.dialect))
        appended.connection.execute(statement, rows, execution_options={MAY_BE_HELD: True})


def are_due(appended: Appended) -> bool:
    """Check whether :func:`write_snapshots` has anything to do."""
    return any(True for _ in _due(appended))


def _due(appended: Appended) -> Iterator[tuple[AggregateDefinition, StreamAppend]]:
    for stream in appended.streams:
        if stream.aggregate is not None:
            definition = definition_of(type(stream.aggregate))
            frequency = definition.snapshot_frequency
            if frequency is not None and _passes_multiple(frequency, stream) and definition.takes_snapshots:
                yield definition, stream


def _passes_multiple(frequency: int, stream: StreamAppend) -> bool:
    return stream.events[-1].version // frequency > stream.expected_version // frequency


def _rows(connection: Connection, definition: AggregateDefinition, aggregate_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    for stream in read_streams(connection, definition, aggregate_ids):
        if not stream.rows:
            continue  # the last event has its snapshot already
        if stream.rows[-1][1] == CLOSED_TYPE:
            continue  # the event is read anyway, by which it is known that the stream is closed
        try:
            state = _folded(definition, stream)
        except Exception as error:  # noqa: BLE001 - whatever an @applies method raises: its events are stored, and that is what counts
            reason = error.reason if isinstance(error, SnapshotError) else f"its events cannot be replayed: {text_of(error)}"
            warnings.warn(SnapshotWarning(definition.aggregate_class.__name__, reason), stacklevel=1)
            continue
        row = _row(connection, definition, stream, state)
        if row is not None:
            yield row


def _folded(definition: AggregateDefinition, stream: StoredStream) -> str:
    """Fold the events of a stream, and write the state that they come to as JSON text."""
    view = past_view(definition.aggregate_class, stream.aggregate_id, stream.rows, snapshot=stream.snapshot)
    return _written(definition, vars(view))


def _written(definition: AggregateDefinition, values: Mapping[str, Any]) -> str:
    """Write a state as JSON text.

    Raises:
        SnapshotError: It cannot be stored. Where its events have personal data, what is said of that quotes no value.
    """
    try:
        return definition.state.dump(values)
    except SnapshotError:
        if not any(map(is_personal, definition.handlers.functions())):
            raise
        unfit = next(
            (f"field {each!r}" for each in sorted(definition.state.names) if _is_unfit(definition, values, each)), "a field"
        )
        reason = f"{unfit} does not fit its annotation, or would not come back as it is"
        raise SnapshotError(definition.aggregate_class.__name__, reason) from None


def _is_unfit(definition: AggregateDefinition, values: Mapping[str, Any], name: str) -> bool:
    """Check whether a field cannot be stored by itself."""
    try:
        definition.state.dump({name: values[name]} if name in values else {})
    except SnapshotError:
        return True
    return False


def _row(connection: Connection, definition: AggregateDefinition, stream: StoredStream, state: str) -> dict[str, Any] | None:
    """Make the row of a snapshot; None where the state is not what it would be for others, or may not be stored any more."""
    version, _, _, _, event_id = stream.rows[-1]
    if stream.keys is not None:
        if is_masked(connection):
            return None  # what was read are placeholders
        if stream.keys:
            in_clear = StoredState(definition.aggregate_type, stream.aggregate_id, version, state)
            sealed = sealed_state(connection, definition.tables, in_clear, stream.keys)
            if sealed is None:
                return None  # somebody was forgotten meanwhile
            state = sealed
    return {
        "aggregate_type": definition.aggregate_type,
        "aggregate_id": stream.aggregate_id,
        "version": version,
        "event_id": UUID(event_id),
        "state": state,
        "state_fingerprint": definition.fingerprint,
    }


def last_snapshot(
    connection: Connection, definition: AggregateDefinition, stream: StoredStream, state: Any, events: Table
) -> dict[str, Any]:
    """Make the row of the last snapshot of a stream that has ended; :func:`put_last_snapshot` stores it.

    Args:
        connection: Where the keys are, and the events.
        definition: The aggregate's class.
        stream: All of the stream, from its first event on.
        state: The aggregate that its events make.
        events: The table that they are in.

    Raises:
        SnapshotError: The class takes no snapshots, its state cannot be stored, or this connection is not to see it.
    """
    name = definition.aggregate_class.__name__
    if not definition.takes_snapshots:
        raise SnapshotError(name, "the class takes no snapshots; set __snapshot_frequency__")
    row = _row(connection, definition, stream, _written(definition, vars(state)))
    if row is None:
        raise SnapshotError(name, "this connection is not to see personal data in it")
    of_stream = events.c.aggregate_type == definition.aggregate_type, events.c.aggregate_id == stream.aggregate_id
    return {**row, "occurred_at": connection.scalar(select(func.max(events.c.occurred_at)).where(*of_stream))}


def put_last_snapshot(connection: Connection, tables: EventSourceTables, row: dict[str, Any]) -> None:
    """Store the last snapshot of a stream that has ended, in place of any other."""
    connection.execute(built_once(tables.snapshots.metadata, _build_last, tables, database_of(connection.dialect)), row)


def _statement(tables: EventSourceTables, database: Database) -> Insert:
    return built_once(tables.snapshots.metadata, _build, tables, database)


def _build(tables: EventSourceTables, database: Database) -> Insert:
    events, snapshots = tables.events, tables.snapshots
    previous, last = snapshots.alias("previous"), events.alias("last")

    def same_stream(table: Any) -> tuple[Any, Any]:
        return table.c.aggregate_type == bindparam("aggregate_type"), table.c.aggregate_id == bindparam("aggregate_id")

    # The latest time among all events in the snapshot, so that load_at_time() knows whether it lies before a moment: events need
    # not be in the order of their times. The snapshot before knows it for its own events, if they are those of the log.
    of_the_log = previous.join(
        last, and_(*same_stream(last), last.c.version == previous.c.version, last.c.event_id == previous.c.event_id)
    )
    covered = select(previous.c.version).select_from(of_the_log).where(*same_stream(previous)).scalar_subquery()
    times = union_all(
        select(func.max(events.c.occurred_at).label("occurred_at")).where(
            *same_stream(events), events.c.version > func.coalesce(covered, 0), events.c.version <= bindparam("version")
        ),
        select(previous.c.occurred_at).select_from(of_the_log).where(*same_stream(previous)),
    ).subquery()
    return _put(tables, database, select(func.max(times.c.occurred_at)).scalar_subquery())


def _build_last(tables: EventSourceTables, database: Database) -> Insert:
    return _put(tables, database, bindparam("occurred_at", type_=tables.snapshots.c.occurred_at.type))


def _put(tables: EventSourceTables, database: Database, occurred_at: ColumnElement[Any]) -> Insert:
    snapshots = tables.snapshots
    values = {
        **parameters_of(snapshots, ("aggregate_type", "aggregate_id", "version", "event_id")),
        "state": database.document(bindparam("state", type_=Text)),
        "state_fingerprint": bindparam("state_fingerprint", type_=snapshots.c.state_fingerprint.type),
        "occurred_at": occurred_at,
    }
    # One that does not see what was anonymised since it began would store it again, for all who load the aggregate.
    may_write = () if tables.anonymisations is None else (database.sees_what_is_committed(),)
    insert = database.insert(snapshots).from_select(list(values), select(*values.values()).where(true(), *may_write))
    return insert.on_conflict_do_update(
        index_elements=conflict_key(snapshots, snapshots.c.aggregate_type, snapshots.c.aggregate_id),
        set_={name: insert.excluded[name] for name in ("version", "event_id", "state", "state_fingerprint", "occurred_at")}
        | {"created_at": func.current_timestamp()},
    )
