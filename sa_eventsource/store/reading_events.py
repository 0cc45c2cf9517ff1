"""Reading events for those who follow the log: one that cannot be read is named, whoever finds that out."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions import EventDecodeError, EventSourceError
from sa_eventsource.store.database_errors import Meaning, code_of, meaning_of, message_of
from sa_eventsource.store.event_conditions import select_events
from sa_eventsource.store.sealing import Reading, recorded_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.events import RecordedEvent


def read_events(
    connection: Connection,
    events: Table,
    conditions: Sequence[ColumnElement[bool]],
    parameters: Mapping[str, Any] | None = None,
    *,
    reading: Reading = Reading.CLEAR,
) -> list[RecordedEvent[Any]]:
    """Read the events that fulfil some conditions, in the order of their positions.

    Args:
        connection: Where to read.
        events: The log.
        conditions: The conditions.
        parameters: What they are executed with.
        reading: How their personal data is read.

    Raises:
        EventDecodeError: A payload does not fit its class; or Python has no value for what a column holds, such as a time after the
            year 9999.
        UnknownEventTypeError: No class declares an event's type.
    """
    statement = select_events(events).where(*conditions).order_by(events.c.position)
    try:
        return recorded_events(connection, events, connection.execute(statement, parameters or {}).all(), reading)
    except EventSourceError:
        raise
    except Exception as error:
        # With a code it is the database's error, and its transaction may have ended; else it is that of the driver or a type.
        if code_of(error) is not None or meaning_of(error) not in (None, Meaning.BAD_VALUES):
            raise
        unreadable = _unreadable(connection, events, statement, parameters or {})
        if unreadable is None:
            raise
        raise EventDecodeError(
            unreadable.event_type, unreadable.event_version, message_of(error), event_id=unreadable.event_id
        ) from error


def _unreadable(connection: Connection, events: Table, statement: Any, parameters: Mapping[str, Any]) -> Any:
    """Find the first event that cannot be read: it comes behind those that can be, one by one. None if that is not found out."""
    before = 0
    with suppress(Exception):
        result = connection.execute(statement, parameters)
        while (row := result.fetchone()) is not None:
            before = row.position
        return None
    identity = statement.with_only_columns(events.c.event_id, events.c.event_type, events.c.event_version)
    with suppress(Exception):
        return connection.execute(identity.where(events.c.position > before).limit(1), parameters).one_or_none()
    return None
