"""Whether an event is to blame for an error of the database, or the statement would fail whatever the event.

A column that the coming migration brings, a privilege that is missing, a broken trigger: each makes the statement fail for every
event, and whoever parked one after the other would park the log. So the same is done with some other events, and undone: an event
is blamed if it works without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from sa_eventsource.application_errors import ends_program
from sa_eventsource.checkpoints import of_consumer
from sa_eventsource.consumers import is_parked
from sa_eventsource.exceptions import ReadModelError, SubscriptionError
from sa_eventsource.projections.processing import process_stored
from sa_eventsource.read_models import ReadModelDefinition
from sa_eventsource.store import Meaning, code_of, database_of, is_taken_by_another_row, meaning_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Consumer

_TRIED = 3
"""With how many other events it is tried."""


def fails_whatever_the_event(session: Session, consumer: Consumer, position: int, error: Exception) -> bool:
    """Find out whether an error would come for any event.

    A subscription is not tried with another event: it would do again what it does elsewhere. There, and where there is no other
    event, the error's SQLSTATE decides.

    Args:
        session: In a transaction that holds the follower's checkpoint. What is tried is undone by a savepoint.
        consumer: The one that could not take the event.
        position: The event's position.
        error: What was raised.
    """
    cause = error.__cause__
    if not isinstance(cause, DBAPIError) or is_taken_by_another_row(cause):
        return False
    connection = session.connection(bind_arguments=consumer.bind_arguments)
    if connection.scalar(select(is_parked(consumer.tables, consumer.name)).where(consumer.tables.events.c.position == position)):
        return True  # it was left out already
    is_statements = meaning_of(cause) is Meaning.WRONG_STATEMENT
    if not isinstance(consumer, ReadModelDefinition):
        return is_statements
    codes = [_tried(session, connection, consumer, event_id) for event_id in _others(connection, consumer, position)]
    if None in codes:
        return False
    return is_statements or code_of(cause) in codes


def with_event(connection: Connection, consumer: Consumer, position: int, error: Exception) -> Exception:
    """Give an error that names no event the name of one.

    Args:
        connection: Where to read.
        consumer: The one that could not take the event.
        position: The event's position.
        error: What was raised.
    """
    if not isinstance(error, ReadModelError | SubscriptionError):
        return error
    events = consumer.tables.events
    columns = (events.c.event_type, events.c.event_id, events.c.aggregate_type, events.c.aggregate_id, events.c.version)
    event = connection.execute(select(*columns).where(events.c.position == position)).one()
    name = f"{event.event_type} {event.event_id} ({event.aggregate_type} {event.aggregate_id!r} version {event.version})"
    named: Exception
    if isinstance(error, ReadModelError):
        named = ReadModelError(error.model, events=[name], event_ids=[event.event_id], rows=error.rows, reason=error.reason)
    else:
        named = SubscriptionError(error.subscription, events=[name], event_ids=[event.event_id], reason=error.reason)
    named.__cause__ = error.__cause__
    return named.with_traceback(error.__traceback__)


def _tried(session: Session, connection: Connection, consumer: Consumer, event_id: UUID) -> str | None:
    """Let a model process an event, undo it, and return the code of the error; None if there was none."""
    savepoint = session.begin_nested()
    try:
        process_stored(session, consumer, [event_id])
        database_of(connection.dialect).check_constraints(connection)
    except BaseException as error:
        # It is compared with the error that is to be explained.
        if ends_program(error, awaited=connection.dialect.is_async):
            raise
        return code_of(error.__cause__ or error) or type(error).__name__
    else:
        return None
    finally:
        savepoint.rollback()
        session.expunge_all()


def _others(connection: Connection, consumer: ReadModelDefinition, position: int) -> Sequence[UUID]:
    """Find events that a model has taken, or will take: of the same type if it has methods for them, the latest first."""
    events = consumer.tables.events
    type_here = select(events.c.event_type).where(events.c.position == position).scalar_subquery()
    wanted = [of_consumer(consumer), ~is_parked(consumer.tables, consumer.name)]
    if consumer.handlers or consumer.evolvers:
        wanted.append(events.c.event_type == type_here)
    before = select(events.c.event_id).where(*wanted, events.c.position < position).order_by(events.c.position.desc()).limit(_TRIED)
    others = list(connection.scalars(before))
    if len(others) < _TRIED:
        behind = select(events.c.event_id).where(*wanted, events.c.position > position).order_by(events.c.position)
        others += connection.scalars(behind.limit(_TRIED - len(others)))
    return others
