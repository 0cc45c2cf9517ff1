"""Which events a read model has yet to take, and how many at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast, func, select

from sa_eventsource.read_models.sql import is_outdated
from sa_eventsource.store import current_snapshot, in_window, recorded, select_events

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.projections.checkpoints import Checkpoint
    from sa_eventsource.read_models import ReadModelDefinition


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that lie in one window, behind one position up to another.

    Attributes:
        since: The snapshot in which the window begins; None for the beginning of the log.
        until: The one in which it ends; None on SQLite.
        after: The position behind which the batch begins.
        upto: Its last position.
        count: How many of the model's events there are.
        outdated: How many of them are stored under a former name or an older version.
    """

    since: str | None
    until: str | None
    after: int
    upto: int
    count: int
    outdated: int

    @property
    def parameters(self) -> dict[str, Any]:
        """What the conditions on it are executed with."""
        window = {"until": self.until} if self.since is None else {"since": self.since, "until": self.until}
        return {**(window if self.until is not None else {}), "after": self.after, "upto": self.upto}


def next_batch(connection: Connection, definition: ReadModelDefinition, checkpoint: Checkpoint, limit: int | None) -> Batch:
    """Find the next events that a model has yet to take, *limit* at most; perhaps none.

    On PostgreSQL, a new window is opened where none is being worked off: to what the database shows now.
    """
    events = definition.tables.events
    is_postgresql = connection.dialect.name == "postgresql"
    until, after = checkpoint.until, checkpoint.position
    if is_postgresql and until is None:
        until, after = _visible_to_others(connection), 0
    ahead = [events.c.position > after, *_of_model(definition)]
    parameters: dict[str, Any] = {}
    if is_postgresql:
        ahead += in_window(events, has_start=checkpoint.since is not None)
        parameters = {"until": until} if checkpoint.since is None else {"since": checkpoint.since, "until": until}
    outdated = is_outdated(definition, events).label("outdated")
    found = select(events.c.position, outdated).where(*ahead)
    if limit is not None:
        found = found.order_by(events.c.position).limit(limit)
    rows = found.subquery()
    bounds = select(func.max(rows.c.position), func.count(), func.count().filter(rows.c.outdated))
    upto, count, number_outdated = connection.execute(bounds, parameters).one()
    return Batch(checkpoint.since, until, after, after if upto is None else upto, count, number_outdated)


def _visible_to_others(connection: Connection) -> str:
    """What the database shows now, without what this transaction writes: events that handlers append belong to the next window.

    PostgreSQL's snapshot does not count the transaction itself among those that are running.
    """
    snapshot, own = connection.execute(select(current_snapshot(), cast(func.pg_current_xact_id(), Text))).one()
    xmin, xmax, running = snapshot.split(":")
    if int(own) >= int(xmax):
        return str(snapshot)
    ids = sorted({int(own), *(int(each) for each in running.split(",") if each)})
    return f"{min(int(xmin), int(own))}:{xmax}:{','.join(map(str, ids))}"


def read_batch(
    connection: Connection, definition: ReadModelDefinition, batch: Batch, *conditions: ColumnElement[bool]
) -> list[RecordedEvent[Any]]:
    """Read a batch's events, by position.

    Raises:
        EventDecodeError: A payload does not fit its class.
        UnknownEventTypeError: No class declares an event's type.
    """
    events = definition.tables.events
    where = [events.c.position > batch.after, events.c.position <= batch.upto, *_of_model(definition), *conditions]
    parameters = {name: value for name, value in batch.parameters.items() if name in ("since", "until")}
    if batch.until is not None:
        where += in_window(events, has_start=batch.since is not None)
    statement = select_events(events).where(*where).order_by(events.c.position)
    return [recorded(row) for row in connection.execute(statement, parameters)]


@dataclass(frozen=True, slots=True)
class Lag:
    """How many events a model has yet to take, and when the first of them occurred."""

    events: int
    oldest: datetime | None


def lag(connection: Connection, definition: ReadModelDefinition, checkpoint: Checkpoint) -> Lag:
    """Count what a model has yet to take, as far as this transaction sees it."""
    events = definition.tables.events
    columns = [func.count(), func.min(events.c.occurred_at)]
    if connection.dialect.name != "postgresql":
        statement = select(*columns).where(events.c.position > checkpoint.position, *_of_model(definition))
        return Lag(*connection.execute(statement).one())
    now = connection.scalar(select(current_snapshot()))
    windows = [(checkpoint.since, now, 0)]
    if checkpoint.until is not None:
        windows = [(checkpoint.since, checkpoint.until, checkpoint.position), (checkpoint.until, now, 0)]
    count, oldest = 0, None
    for since, until, after in windows:
        conditions = [events.c.position > after, *in_window(events, has_start=since is not None), *_of_model(definition)]
        parameters = {"until": until} if since is None else {"since": since, "until": until}
        found: Any = connection.execute(select(*columns).where(*conditions), parameters).one()
        number, first = found
        count += number
        oldest = first if oldest is None or (first is not None and first < oldest) else oldest
    return Lag(count, oldest)


def _of_model(definition: ReadModelDefinition) -> list[ColumnElement[bool]]:
    return [definition.tables.events.c.event_type.in_(definition.stored_types)]
