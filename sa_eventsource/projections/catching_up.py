"""Catching up by hand: batch after batch until there is no more to take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.arguments import whole_number
from sa_eventsource.consumers import followers_of
from sa_eventsource.exceptions import ReadModelError, SubscriptionError
from sa_eventsource.projections.failures import culprit
from sa_eventsource.projections.steps import take_step

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Consumer, Follower

_GROWTH = 10
"""By how much a batch shrinks to find the event in it that cannot be taken, and grows again."""


def catch_up(session: Session, consumer: Consumer, *, batch_size: int | None = None) -> int:
    """Let a consumer take all events that it has not taken yet and that are visible when it is done with the others.

    Each batch is a transaction of its own: it commits what was done together with the checkpoint, or neither. An event that failed
    before is tried again at once; with it, a consumer that has stopped goes on.

    Args:
        session: A session without a transaction in progress.
        consumer: The read model, an eventual one, or the subscription.
        batch_size: Events in a transaction; None for what suits the consumer.

    Returns:
        The number of events taken.

    Raises:
        ReadModelError: A handler raised, or the database refused a row. The batch is rolled back; earlier ones stay. It names the
            event, unless others fail in the same way.
        SubscriptionError: The function of a subscription raised, likewise.
        ReadModelChangedError: The rows were made under another declaration.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
        DeliveryDelayedError: A broker cannot take messages now. Earlier batches stay.
    """
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size, minimum=1, meaning="how many events to take at a time, 1 or more")
    followers = followers_of(consumer, session.get_bind(**consumer.bind_arguments).dialect)
    return sum(_catch_up(session, follower, batch_size or consumer.batch_size) for follower in followers)


def _catch_up(session: Session, follower: Follower, most: int) -> int:
    """Take batch after batch; where one fails for an event that the error does not name, smaller ones, down to that event alone."""
    total, limit = 0, most
    while True:
        try:
            step = take_step(session, follower, limit)
        except (ReadModelError, SubscriptionError) as error:
            if limit == 1 or culprit(error) is not None:
                raise
            limit = max(1, limit // _GROWTH)
            continue
        total += step.events
        if step.outcome != "taken":
            return total
        limit = min(limit * _GROWTH, most)
