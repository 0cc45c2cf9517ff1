"""Which events a follower has yet to take, and how many at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Text, and_, cast, false, func, literal_column, select, true

from sa_eventsource.checkpoints.snapshot import Snapshot
from sa_eventsource.observation import MOST_ORIGINS, origin_of
from sa_eventsource.read_models import ReadModelDefinition
from sa_eventsource.read_models.sql import is_outdated
from sa_eventsource.store import current_snapshot, database_of, in_window, read_events, taken

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.checkpoints.checkpoint import Checkpoint
    from sa_eventsource.consumers import Consumer, Follower, Streams
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.observation import Origin


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are in one window, behind one position up to another.

    Attributes:
        since: The snapshot in which the window begins; None for the beginning of the log.
        until: The one in which it ends; None on SQLite.
        after: The position behind which the batch begins.
        upto: Its last position.
        count: How many of the follower's events there are.
        outdated: How many of them are stored under a former name or an older version, and meant for declared fields.
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
        return {**window_parameters(self.since, self.until), "after": self.after, "upto": self.upto}


def next_batch(
    connection: Connection, follower: Follower, checkpoint: Checkpoint, limit: int | None, *, before: int | None = None
) -> Batch:
    """Find the next events that a follower has yet to take, perhaps none.

    On PostgreSQL, a new window is opened where none is being processed: to what the database shows now.

    Args:
        connection: In a transaction that holds the follower's checkpoint.
        follower: The follower.
        checkpoint: How far it has come.
        limit: How many at most; None for all.
        before: The position that they must lie before; None for the end of the window.
    """
    events = follower.tables.events
    since, until, after = checkpoint.since, checkpoint.until, checkpoint.position
    is_new = until is None and (until := visible_to_others(connection)) is not None
    if is_new:
        after = 0
    window = [] if until is None else in_window(events, has_start=since is not None)
    wanted = [*of_follower(follower), *window]
    if before is not None:
        wanted.append(events.c.position < before)
    outdated = is_outdated(follower.consumer, events) if isinstance(follower.consumer, ReadModelDefinition) else false()
    untaken = select(events.c.position, outdated.label("outdated")).where(*wanted)
    if is_new and since is not None:
        first, upto, count, number_outdated = _extent(connection, untaken, window_parameters(since, until))
        after = 0 if first is None else first - 1
        if limit is None or count <= limit:
            return Batch(since, until, after, upto or after, count, number_outdated)
    untaken = untaken.where(events.c.position > after)
    if limit is not None:
        untaken = untaken.order_by(events.c.position).limit(limit)
    _, upto, count, number_outdated = _extent(connection, untaken, window_parameters(since, until))
    return Batch(since, until, after, after if upto is None else upto, count, number_outdated)


def _extent(connection: Connection, selected: Any, parameters: dict[str, Any]) -> Any:
    """The first and last position, the number, and the number of outdated ones, of some events.

    A window that has just been opened is asked for as a whole before a part of it is. With ``ORDER BY position LIMIT``, or for
    ``min(position)`` alone, PostgreSQL would walk the index on positions through the whole log, in the belief that it meets an
    event of the window soon; what is in the window, the index on transaction ids shows at once.
    """
    rows = selected.subquery()
    position = rows.c.position + literal_column("0", BigInteger)
    bounds = select(func.min(position), func.max(position), func.count(), func.count().filter(rows.c.outdated))
    return connection.execute(bounds, parameters).one()


def window_parameters(since: str | None, until: str | None) -> dict[str, Any]:
    """Give the parameters that the conditions on a window are executed with."""
    if until is None:
        return {}
    return {"until": until} if since is None else {"since": since, "until": until}


def visible_to_others(connection: Connection) -> str | None:
    """What the database shows now, without what this transaction writes: events that handlers append belong to the next window.

    PostgreSQL's snapshot does not count the transaction itself among those that are running.

    Returns:
        The snapshot as text; None where a position alone is enough.
    """
    if database_of(connection.dialect).has_one_writer:
        return None
    snapshot, own = connection.execute(select(current_snapshot(), cast(func.pg_current_xact_id(), Text))).one()
    return str(Snapshot.parse(snapshot).without(int(own)))


def read_batch(
    connection: Connection, follower: Follower, batch: Batch, streams: Streams, *conditions: ColumnElement[bool]
) -> list[RecordedEvent[Any]]:
    """Read those of a batch's events that are of the given streams and fulfil the conditions, by position.

    Raises:
        EventDecodeError: An event cannot be read.
        UnknownEventTypeError: No class declares an event's type.
    """
    events = follower.tables.events
    where = [*of_batch(follower, batch), *streams.conditions(follower.tables), *conditions]
    return read_events(
        connection, events, where, window_parameters(batch.since, batch.until), reading=follower.consumer.personal_data
    )


def origin_of_batch(connection: Connection, follower: Follower, batch: Batch) -> Origin:
    """Read which traces and which business transaction a batch's events were stored with."""
    events = follower.tables.events
    trace = events.c.metadata["traceparent"].as_string().label("trace")
    statement = select(trace, events.c.correlation_id).where(*of_batch(follower, batch)).distinct().limit(MOST_ORIGINS + 1)
    rows = connection.execute(statement.order_by(trace.nulls_last()), window_parameters(batch.since, batch.until))
    return origin_of((each.trace, each.correlation_id) for each in rows)


def of_batch(follower: Follower, batch: Batch) -> list[ColumnElement[bool]]:
    """Select a batch's events; the parameters are those of its window."""
    events = follower.tables.events
    where = [events.c.position > batch.after, events.c.position <= batch.upto, *of_follower(follower)]
    return where if batch.until is None else [*where, *in_window(events, has_start=batch.since is not None)]


def of_taken(follower: Follower, checkpoint: Checkpoint, streams: Streams) -> tuple[list[ColumnElement[bool]], dict[str, Any]]:
    """Select the events of the given streams that a follower has taken.

    Returns:
        The conditions, and the parameters to execute them with.
    """
    events = follower.tables.events
    where = [of_consumer(follower.consumer), *streams.conditions(follower.tables)]
    if checkpoint.since is None and checkpoint.until is None:
        return [*where, events.c.position <= checkpoint.position], {}
    parameters: dict[str, Any] = {"since": checkpoint.since}
    if checkpoint.until is not None:
        parameters |= {"until": checkpoint.until, "upto": checkpoint.position}
    return [*where, taken(events, in_progress=checkpoint.until is not None)], parameters


def of_consumer(consumer: Consumer) -> ColumnElement[bool]:
    """Select the events of the types that a consumer takes, of the aggregates whose it takes."""
    events = consumer.tables.events
    return and_(true(), *consumer.of_types(events), *consumer.of_aggregates(events))


def of_follower(follower: Follower) -> list[ColumnElement[bool]]:
    """Select the events that a follower takes, of its shard's streams if it is one."""
    return [of_consumer(follower.consumer), *follower.streams(without_parked=False).conditions(follower.tables)]
