"""Sending a subscription back: it takes again what lies behind a place in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.checkpoints import begin, go_back, lag, lock_checkpoint, position_of, save_checkpoint
from sa_eventsource.consumers import followers_of
from sa_eventsource.projections.steps import checked
from sa_eventsource.projections.transaction import following

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.checkpoints import Checkpoint
    from sa_eventsource.consumers import Follower, Place, Subscription


def rewind(session: Session, subscription: Subscription, to: Place) -> int:
    """Send a subscription back, in one transaction that waits for the batch under way.

    Args:
        session: A session without a transaction in progress.
        subscription: The subscription.
        to: The place in the log.

    Returns:
        The number of events that it has to take now.

    Raises:
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
    """
    left = 0
    with following(session, subscription) as connection:
        for follower in followers_of(subscription, connection.dialect):
            checkpoint = checked(connection, follower, lock_checkpoint(connection, follower))
            checkpoint = _sent_back(connection, follower, checkpoint, to).without_failure()
            save_checkpoint(connection, follower, checkpoint, made_progress=False)
            left += lag(connection, follower, checkpoint).events
    return left


def _sent_back(connection: Connection, follower: Follower, checkpoint: Checkpoint, to: Place) -> Checkpoint:
    position = position_of(connection, follower.tables, to)
    if position is None:  # nothing lies behind it
        return checkpoint
    if checkpoint.declaration is None:
        begins = follower.consumer.begins
        checkpoint = begin(connection, follower, checkpoint, begins) or begin(connection, follower, checkpoint, "now") or checkpoint
    return go_back(checkpoint, position)
