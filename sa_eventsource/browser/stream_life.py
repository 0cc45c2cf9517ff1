"""The life of one aggregate, as its page shows it: the events around one of them, what each changed, and by which method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from sa_eventsource.event_log import Change, History, read_history
from sa_eventsource.events import Parts, decode
from sa_eventsource.replays import Applied, applied_by, said_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.events import DomainEvent

AROUND = 12
"""How many events are shown before the one that is looked at, and behind it."""


@dataclass(frozen=True, slots=True)
class Step:
    """An event in the life of an aggregate.

    Attributes:
        row: Its columns, as ``select_raw_events`` gives them.
        payload: Its payload, in clear or with placeholders.
        changes: What it changed, by the name of the field.
        state: The state after it: JSON texts by the name of the field.
        events: The events that it is read as: one, unless an upcaster makes others of it, or none.
        applied: The methods that applied them.
    """

    row: Row[Any]
    payload: str
    changes: Mapping[str, Change]
    state: Mapping[str, str]
    events: Sequence[DomainEvent]
    applied: Sequence[Applied]


@dataclass(frozen=True, slots=True)
class Life:
    """Some steps of an aggregate's life.

    Attributes:
        steps: The steps, as far as they can be replayed.
        error: Why the next one cannot be; None where all can.
        last: The aggregate's last version.
        snapshot: The version of its snapshot; None for none.
    """

    steps: Sequence[Step]
    error: str | None
    last: int
    snapshot: int | None

    def at(self, version: int) -> Step | None:
        """Get the step to a version; None where it cannot be shown."""
        return next((each for each in self.steps if each.row.version == version), None)


def life_around(connection: Connection, definition: AggregateDefinition, aggregate_id: str, version: int, last: int) -> Life:
    """Read the steps around a version.

    Raises:
        EventSourceError: The state before them cannot be made.
    """
    first = max(1, min(version - AROUND, last - 2 * AROUND))
    until = min(last, first + 2 * AROUND)
    history = read_history(connection, definition, aggregate_id, version=until, after=first - 1)
    steps: list[Step] = []
    error = None
    payloads = iter(history.payloads)
    try:
        for row, changes in history.steps():
            steps.append(_step(definition, row, next(payloads), changes, history.state))
    except Exception as raised:  # noqa: BLE001 - methods of the application's own may raise anything
        error = said_of(raised)
    snapshots = definition.tables.snapshots
    stored = select(snapshots.c.version).where(
        snapshots.c.aggregate_type == definition.aggregate_type, snapshots.c.aggregate_id == aggregate_id
    )
    return Life(steps, error, last, connection.execute(stored).scalar_one_or_none())


def _step(
    definition: AggregateDefinition, row: Row[Any], payload: str, changes: Mapping[str, Change], state: Mapping[str, str]
) -> Step:
    decoded = decode(row.event_type, row.event_version, payload, event_id=row.event_id)
    events = list(decoded) if isinstance(decoded, Parts) else [decoded]
    applied = [applied_by(definition, each) for each in events]
    return Step(row, payload, changes, dict(state), events, [each for each in applied if each is not None])


def first_broken(connection: Connection, definition: AggregateDefinition, aggregate_id: str, last: int) -> int | None:
    """Find the first version whose event cannot be replayed; None where all can."""
    history = read_history(connection, definition, aggregate_id, version=last)
    version = 0
    try:
        for row, _ in history.steps():
            version = row.version
    except Exception:  # noqa: BLE001 - methods of the application's own may raise anything
        return version + 1
    return None


def state_at(connection: Connection, definition: AggregateDefinition, aggregate_id: str, version: int) -> Mapping[str, str]:
    """Make the state at a version: JSON texts by the name of the field.

    Raises:
        AggregateNotFoundError: It never had so many events.
        EventSourceError: It cannot be made.
    """
    history = read_history(connection, definition, aggregate_id, version=version, after=version - 1)
    for _ in history.steps():
        pass
    return history.state


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
    history = History(definition, aggregate_id, (), (), whole=True)
    for _ in history.steps():
        pass
    return history.state


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
