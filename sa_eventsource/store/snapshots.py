"""Snapshots: the state of an aggregate, stored every so many events, so that loading it reads only what came after."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import Text, and_, bindparam, cast, exists, func, or_, select, union_all
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB

from sa_eventsource.aggregates import books_of, definition_of
from sa_eventsource.exceptions import SnapshotError, SnapshotWarning

if TYPE_CHECKING:
    from sqlalchemy import Insert

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store.append import Appended


def write_snapshots(appended: Appended) -> None:
    """Store the state of each aggregate that has passed a multiple of its ``__snapshot_frequency__``.

    Runs in the transaction that wrote the events, one statement for all aggregates. A state that does not survive being stored is
    left out, with a warning: the snapshot that is there, or none, and the events after it tell it as well. So is, without one, a
    state that is not known, or that is of another version than the last event written.
    """
    rows: list[dict[str, Any]] = []
    for stream in appended.streams:
        if stream.aggregate is None:
            continue
        definition = definition_of(type(stream.aggregate))
        frequency = definition.snapshot_frequency
        version = stream.events[-1].version
        if frequency is None or version // frequency == stream.expected_version // frequency or not definition.takes_snapshots:
            continue
        values = vars(stream.aggregate)
        if not books_of(stream.aggregate).is_loaded or values["version"] != version:
            continue  # a handler has raised, or there are further events in the state: it is not the state of this version
        try:
            state = definition.state.dump(values)
        except SnapshotError as error:
            warnings.warn(SnapshotWarning(error.aggregate_class, error.reason), stacklevel=1)
            continue
        rows.append(
            {
                "aggregate_type": stream.aggregate_type,
                "aggregate_id": stream.aggregate_id,
                "version": version,
                "state": state,
                "state_fingerprint": definition.fingerprint,
            }
        )
    if rows:
        appended.connection.execute(_statement(appended.tables, appended.connection.dialect.name), rows)


_cache: WeakKeyDictionary[EventSourceTables, dict[str, Insert]] = WeakKeyDictionary()


def _statement(tables: EventSourceTables, dialect: str) -> Insert:
    by_dialect = _cache.setdefault(tables, {})
    if dialect not in by_dialect:
        by_dialect[dialect] = _build(tables, dialect)
    return by_dialect[dialect]


def _build(tables: EventSourceTables, dialect: str) -> Insert:
    events, snapshots = tables.events, tables.snapshots
    previous = snapshots.alias()

    def same_stream(table: Any) -> tuple[Any, Any]:
        return table.c.aggregate_type == bindparam("aggregate_type"), table.c.aggregate_id == bindparam("aggregate_id")

    # The latest time among all events in the snapshot, so that load_at_time() knows whether it lies before a moment: events need
    # not be in the order of their times. The snapshot before knows it for its own events.
    before = *same_stream(previous), previous.c.version <= bindparam("version")
    covered = select(previous.c.version).where(*before).scalar_subquery()
    times = union_all(
        select(func.max(events.c.occurred_at).label("occurred_at")).where(
            *same_stream(events), events.c.version > func.coalesce(covered, 0), events.c.version <= bindparam("version")
        ),
        select(previous.c.occurred_at).where(*before),
    ).subquery()
    # A snapshot does not go back, unless it is of a log that was longer, before it was restored or cut.
    last = events.alias("last")
    of_the_log = and_(*same_stream(last), last.c.version == snapshots.c.version)
    state = bindparam("state", type_=Text)
    dialect_insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    insert = dialect_insert(snapshots).values(
        aggregate_type=bindparam("aggregate_type"),
        aggregate_id=bindparam("aggregate_id"),
        version=bindparam("version"),
        state=cast(state, JSONB) if dialect == "postgresql" else state,
        state_fingerprint=bindparam("state_fingerprint"),
        occurred_at=select(func.max(times.c.occurred_at)).scalar_subquery(),
    )
    return insert.on_conflict_do_update(
        index_elements=[snapshots.c.aggregate_type, snapshots.c.aggregate_id],
        set_={name: insert.excluded[name] for name in ("version", "state", "state_fingerprint", "occurred_at")}
        | {"created_at": func.current_timestamp()},
        where=or_(insert.excluded.version >= snapshots.c.version, ~exists().where(of_the_log)),
    )
