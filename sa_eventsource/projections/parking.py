"""Events that a consumer could not take, parked with all later ones of their streams: references, so that upcasters apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, insert, literal, select

from sa_eventsource.checkpoints import of_batch
from sa_eventsource.consumers import is_parked
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sa_eventsource.checkpoints import Batch
    from sa_eventsource.consumers import Consumer, Follower
    from sa_eventsource.events import RecordedEvent


def has_parked(connection: Connection, consumer: Consumer) -> bool:
    """Check whether a consumer has parked events. One that stops at a bad event has none, and is not looked up."""
    if consumer.on_error != "park":
        return False
    return bool(connection.scalar(select(exists().where(consumer.tables.parked_events.c.projection_name == consumer.name))))


def park(connection: Connection, consumer: Consumer, position: int, error: str, attempts: int | None) -> None:
    """Park an event, with what went wrong; later ones of its stream follow as their batches come.

    Args:
        connection: In the transaction that the checkpoint is written in.
        consumer: Whose event it is.
        position: Its position.
        error: What went wrong, with the traceback.
        attempts: How often it was tried; None where nobody counts.
    """
    events, parked = consumer.tables.events, consumer.tables.parked_events
    under = consumer.parks_under(connection, position)
    stream = (events.c.aggregate_type, events.c.aggregate_id) if under is None else map(literal, under)
    reference = select(literal(consumer.name), events.c.position, events.c.event_id, *stream, literal(error), literal(attempts))
    reference = reference.where(events.c.position == position)
    columns = ["projection_name", "position", "event_id", "aggregate_type", "aggregate_id", "error", "attempts"]
    connection.execute(insert(parked).from_select(columns, reference, include_defaults=False))


def park_behind(connection: Connection, consumer: Consumer, stream: tuple[str, str], recorded: RecordedEvent[Any]) -> bool:
    """Park an event if an earlier one is parked under a stream that is not its own.

    Args:
        connection: In the transaction that the checkpoint is written in.
        consumer: Whose event it is.
        stream: Type and id of the stream.
        recorded: The event.

    Returns:
        Whether it is parked.
    """
    parked = consumer.tables.parked_events
    of_consumer = {"projection_name": consumer.name, "aggregate_type": stream[0], "aggregate_id": stream[1]}
    is_behind = exists().where(
        *(parked.c[name] == value for name, value in of_consumer.items()), parked.c.position <= recorded.position
    )
    if not connection.scalar(select(is_behind)):
        return False
    reference = (
        database_of(connection.dialect)
        .insert(parked)
        .values(**of_consumer, position=recorded.position, event_id=recorded.stored_id)
    )
    connection.execute(reference.on_conflict_do_nothing())  # as where it was sent back
    return True


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
