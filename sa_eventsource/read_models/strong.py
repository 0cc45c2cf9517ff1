"""Strong models: their rows are written in the transaction that writes the events, by one statement a model."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.exc import DBAPIError

from sa_eventsource.aggregates import AggregateRoot
from sa_eventsource.consumers import handling
from sa_eventsource.events import RecordedEvent
from sa_eventsource.read_models.in_order import apply_in_order
from sa_eventsource.read_models.read_model import ReadModel
from sa_eventsource.read_models.read_model_definition import definition_of
from sa_eventsource.read_models.row_store import apply_events
from sa_eventsource.read_models.sql import beginning_statement, events_as_rows, write_statements
from sa_eventsource.session import allow_changed, savepoints_begin_written
from sa_eventsource.store import Reading, database_of, is_of_held, is_refusal, recorded_events, select_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import Session

    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition
    from sa_eventsource.store import Appended


def write_strong_models(appended: Appended) -> None:
    """Bring the rows of all strong models up to date with the events that were just appended.

    Models are written in the order of their names, and the rows of each in the order of their keys, so that two transactions that
    change the same rows wait for each other instead of deadlocking.

    Raises:
        ReadModelError: A handler raised, or the database refused a row.
    """
    for definition, types in _concerned(appended):
        _write(appended, definition, types)
        _expire(appended.session, definition)


def are_concerned(appended: Appended) -> bool:
    """Check whether :func:`write_strong_models` has anything to do."""
    return any(True for _ in _concerned(appended))


def _concerned(appended: Appended) -> Iterator[tuple[ReadModelDefinition, set[str]]]:
    """List the strong models that take one of the events, each with the types of events that come from its aggregates."""
    for _, definition in sorted(appended.tables.read_models.items()):
        if not definition.is_strong:
            continue
        types = {
            type(pending.event).__event_type__
            for stream in appended.streams
            if definition.takes_from(stream.aggregate_type)
            for pending in stream.events
        }
        if not types.isdisjoint(definition.event_classes):
            yield definition, types


def _write(appended: Appended, definition: ReadModelDefinition, types: set[str]) -> None:
    is_folded = definition.is_folded(appended.connection.dialect)
    if appended.held is not None:
        appended.held.belong_to(partial(_refused, appended, definition))
    try:
        if not definition.handlers and not is_folded and types.isdisjoint(definition.read_in_python):
            _write_by_statement(appended, definition, types)
        else:
            events = _stored(appended, definition.personal_data)
            _begin(appended, definition, events)
            if definition.handlers:
                with savepoints_begin_written(appended.session, AggregateRoot):
                    apply_in_order(appended.session, appended.connection, definition, events)
            elif is_folded:
                apply_events(appended.connection, definition, events)
            else:
                _write_as_read(appended, definition, events)
    except DBAPIError as error:
        if is_of_held(error) or not is_refusal(error):
            raise  # one that was held has an owner of its own to explain it
        raise definition.refused(list(_as_applied(appended)), error) from error
    if definition.handlers and appended.is_in_flush:
        allow_changed(appended.session, ReadModel)
    elif definition.handlers:
        with handling(appended.session):
            appended.session.flush()


def _refused(appended: Appended, definition: ReadModelDefinition, error: DBAPIError) -> BaseException:
    return definition.refused(list(_as_applied(appended)), error) if is_refusal(error) else error


def _write_by_statement(appended: Appended, definition: ReadModelDefinition, types: set[str]) -> None:
    ids = [str(each.event_id) for stream in appended.streams for each in stream.events]
    own: Literal["id", "ids"] = "id" if len(ids) == 1 else "ids"
    # psycopg takes longer to write an array
    parameters = {"event_id": ids[0]} if own == "id" else {"event_ids": _as_array(ids)}
    statements = write_statements(definition, own)
    if statements.remove is not None and not types.isdisjoint(definition.removed_by):
        statements.remove.execute(appended.connection, parameters, may_be_held=True)
    if not types.isdisjoint(definition.events):
        statements.write.execute(appended.connection, parameters, may_be_held=True)
    else:
        beginning = beginning_statement(definition, own, database_of(appended.connection.dialect))
        beginning.execute(appended.connection, parameters, may_be_held=True)


def _begin(appended: Appended, definition: ReadModelDefinition, events: list[RecordedEvent[Any]]) -> None:
    """Begin the model's checkpoint, by a statement of its own where that of the rows does not do it."""
    database = database_of(appended.connection.dialect)
    if database.has_one_writer:
        beginning_statement(definition, "position", database).execute(appended.connection, {"first": events[0].position})
    else:
        parameters = {"event_ids": _as_array([str(each.event_id) for each in events])}
        beginning_statement(definition, "ids", database).execute(appended.connection, parameters)


def _as_array(ids: list[str]) -> str:
    """Write ids as the text of a PostgreSQL array."""
    return "{" + ",".join(ids) + "}"


def _write_as_read(appended: Appended, definition: ReadModelDefinition, events: Iterable[RecordedEvent[Any]]) -> None:
    taken = [event for event in events if definition.changes_row(event)]
    parameters = {"event_ids": "{}", "upcasted": events_as_rows(definition, taken)}
    write_statements(definition, "stored ids", with_upcasted=True).execute(appended.connection, parameters)


def _as_applied(appended: Appended) -> Iterable[RecordedEvent[Any]]:
    """The events as they are known here, without asking a transaction that has failed; positions are not, times nearly."""
    now = datetime.now(UTC)
    for stream in appended.streams:
        for each in stream.events:
            yield RecordedEvent(
                event=each.event,
                event_id=each.event_id,
                aggregate_type=stream.aggregate_type,
                aggregate_id=stream.aggregate_id,
                version=each.version,
                event_type=type(each.event).__event_type__,
                event_version=type(each.event).__event_version__,
                occurred_at=each.occurred_at,
                recorded_at=now,
                correlation_id=each.correlation_id,
                causation_id=each.causation_id,
                metadata=each.metadata,
                position=0,
            )


_BATCH = 500


def _stored(appended: Appended, reading: Reading) -> list[RecordedEvent[Any]]:
    """Read the events back, with their positions."""
    events = appended.tables.events
    ids = [each.event_id for stream in appended.streams for each in stream.events]
    found: list[RecordedEvent[Any]] = []
    for start in range(0, len(ids), _BATCH):
        statement = select_events(events).where(events.c.event_id.in_(ids[start : start + _BATCH]))
        found += recorded_events(appended.connection, events, appended.connection.execute(statement).all(), reading)
    return sorted(found, key=lambda each: each.position)


def _expire(session: Session, definition: ReadModelDefinition) -> None:
    """Have rows that the session has loaded read again; a query would keep what they were.

    Those of a model with handlers are in the session as the handlers left them.
    """
    if definition.handlers:
        return
    for instance in list(session.identity_map.values()):
        if isinstance(instance, definition.model):
            session.expire(instance)


def expire_strong_models(session: Session) -> None:
    """Have all rows of strong models read again: a savepoint in which they were written, and perhaps read, is rolled back."""
    for instance in list(session.identity_map.values()):
        if isinstance(instance, ReadModel) and definition_of(type(instance)).is_strong:
            session.expire(instance)
