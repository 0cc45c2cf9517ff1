"""Sending a subscription or a reader back: it takes again what comes after a place in the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from sa_eventsource.checkpoints import begin, go_back, lag, lock_checkpoint, of_taken, position_of, save_checkpoint
from sa_eventsource.consumers import ALL_STREAMS, check_place, followers_of, subscriptions_on
from sa_eventsource.exceptions import UnknownNameError
from sa_eventsource.projections.plans import checked
from sa_eventsource.projections.readers import readers_on
from sa_eventsource.projections.transaction import following

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import Checkpoint
    from sa_eventsource.consumers import Follower, Place, Subscription
    from sa_eventsource.mapping import EventSourceTables


@dataclass(frozen=True, slots=True)
class Rewound:
    """What came of sending a subscription or a reader back.

    Attributes:
        to_take: How many events it has to take now, again or for the first time.
        again: How many of them it has taken before; 0 where it had not come further than the place.
    """

    to_take: int
    again: int


def rewind(session: Session, tables: EventSourceTables, name: str, to: Place) -> Rewound:
    """Send a subscription or a reader back, in one transaction that waits for the batch under way.

    Args:
        session: A session without a transaction in progress.
        tables: The tables of the log.
        name: The name of the subscription or the reader.
        to: The place in the log.

    Raises:
        UnknownNameError: There is no subscription and no reader of that name.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
        TypeError: *to* is no place.
        ValueError: *to* is a negative number, or a time without a time zone.
    """
    check_place("to", to)
    subscription = follower_to_rewind(session, tables, name)
    to_take = again = 0
    with following(session, subscription) as connection:
        for follower in followers_of(subscription, connection.dialect):
            before = checked(connection, follower, lock_checkpoint(connection, follower))
            after = _sent_back(connection, follower, before, to).without_failure()
            save_checkpoint(connection, follower, after, made_progress=False)
            to_take += lag(connection, follower, after).events
            again += _given_back(connection, follower, before, after)
    return Rewound(to_take, again)


def _given_back(connection: Connection, follower: Follower, before: Checkpoint, after: Checkpoint) -> int:
    """Count the events that a follower had taken and has to take again."""
    if before.declaration is None or before.progress == after.progress:
        return 0
    events = follower.tables.events
    taken, parameters = of_taken(follower, before, ALL_STREAMS)
    statement = select(func.count()).select_from(events).where(*taken, events.c.position > after.position)
    return connection.execute(statement, parameters).scalar_one()


def follower_to_rewind(session: Session, tables: EventSourceTables, name: str) -> Subscription:
    """Find what is to be sent back, by its name.

    Raises:
        UnknownNameError: There is no subscription and no reader of that name; a read model is rebuilt instead.
    """
    known = {follower.name: follower for follower in (*subscriptions_on(tables), *readers_on(session, tables))}
    if name not in known:
        if name in tables.read_models:
            raise UnknownNameError(f"{name!r} is a read model; rebuild it instead of sending it back", name, known)
        names = ", ".join(known) or "none"
        raise UnknownNameError(f"there is no subscription and no reader {name!r}. There are: {names}", name, known)
    return known[name]


def _sent_back(connection: Connection, follower: Follower, checkpoint: Checkpoint, to: Place) -> Checkpoint:
    position = position_of(connection, follower.tables, to)
    if position is None:  # nothing comes after it
        return checkpoint
    if checkpoint.declaration is None:
        begins = follower.consumer.begins
        checkpoint = begin(connection, follower, checkpoint, begins) or begin(connection, follower, checkpoint, "now") or checkpoint
    return go_back(checkpoint, position)
