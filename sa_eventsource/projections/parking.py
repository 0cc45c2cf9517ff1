"""Events that a consumer could not take, parked with all later ones of their streams: references, so that upcasters apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, insert, literal, select

from sa_eventsource.checkpoints import of_batch
from sa_eventsource.consumers import is_parked
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sa_eventsource.checkpoints import Batch
    from sa_eventsource.consumers import Consumer, Follower


def has_parked(connection: Connection, consumer: Consumer) -> bool:
    """Check whether a consumer has parked events. One that stops at a bad event has none, and is not looked up."""
    if consumer.on_error != "park":
        return False
    return bool(connection.scalar(select(exists().where(consumer.tables.parked_events.c.projection_name == consumer.name))))


def park(connection: Connection, consumer: Consumer, position: int, error: str) -> None:
    """Park an event, with what went wrong; later ones of its stream follow as their batches come."""
    events, parked = consumer.tables.events, consumer.tables.parked_events
    reference = select(
        literal(consumer.name),
        events.c.position,
        events.c.event_id,
        events.c.aggregate_type,
        events.c.aggregate_id,
        literal(error),
    ).where(events.c.position == position)
    columns = ["projection_name", "position", "event_id", "aggregate_type", "aggregate_id", "error"]
    connection.execute(insert(parked).from_select(columns, reference, include_defaults=False))


def park_behind_others(connection: Connection, follower: Follower, batch: Batch) -> None:
    """Park those events of a batch whose streams have earlier ones parked."""
    consumer = follower.consumer
    events, parked = consumer.tables.events, consumer.tables.parked_events
    reference = select(
        literal(consumer.name), events.c.position, events.c.event_id, events.c.aggregate_type, events.c.aggregate_id
    ).where(*of_batch(follower, batch), is_parked(consumer.tables, consumer.name))
    columns = ["projection_name", "position", "event_id", "aggregate_type", "aggregate_id"]
    parameters = {name: value for name, value in batch.parameters.items() if name in ("since", "until")}
    # The first of them, which failed, is there already.
    statement = database_of(connection.dialect).insert(parked).from_select(columns, reference, include_defaults=False)
    connection.execute(statement.on_conflict_do_nothing(), parameters)


def drop_all(connection: Connection, consumer: Consumer) -> None:
    """Forget all that a consumer has parked."""
    parked = consumer.tables.parked_events
    connection.execute(delete(parked).where(parked.c.projection_name == consumer.name))
