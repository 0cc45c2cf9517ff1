"""Bringing a consumer up to date: step by step until nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.arguments import whole_number
from sa_eventsource.projections.followers import followers_of
from sa_eventsource.projections.steps import take_step

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sa_eventsource.read_models import Consumer


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
        ReadModelError: A handler raised, or the database refused a row. The batch is rolled back; earlier ones stay.
        SubscriptionError: The function of a subscription raised, likewise.
        ReadModelChangedError: The rows were made under another declaration.
        MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
    """
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size, minimum=1, meaning="how many events to take at a time, 1 or more")
    total = 0
    for follower in followers_of(consumer, session.get_bind(**consumer.bind_arguments).dialect):
        step = take_step(session, follower, batch_size)
        total += step.events
        while step.outcome == "taken":
            step = take_step(session, follower, batch_size)
            total += step.events
    return total
