"""The life of one aggregate, as its page shows it: the events around one of them, what each changed, and by which method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import literal, select
from sqlalchemy.exc import SQLAlchemyError

from sa_eventsource.aggregates import past_view
from sa_eventsource.event_log import Change, StreamReplay, read_history, state_texts
from sa_eventsource.events import Parts, decode
from sa_eventsource.replays import Applied, applied_by, said_of
from sa_eventsource.store import select_raw_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.events import DomainEvent

AROUND = 12
"""How many events are shown before the one that is looked at, and behind it."""


@dataclass(frozen=True, slots=True)
class Step:
    """An event in the life of an aggregate, replayed.

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
        steps: What came of them, by version, as far as they could be replayed.
        other: The state at the version that was asked for beside them; None where there is none.
        reached: The version at which the time was up; None where it was enough.
        broken: The first version that cannot be replayed, as far as is known.
        error: Why it cannot be.
        snapshot: The version of its snapshot; None for none.
    """

    rows: Sequence[Row[Any]]
    steps: Mapping[int, Step]
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
    steps: dict[int, Step] = {}
    states: dict[int, Mapping[str, str]] = {}
    error = None
    try:
        in_time = True
        if other is not None and other < first:
            in_time = replay.go_to(other)
            states[replay.version] = replay.state
        if in_time and replay.go_to(first - 1):
            for row, payload, changes in replay.steps(until):
                steps[row.version] = _step(definition, row, payload, changes, replay.state)
                states[row.version] = steps[row.version].state
            if other is not None and other > until and replay.version == until and replay.go_to(other):
                states[other] = replay.state
    except SQLAlchemyError:
        raise
    except Exception as raised:  # noqa: BLE001 - methods of the application's own may raise anything
        error = said_of(raised)
    is_whole = replay.version >= max(until, other or 0)
    return Life(
        rows=_rows(connection, definition, aggregate_id, first, until),
        steps=steps,
        other=None if other is None else states.get(other),
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


def state_then(
    connection: Connection, definition: AggregateDefinition, aggregate_id: str, moment: datetime
) -> tuple[Mapping[str, str], Sequence[Row[Any]]]:
    """Make the state of what had occurred by a moment, whenever it was recorded; also give these events.

    Raises:
        AggregateNotFoundError: Nothing had occurred.
        EventSourceError: It cannot be made.
    """
    history = read_history(connection, definition, aggregate_id, moment=moment, axis="occurred")
    for _ in history.steps():
        pass
    return history.state, history.rows


def first_state(definition: AggregateDefinition, aggregate_id: str) -> Mapping[str, str]:
    """Make the state before the first event: JSON texts by the name of the field."""
    return state_texts(definition, past_view(definition.aggregate_class, aggregate_id, ()))


def given_events(connection: Connection, definition: AggregateDefinition, aggregate_id: str, version: int) -> list[DomainEvent]:
    """Read the events up to a version, as the test of what follows would be given them.

    Raises:
        EventSourceError: One cannot be read.
    """
    history = read_history(connection, definition, aggregate_id, version=version)
    found: list[DomainEvent] = []
    for row, payload in zip(history.rows, history.payloads, strict=True):
        decoded = decode(row.event_type, row.event_version, payload, event_id=row.event_id)
        found += decoded if isinstance(decoded, Parts) else [decoded]
    return found


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
