"""Batches that a relay hands over to another system: what was confirmed counts as taken, what was refused is parked."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import chain, groupby, takewhile
from typing import TYPE_CHECKING, Any

from sa_eventsource.checkpoints import read_batch
from sa_eventsource.projections.failures import error_text
from sa_eventsource.projections.parking import park, park_behind_others
from sa_eventsource.store import name_in_log, read_events, tenant_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from uuid import UUID

    from sqlalchemy import Connection

    from sa_eventsource.checkpoints import Batch, Checkpoint
    from sa_eventsource.consumers import Delivery, Follower, Relay
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.exceptions import EventSourceError

log = logging.getLogger("sa_eventsource.worker")


def relay_batch(  # noqa: PLR0913 - what is to be handed over, and from where
    connection: Connection, follower: Follower, relay: Relay, batch: Batch, checkpoint: Checkpoint, *, without_parked: bool
) -> Batch:
    """Let a relay hand over a batch of events.

    Args:
        connection: In the transaction that the checkpoint is written in.
        follower: The follower.
        relay: What it follows for.
        batch: The events.
        checkpoint: Where the batch begins.
        without_parked: Whether some of them may belong to parked streams, and are to be left out.

    Returns:
        The part of the batch that counts as taken: all up to the first event that is neither confirmed nor parked.

    Raises:
        DeliveryDelayedError: That was the first one. Roll back, and try again later.
        SubscriptionError: No message could be made of an event. None was handed over. Roll back.
        EventDecodeError: A payload does not fit its class. Roll back.
        UnknownEventTypeError: No class declares an event's type. Roll back.
    """
    read = read_batch(connection, follower, batch, follower.streams(without_parked=without_parked))
    events = [event for event in read if relay.takes(event)]
    place = follower.name, tenant_of(connection)
    known = relay.confirmed(place, checkpoint.progress)
    delivery = _deliver(connection, relay, [event for event in events if event.event_id not in known])
    confirmed = known | delivery.taken
    settled = _settled(events, delivery, confirmed)
    left = events[len(settled) :]
    done = replace(batch, upto=left[0].position - 1, count=batch.count - len({each.position for each in left})) if left else batch
    left_over = confirmed - {event.event_id for event in settled}
    relay.confirm(place, {checkpoint.progress: confirmed, (done.since, done.until, done.upto): left_over})
    if not settled and delivery.delayed is not None:
        raise delivery.delayed
    refused = [event for event in settled if event.event_id in delivery.refused]
    for event in refused:
        error = delivery.refused[event.event_id]
        park(connection, relay, event.position, error_text(error), attempts=None)  # senders try by rules of their own
        log.error("%s: %s; parked", name_in_log(follower.name, connection), error)
    if refused:
        park_behind_others(connection, follower, done)
    return done


def relay_stored(connection: Connection, relay: Relay, event_ids: Sequence[UUID]) -> tuple[list[UUID], EventSourceError | None]:
    """Let a relay hand over stored events of one stream, given in the order of their positions.

    Returns:
        The ids of those that were taken, and why the next one was not.
    """
    events = relay.tables.events
    read = read_events(connection, events, [events.c.event_id.in_(event_ids)], reading=relay.personal_data)
    stored = [event for event in read if relay.takes(event)]
    delivery = _deliver(connection, relay, stored)
    left = {event.stored_id for event in stored if event.event_id not in delivery.taken}
    taken = list(takewhile(lambda event_id: event_id not in left, event_ids))
    return taken, next(iter(delivery.refused.values()), delivery.delayed)


def _deliver(connection: Connection, relay: Relay, events: Sequence[RecordedEvent[Any]]) -> Delivery:
    """Hand events over, with the tenant whose they are."""
    return relay.deliver(events, tenant_of(connection) if relay.tables.options.tenants else None)


def _settled(events: Sequence[RecordedEvent[Any]], delivery: Delivery, confirmed: AbstractSet[UUID]) -> list[RecordedEvent[Any]]:
    """List the events, from the first one on, that are confirmed, refused, or behind a refused one of their stream.

    Of events that are stored as one, all are listed, or none.
    """
    parked = {(event.aggregate_type, event.aggregate_id) for event in events if event.event_id in delivery.refused}

    def is_settled(event: RecordedEvent[Any]) -> bool:
        return event.event_id in confirmed or (event.aggregate_type, event.aggregate_id) in parked

    together = groupby(events, key=lambda event: event.position)
    wholes = takewhile(lambda whole: all(map(is_settled, whole)), (list(whole) for _, whole in together))
    return list(chain.from_iterable(wholes))
