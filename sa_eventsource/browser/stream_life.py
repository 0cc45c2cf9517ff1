"""The life of one aggregate, as its page shows it: the events around one of them, what each changed, and by which method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, func, literal, select
from sqlalchemy.exc import SQLAlchemyError

from sa_eventsource.event_log import Change, StreamReplay, read_history
from sa_eventsource.events import Parts, decode
from sa_eventsource.replays import Applied, applied_by, said_of
from sa_eventsource.store import known_at, select_raw_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.events import DomainEvent

AROUND = 12
"""How many events are shown before the one that is looked at, and behind it."""

_MOST_GIVEN, _LONGEST_GIVEN = 100, 100_000
"""How many events a test is given at most, and of how many characters in all: nobody reads more."""


@dataclass(frozen=True, slots=True)
class Step:
    """The event that is looked at, replayed.

    Attributes:
        payload: Its payload, in clear or with placeholders.
        changes: What it changed, by the name of the field.
        state: The state after it: JSON texts by the name of the field.
        events: The events that it is read as: one, unless an upcaster makes others of it, or none.
        applied: The methods that applied them.
    """

    payload: str
    changes: Mapping[str, Change]
    state: Mapping[str, str]
    events: Sequence[DomainEvent]
    applied: Sequence[Applied]


@dataclass(frozen=True, slots=True)
class Life:
    """Some of an aggregate's life.

    Attributes:
        rows: Its events around a version, without their payloads.
        changed: The state fields that each of them changed, by version, as far as they could be replayed. Their values are not
            kept: a state may be large, and one or two are shown.
        step: What came of the one at that version; None where it was not replayed.
        other: The state at the version that was asked for beside them; None where there is none.
        reached: The version at which the time was up; None where it was enough.
        broken: The first version that cannot be replayed, as far as is known.
        error: Why it cannot be.
        snapshot: The version of its snapshot; None for none.
    """

    rows: Sequence[Row[Any]]
    changed: Mapping[int, Sequence[str]]
    step: Step | None
    other: Mapping[str, str] | None
    reached: int | None
    broken: int | None
    error: str | None
    snapshot: int | None


def life_around(  # noqa: PLR0913 - by keyword
    connection: Connection,
    definition: AggregateDefinition,
    aggregate_id: str,
    version: int,
    *,
    last: int,
    other: int | None = None,
    seconds: float,
) -> Life:
    """Read the events around a version, and replay the stream, once: as far as they go, or another version does.

    Args:
        connection: Where to read.
        definition: The aggregate's class.
        aggregate_id: Its id as stored.
        version: The version.
        last: The last version of the aggregate.
        other: Another version, whose state is wanted too.
        seconds: How long replaying may take.
    """
    first = max(1, min(version - AROUND, last - 2 * AROUND))
    until = min(last, first + 2 * AROUND)
    replay = StreamReplay(connection, definition, aggregate_id, seconds=seconds)
    changed: dict[int, Sequence[str]] = {}
    step = other_state = error = None
    try:
        in_time = True
        if other is not None and other < first:
            in_time = replay.go_to(other)
            other_state = replay.state if in_time else None
        if in_time and replay.go_to(first - 1):
            for row, payload, changes in replay.steps(until):
                changed[row.version] = list(changes)
                if row.version == version:
                    step = _step(definition, row, payload, changes, replay.state)
                if row.version == other:
                    other_state = replay.state
            if other is not None and other > until and replay.version == until and replay.go_to(other):
                other_state = replay.state
    except SQLAlchemyError:
        raise
    except Exception as raised:  # noqa: BLE001 - methods of the application's own may raise anything
        error = said_of(raised)
    is_whole = replay.version >= max(until, other or 0)
    return Life(
        rows=_rows(connection, definition, aggregate_id, first, until),
        changed=changed,
        step=step,
        other=other_state,
        reached=None if error is not None or is_whole else replay.version,
        broken=None if error is None else replay.version + 1,
        error=error,
        snapshot=_snapshot(connection, definition, aggregate_id),
    )


def _step(definition: AggregateDefinition, row: Any, payload: str, changes: Mapping[str, Change], state: Mapping[str, str]) -> Step:
    decoded = decode(row.event_type, row.event_version, payload, event_id=row.event_id)
    events = list(decoded) if isinstance(decoded, Parts) else [decoded]
    applied = [applied_by(definition, each) for each in events]
    return Step(payload, changes, state, events, [each for each in applied if each is not None])


def _rows(connection: Connection, definition: AggregateDefinition, aggregate_id: str, first: int, until: int) -> Sequence[Row[Any]]:
    events = definition.tables.events
    without_payload: ColumnElement[str] = literal("")
    statement = select_raw_events(events, without_payload).where(
        events.c.aggregate_type == definition.aggregate_type,
        events.c.aggregate_id == aggregate_id,
        events.c.version.between(first, until),
    )
    return connection.execute(statement.order_by(events.c.version)).all()


def _snapshot(connection: Connection, definition: AggregateDefinition, aggregate_id: str) -> int | None:
    snapshots = definition.tables.snapshots
    stored = select(snapshots.c.version).where(
        snapshots.c.aggregate_type == definition.aggregate_type, snapshots.c.aggregate_id == aggregate_id
    )
    version: int | None = connection.execute(stored).scalar_one_or_none()
    return version


@dataclass(frozen=True, slots=True)
class Then:
    """An aggregate as it was at a time, by what had occurred, whenever that was recorded.

    Attributes:
        rows: The events that had occurred, without payloads and metadata.
        state: What they make; None where the time was up.
        before: What those make that had occurred by the time before; None where the time was up.
        reached: The version at which the time was up; None where it was enough.
    """

    rows: Sequence[Row[Any]]
    state: Mapping[str, str] | None
    before: Mapping[str, str] | None
    reached: int | None


def life_then(  # noqa: PLR0913 - by keyword
    connection: Connection,
    definition: AggregateDefinition,
    aggregate_id: str,
    moment: datetime,
    *,
    previous: datetime | None,
    seconds: float,
) -> Then:
    """Replay what had occurred by a moment, and by the moment before it, if there is one.

    Args:
        connection: Where to read.
        definition: The aggregate's class.
        aggregate_id: Its id as stored.
        moment: The moment, which is included.
        previous: The moment before; None for the state before the first event.
        seconds: How long replaying may take, both times together.

    Raises:
        EventSourceError: An event cannot be read. Whatever a method of the application raises comes through as well.
    """
    events = definition.tables.events
    nothing: ColumnElement[str] = literal("")
    occurred = known_at(events, definition.aggregate_type, aggregate_id, moment, "occurred")
    rows = connection.execute(select_raw_events(events, nothing, nothing).where(occurred).order_by(events.c.version)).all()
    replay = StreamReplay(connection, definition, aggregate_id, seconds=seconds)
    before = replay.state if previous is None else None
    state = replay.state if replay.go_to_time(moment) else None
    if state is not None and previous is not None and replay.go_to_time(previous):
        before = replay.state
    return Then(rows, state, before, replay.version if replay.is_out_of_time else None)


def given_events(
    connection: Connection, definition: AggregateDefinition, aggregate_id: str, version: int
) -> list[DomainEvent] | None:
    """Read the events up to a version, as the test of what follows would be given them.

    Returns:
        The events; None where they are too many, or too long, for a test to be read.

    Raises:
        EventSourceError: One cannot be read.
    """
    if version > _MOST_GIVEN or length_of_payloads(connection, definition, aggregate_id, version) > _LONGEST_GIVEN:
        return None
    history = read_history(connection, definition, aggregate_id, version=version)
    found: list[DomainEvent] = []
    for row, payload in zip(history.rows, history.payloads, strict=True):
        decoded = decode(row.event_type, row.event_version, payload, event_id=row.event_id)
        found += decoded if isinstance(decoded, Parts) else [decoded]
    return found


def length_of_payloads(connection: Connection, definition: AggregateDefinition, aggregate_id: str, version: int) -> int:
    """Add up how many characters the payloads of a stream have up to a version, without reading them."""
    events = definition.tables.events
    length = select(func.sum(func.length(cast(events.c.event_data, Text)))).where(
        events.c.aggregate_type == definition.aggregate_type, events.c.aggregate_id == aggregate_id, events.c.version <= version
    )
    return connection.execute(length).scalar_one() or 0


def moments_of(connection: Connection, definition: AggregateDefinition, aggregate_id: str, most: int) -> list[datetime] | None:
    """List the moments at which events of an aggregate occurred, where that is another order than that of their versions.

    Returns:
        The moments, each once; None where versions are in the order of time, or there are more events than *most*.
    """
    events = definition.tables.events
    stream = (
        select(events.c.occurred_at)
        .where(events.c.aggregate_type == definition.aggregate_type, events.c.aggregate_id == aggregate_id)
        .order_by(events.c.version)
        .limit(most + 1)
    )
    found: list[datetime] = list(connection.execute(stream).scalars())
    in_order = sorted(found)
    return None if len(found) > most or in_order == found else list(dict.fromkeys(in_order))
