"""Rows brought up to date by Python: those of ``@evolves`` methods, and all on SQLite, which has no SQL for declared fields.

Rows are read, folded and written back. On PostgreSQL they are locked meanwhile; and where another transaction has made one that was
not there, what was folded is thrown away, and folded again into that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sa_eventsource.read_models import postgresql_rows, sqlite_rows
from sa_eventsource.read_models.fold import change
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence

    from sqlalchemy import Connection

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.exceptions import ReadModelError
    from sa_eventsource.read_models.fold import Row
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

_ATTEMPTS = 20
"""How often another transaction may have made a row first; one has come further each time, and at last this one."""

Key: TypeAlias = tuple[Any, ...]
KeyedEvent: TypeAlias = "tuple[Key, RecordedEvent[Any]]"


def apply_events(connection: Connection, definition: ReadModelDefinition, events: Iterable[RecordedEvent[Any]]) -> None:
    """Let events, given in the order of their positions, change the stored rows.

    Raises:
        ReadModelError: A value of an event does not fit the row, such as the text of an id that a key takes for a number; or an
            ``@evolves`` method raised.
    """
    rest = with_keys(definition, events)
    for _ in range(_ATTEMPTS):
        rest = _fold_into_stored(connection, definition, rest)
        if not rest:
            return
    raise not_inserted(definition, rest)


def with_keys(definition: ReadModelDefinition, events: Iterable[RecordedEvent[Any]]) -> list[KeyedEvent]:
    """Pick the events that change rows, each with the key of its row.

    Raises:
        ReadModelError: A value of an event does not fit the key.
    """
    keyed: list[KeyedEvent] = []
    for each in events:
        if definition.changes_row(each):
            try:
                key = definition.key_of(each)
            except Exception as error:
                if not _is_events_fault(definition, error):
                    raise
                raise definition.refused([each], error) from error
            if key is not None:
                keyed.append((key, each))
    return keyed


def fold_events(definition: ReadModelDefinition, rows: MutableMapping[Key, Row], events: Iterable[KeyedEvent]) -> None:
    """Let events change rows in memory; one that is not there begins.

    Raises:
        ReadModelError: A value of an event cannot be worked out, or an ``@evolves`` method raised.
    """
    for key, each in events:
        try:
            change(definition, rows, key, each)
        except Exception as error:
            if not _is_events_fault(definition, error):
                raise
            raise definition.refused([each], error) from error


def load_rows(connection: Connection, definition: ReadModelDefinition, keys: Sequence[Key]) -> dict[Key, Row]:
    """Read the rows of some keys, as far as they are there; on PostgreSQL, lock them until the transaction ends."""
    load = sqlite_rows.load_rows if database_of(connection.dialect).has_one_writer else postgresql_rows.load_rows
    return load(connection, definition, keys)


def write_rows(
    connection: Connection, definition: ReadModelDefinition, before: Collection[Key], rows: Mapping[Key, Row]
) -> set[Key]:
    """Write rows that were loaded, or were not there.

    Args:
        connection: In the transaction that has loaded them.
        definition: The model.
        before: The keys of the rows that were there. Those that have no row now are deleted.
        rows: The rows as they are to be.

    Returns:
        The keys of rows that were not there, and that another transaction has made meanwhile: they are as that one has made them.
    """
    write = sqlite_rows.write_rows if database_of(connection.dialect).has_one_writer else postgresql_rows.write_rows
    return write(connection, definition, before, rows)


def not_inserted(definition: ReadModelDefinition, events: Iterable[KeyedEvent], keys: Sequence[Key] = ()) -> ReadModelError:
    """Say that the database leaves a row out, time and again, without an error."""
    reason = RuntimeError(
        f"the database does not insert the row, and says not why: look at the triggers and rules of {definition.table.name}"
    )
    return definition.refused([each for _, each in events], reason, keys)


def _fold_into_stored(connection: Connection, definition: ReadModelDefinition, events: list[KeyedEvent]) -> list[KeyedEvent]:
    """Fold events into the stored rows; return those that are to be folded again, as another transaction has made a row.

    Where transactions may meet at several rows, all is undone first. Whoever holds some rows, and waits for one that was not there
    when the others were locked, does not wait in the order of the keys, and two would wait for each other.
    """
    if not events:
        return []
    if database_of(connection.dialect).has_one_writer or definition.is_alone_at_its_rows:
        made_by_others = _fold(connection, definition, events)
        return [(key, each) for key, each in events if key in made_by_others]
    with connection.begin_nested() as savepoint:
        if not _fold(connection, definition, events):
            return []
        savepoint.rollback()
    return events


def _fold(connection: Connection, definition: ReadModelDefinition, events: Sequence[KeyedEvent]) -> set[Key]:
    """Fold events into the stored rows, and return the keys of those that another transaction has made meanwhile."""
    rows = load_rows(connection, definition, list(dict.fromkeys(key for key, _ in events)))
    before = set(rows)
    fold_events(definition, rows, events)
    return write_rows(connection, definition, before, rows)


def _is_events_fault(definition: ReadModelDefinition, error: Exception) -> bool:
    """Check whether what was raised is put down to the event: all that a method raises, and what values of declared fields cause.

    Where PostgreSQL works fields out, it refuses a value with an error of its own.
    """
    return bool(definition.evolvers) or isinstance(error, ValueError | ArithmeticError)
