"""Reading what an aggregate is rebuilt from: its latest usable snapshot and the events after it, in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, Text, and_, bindparam, cast, func, literal_column, null, select, union_all

from sa_eventsource.aggregates import SnapshotState
from sa_eventsource.arguments import comparable_moment
from sa_eventsource.events import ARCHIVED_TYPE, CLOSED_TYPE, StreamClosed, parsed, sealed_names
from sa_eventsource.mapping import UtcDateTime, built_once
from sa_eventsource.store.archived_streams import Marker, compacted_among, has_returned
from sa_eventsource.store.driver_statement import DriverStatement
from sa_eventsource.store.sealing import StoredPayloads, StoredState, is_sealed_state, opened_with_states, place_of
from sa_eventsource.store.tenants import require_tenant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from sqlalchemy import Connection, Result, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.aggregates import AggregateDefinition

STREAMS_AT_ONCE = 500
"""Aggregates read by one statement; SQLite's oldest limit on parameters is 999."""

_payload = itemgetter(1, 2, 3, 4, 5)
_identifier = itemgetter(0)


@dataclass(slots=True)
class StoredStream:
    """What one aggregate is rebuilt from.

    Attributes:
        aggregate_id: Its id as stored.
        snapshot: What to start from, or None.
        rows: Version, event type, event version, payload text and event id (as text) of each event after that, by version.
        keys: The keys that opened personal data of it, which the snapshot or the payloads hold; None where nothing was sealed.
    """

    aggregate_id: str
    snapshot: SnapshotState | None
    rows: Sequence[tuple[int, str, int, str, str]]
    keys: AbstractSet[str] | None = None


def read_stream(  # noqa: PLR0913 - by keyword
    connection: Connection,
    definition: AggregateDefinition,
    aggregate_id: str,
    *,
    version: int | None = None,
    moment: datetime | None = None,
    from_start: bool = False,
    options: Mapping[str, Any] | None = None,
) -> StoredStream | None:
    """Read one aggregate's events, from its latest usable snapshot on.

    Args:
        connection: Where to read.
        definition: The aggregate's class.
        aggregate_id: Its id as stored.
        version: Read up to this version, included.
        moment: Read the events that occurred up to this time, included.
        from_start: Whether to ignore snapshots.
        options: Execution options of the statement that it belongs to.

    Returns:
        The stream, or None if nothing is there (up to then).

    Raises:
        StreamArchivedError: It is archived, and its last state was not kept, or is not of use, or is not what is asked for.
    """
    for stream in _read(
        connection, definition, [aggregate_id], version=version, moment=moment, from_start=from_start, options=options
    ):
        return stream
    return None


def read_snapshot(
    connection: Connection, definition: AggregateDefinition, aggregate_id: str, *, until: int
) -> SnapshotState | None:
    """Read one aggregate's snapshot; None where there is none of use, or it is of a later version than *until*."""
    if not definition.takes_snapshots:
        return None
    snapshots = definition.tables.snapshots
    version = connection.execute(
        select(snapshots.c.version).where(
            snapshots.c.aggregate_type == definition.aggregate_type,
            snapshots.c.aggregate_id == aggregate_id,
            snapshots.c.version <= until,
            snapshots.c.state_fingerprint == definition.fingerprint,
        )
    ).scalar_one_or_none()
    if version is None:
        return None
    parameters = {**_ids(definition, [aggregate_id]), "until_version": version, "fingerprint": definition.fingerprint}
    rows, _ = _rows(connection, definition, parameters, options=None)
    stream = _stream(definition, aggregate_id, list(rows)) if rows else None
    return None if stream is None else stream.snapshot


def read_streams(
    connection: Connection,
    definition: AggregateDefinition,
    aggregate_ids: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
) -> Iterator[StoredStream]:
    """Read many aggregates' events, some hundred aggregates a statement. Errors as for :func:`read_stream`."""
    for start in range(0, len(aggregate_ids), STREAMS_AT_ONCE):
        yield from _read(connection, definition, aggregate_ids[start : start + STREAMS_AT_ONCE], options=options)


def read_archived_streams(
    connection: Connection,
    definition: AggregateDefinition,
    aggregate_ids: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
) -> Iterator[StoredStream]:
    """Read all events of some streams from the table of archived events. There is nothing of one whose events are in a file."""
    rows, keys = _rows(connection, definition, _ids(definition, aggregate_ids), are_archived=True, options=options)
    for aggregate_id, group in groupby(rows, key=_identifier):
        yield StoredStream(aggregate_id, None, [_payload(row) for row in group], keys.get(aggregate_id))


def _read(  # noqa: PLR0913 - by keyword
    connection: Connection,
    definition: AggregateDefinition,
    aggregate_ids: Sequence[str],
    *,
    version: int | None = None,
    moment: datetime | None = None,
    from_start: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Iterator[StoredStream]:
    if definition.tables.options.tenants:
        require_tenant(connection, definition.tables.events)
    parameters = _ids(definition, aggregate_ids)
    if version is not None:
        parameters["until_version"] = version
    if moment is not None:
        parameters["until_moment"] = comparable_moment(moment)
    if not from_start and definition.takes_snapshots:
        parameters["fingerprint"] = definition.fingerprint
    rows, keys = _rows(connection, definition, parameters, options=options)
    archived: list[Marker] = []
    for aggregate_id, group in groupby(rows, key=_identifier):
        of_one = list(group)
        is_archived = of_one[-1][2] == ARCHIVED_TYPE
        stream = _last_state(definition, aggregate_id, of_one) if is_archived else _stream(definition, aggregate_id, of_one)
        if is_archived and (stream is None or moment is not None):
            archived.append(_marker(definition, aggregate_id, of_one))
        elif stream is not None:
            stream.keys = keys.get(aggregate_id)
            yield stream
        else:
            yield from _read(
                connection, definition, [aggregate_id], version=version, moment=moment, from_start=True, options=options
            )
    if archived:
        yield from _from_archive(connection, definition, archived, moment=moment, options=options)


def _from_archive(
    connection: Connection,
    definition: AggregateDefinition,
    markers: Sequence[Marker],
    *,
    moment: datetime | None,
    options: Mapping[str, Any] | None,
) -> Iterator[StoredStream]:
    """Read compacted streams that have no snapshot, or none that is of use: they are made of their archived events.

    One may be brought back between the statement that has read its marker and this one; then it is read again.

    Raises:
        StreamArchivedError: One is not compacted, or its events are in a file; or it is asked for as it was at a moment, which is
            not known without the times of all events.
    """
    compacted = compacted_among(connection, definition.tables.events, markers, options=options)
    for each in markers:
        is_compacted = each.archive_id in compacted
        if moment is not None or not is_compacted:
            raise each.error(is_compacted=is_compacted)
    streams = read_archived_streams(connection, definition, [each.aggregate_id for each in markers], options=options)
    found = {each.aggregate_id: each for each in streams}
    for each in markers:
        stream = found.get(each.aggregate_id)
        if stream is not None and stream.rows[-1][0] == each.version:
            yield stream
        elif has_returned(connection, definition.tables.events, each, options=options):
            yield from _read(connection, definition, [each.aggregate_id], from_start=True, options=options)
        else:
            raise each.error(is_compacted=True)


def _ids(definition: AggregateDefinition, aggregate_ids: Sequence[str]) -> dict[str, Any]:
    which = {"aggregate_id": aggregate_ids[0]} if len(aggregate_ids) == 1 else {"aggregate_ids": aggregate_ids}
    return {"aggregate_type": definition.aggregate_type, **which}


def _rows(
    connection: Connection,
    definition: AggregateDefinition,
    parameters: dict[str, Any],
    *,
    are_archived: bool = False,
    options: Mapping[str, Any] | None,
) -> tuple[Sequence[Any], Mapping[str, AbstractSet[str]]]:
    """Read rows, with what is sealed in them opened, and the keys by which it was."""
    statement = _statement(definition, frozenset(parameters), are_archived=are_archived)
    rows: Sequence[Any] = statement.execute(connection, parameters, options=options).all()
    names = sealed_names()
    return _opened(connection, definition, rows, names) if names else (rows, {})


def _opened(
    connection: Connection, definition: AggregateDefinition, rows: Sequence[Any], names: AbstractSet[str]
) -> tuple[Sequence[Any], Mapping[str, AbstractSet[str]]]:
    """Open payloads that may have something sealed, and sealed states; one that cannot be opened any more becomes no state.

    Returns:
        The rows, and the keys that opened something, by the id of each aggregate that has something sealed.
    """
    if not rows:
        return rows, {}
    aggregate_ids, versions, event_types, event_versions, texts, event_ids = zip(*rows, strict=True)  # quick, as below
    which = [number for number, event_type in enumerate(event_types) if event_type in names]
    with_states = [number for number, name in enumerate(event_types) if name is None and is_sealed_state(texts[number])]
    if not which and not with_states:
        return rows, {}
    aggregate_type = definition.aggregate_type
    payloads = StoredPayloads(
        [texts[number] for number in which],
        [place_of(event_ids[number].replace("-", ""), aggregate_type, aggregate_ids[number]) for number in which],
        lambda number: (event_types[which[number]], event_versions[which[number]]),
    )
    states = [StoredState(aggregate_type, aggregate_ids[number], versions[number], texts[number]) for number in with_states]
    opened, opened_states = opened_with_states(connection, definition.tables.events, payloads, states)
    clear = list(texts)
    for number, text in zip(which, opened.texts, strict=True):
        clear[number] = text
    used = set(zip([aggregate_ids[number] for number in which], opened.keys, strict=True))
    for number, state in zip(with_states, opened_states, strict=True):
        clear[number] = "null" if state is None else state.text
        used.add((aggregate_ids[number], frozenset() if state is None else state.keys))
    keys: dict[str, AbstractSet[str]] = {}
    for aggregate_id, some in used:
        if some is not None:
            keys[aggregate_id] = keys.get(aggregate_id, frozenset()) | some
    return list(zip(aggregate_ids, versions, event_types, event_versions, clear, event_ids, strict=True)), keys


def _stream(definition: AggregateDefinition, aggregate_id: str, rows: list[Any]) -> StoredStream | None:
    """Make a stream from its rows; None where it begins with a snapshot that does not fit, which is as good as none.

    Its state may be of another shape, or of a log that went on otherwise, before it was restored or cut: then the event that comes
    next is not the last one that it covers. Or that event closes the stream, which no state says.
    """
    first: Any = rows[0]
    if first[2] is not None:
        return StoredStream(aggregate_id, None, [_payload(row) for row in rows])
    covered: Any = rows[1] if len(rows) > 1 else None
    if covered is None or (covered[1], covered[5]) != (first[1], first[5]) or covered[2] == CLOSED_TYPE:
        return None
    state = definition.state.read(first[4])
    return (
        None if state is None else StoredStream(aggregate_id, SnapshotState(first[1], state), [_payload(row) for row in rows[2:]])
    )


def _last_state(definition: AggregateDefinition, aggregate_id: str, rows: list[Any]) -> StoredStream | None:
    """Make a compacted stream of its snapshot and its marker; None where there is no snapshot that fits both."""
    first, marker = rows[0], rows[-1]
    if first[2] is not None or (marker[1], marker[5]) != (first[1], first[5]):
        return None
    state = definition.state.read(first[4])
    if state is None:
        return None
    closing = StreamClosed(reason=_marker(definition, aggregate_id, rows).reason)
    return StoredStream(aggregate_id, SnapshotState(first[1], state, closing), [])


def _marker(definition: AggregateDefinition, aggregate_id: str, rows: list[Any]) -> Marker:
    return Marker.read(definition.aggregate_type, aggregate_id, rows[-1][1], parsed(rows[-1][4]))


class _ManyStreams:
    """A statement with a list of ids, whose text Core has to expand at every execution."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement

    def execute(
        self, connection: Connection, parameters: dict[str, Any], *, options: Mapping[str, Any] | None = None
    ) -> Result[Any]:
        return connection.execute(self._statement, parameters, execution_options=options or {})


def _statement(
    definition: AggregateDefinition, parameters: frozenset[str], *, are_archived: bool
) -> DriverStatement | _ManyStreams:
    """Get the SELECT that takes the given parameters, from the log or the table of archived events."""
    tables = definition.tables
    source = tables.archived_events if are_archived else tables.events
    return built_once(tables.events.metadata, _build, source, tables.snapshots, parameters)


def _build(events: Any, snapshots: Table, parameters: frozenset[str]) -> DriverStatement | _ManyStreams:
    statement = _select(events, snapshots, parameters)
    return _ManyStreams(statement) if "aggregate_ids" in parameters else DriverStatement(statement)


def _select(events: Table, snapshots: Table, parameters: frozenset[str]) -> Any:
    def of_streams(table: Any) -> ColumnElement[bool]:
        if "aggregate_id" in parameters:
            which = table.c.aggregate_id == bindparam("aggregate_id", type_=Text)
        else:
            which = table.c.aggregate_id.in_(bindparam("aggregate_ids", expanding=True, type_=Text))
        conditions = [table.c.aggregate_type == bindparam("aggregate_type", type_=Text), which]
        if "until_version" in parameters:
            conditions.append(table.c.version <= bindparam("until_version", type_=Integer))
        if "until_moment" in parameters:
            conditions.append(table.c.occurred_at <= bindparam("until_moment", type_=UtcDateTime))
        return and_(*conditions)

    stored = select(
        events.c.aggregate_id,
        events.c.version,
        events.c.event_type,
        events.c.event_version,
        cast(events.c.event_data, Text),
        cast(events.c.event_id, Text),
    ).where(of_streams(events))
    if "fingerprint" not in parameters:
        return stored.order_by(events.c.aggregate_id, events.c.version)
    usable = and_(of_streams(snapshots), snapshots.c.state_fingerprint == bindparam("fingerprint", type_=Text))
    state = select(
        snapshots.c.aggregate_id,
        snapshots.c.version,
        cast(null(), Text).label("event_type"),
        literal_column("0", Integer).label("event_version"),
        cast(snapshots.c.state, Text),
        cast(snapshots.c.event_id, Text),
    ).where(usable)
    version = select(snapshots.c.version).where(usable)
    if "aggregate_ids" in parameters:
        version = version.where(snapshots.c.aggregate_id == events.c.aggregate_id).correlate(events)
    # Of one aggregate it is worked out once, so that the index is read from there on, and not asked for each of its events.
    covered = version.scalar_subquery()
    # The last event that the snapshot covers comes along: by its id it proves that the snapshot is of this stream.
    both = union_all(stored.where(events.c.version >= func.coalesce(covered, literal_column("0", Integer))), state)
    return both.order_by("aggregate_id", "version", "event_version")
