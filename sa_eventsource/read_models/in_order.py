"""Events that handlers take, and declared fields alongside them: each handler finds the fields as its event left them.

So the rows do not depend on how many events come together: in a flush, in a batch, in a rebuild.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.read_models.row_store import apply_events
from sa_eventsource.read_models.sql import events_as_rows, write_statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition


def apply_in_order(
    session: Session, connection: Connection, definition: ReadModelDefinition, events: Sequence[RecordedEvent[Any]]
) -> None:
    """Let declared fields and handlers take events in turn.

    Args:
        session: What the handlers get.
        connection: Its connection.
        definition: The model.
        events: The events, in the order of their positions.

    Raises:
        ReadModelError: A handler raised.
        DBAPIError: The database refused a row.
    """
    for run, handled in _runs(definition, events):
        if run:
            _write(connection, definition, run)
            _read_declared_fields_again(session, definition)
        if handled is not None:
            definition.call_handler(handled, session)


def _runs(
    definition: ReadModelDefinition, events: Sequence[RecordedEvent[Any]]
) -> Iterator[tuple[list[RecordedEvent[Any]], RecordedEvent[Any] | None]]:
    """Give the events that declared fields take, as far as the next one of a handler, and that one; None at the end."""
    run: list[RecordedEvent[Any]] = []
    for recorded in events:
        if definition.changes_row(recorded):
            run.append(recorded)
        if definition.handler_of(recorded) is not None:
            yield run, recorded
            run = []
    yield run, None


def _write(connection: Connection, definition: ReadModelDefinition, run: list[RecordedEvent[Any]]) -> None:
    if definition.is_folded(connection.dialect):
        apply_events(connection, definition, run)
        return
    # In their present shape: the log itself is not asked for any.
    parameters = {"event_ids": "{}", "upcasted": events_as_rows(definition, run)}
    write_statements(definition, "stored ids", with_upcasted=True).execute(connection, parameters)


def _read_declared_fields_again(session: Session, definition: ReadModelDefinition) -> None:
    """Expire what the database has just worked out, in rows that the session has. What handlers changed in them stays."""
    if definition.events:
        names = [each.name for each in definition.fields]
        for instance in list(session.identity_map.values()):
            if isinstance(instance, definition.model):
                session.expire(instance, names)
