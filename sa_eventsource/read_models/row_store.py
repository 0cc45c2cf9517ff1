"""Rows brought up to date by Python: those of ``@evolves`` methods, and all on SQLite, which has no SQL for declared fields.

SQLite has one writer, so that reading, folding and writing back is safe. On PostgreSQL rows are locked; and where another
transaction has made one that was not there, what was folded is thrown away, and folded again into that one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.dialects import sqlite

from sa_eventsource.read_models.fold import Row, change
from sa_eventsource.read_models.folded_store import lock_rows, write_rows
from sa_eventsource.read_models.mapped_rows import POSITIONS
from sa_eventsource.read_models.value_types import without_decimals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

_BATCH = 200
"""Rows selected by one statement; SQLite's oldest limit on parameters is 999."""

_ATTEMPTS = 20
"""How often another transaction may have made a row first; one has come further each time, and at last this one."""

_Key = tuple[Any, ...]


def apply_events(connection: Connection, definition: ReadModelDefinition, events: Sequence[RecordedEvent[Any]]) -> None:
    """Let events, given in the order of their positions, change the stored rows.

    Raises:
        ReadModelError: A value of an event does not fit the row, such as the text of an id that a key takes for a number; or an
            ``@evolves`` method raised.
    """
    known = {**definition.events, **definition.removed_by}
    events = [each for each in events if type(each.event).__event_type__ in known and definition.takes_from(each.aggregate_type)]
    rest: list[tuple[_Key, RecordedEvent[Any]]] = []
    for each in events:
        with _refused(definition, each):
            key = definition.key_of(each)
        if key is not None:
            rest.append((key, each))
    for _ in range(_ATTEMPTS):
        rest = _fold_into(connection, definition, rest)
        if not rest:
            return
    kept_out = RuntimeError(
        f"the database does not insert the row, and says not why: look at the triggers and rules of {definition.table.name}"
    )
    raise definition.refused([each for _, each in rest], kept_out)


def _fold_into(
    connection: Connection, definition: ReadModelDefinition, events: list[tuple[_Key, RecordedEvent[Any]]]
) -> list[tuple[_Key, RecordedEvent[Any]]]:
    """Fold events into the rows of their keys; return those that are to be folded again, as another transaction has made a row.

    Where transactions may meet at several rows, all is undone first. Who holds some rows, and waits for one that was not there when
    the others were locked, does not wait in the order of the keys, and two would wait for each other.
    """
    if not events:
        return []
    if connection.dialect.name != "postgresql" or definition.is_alone_at_its_rows:
        made_by_others = _fold(connection, definition, events)
        return [(key, each) for key, each in events if key in made_by_others]
    with connection.begin_nested() as savepoint:
        if not _fold(connection, definition, events):
            return []
        savepoint.rollback()
    return events


def _fold(connection: Connection, definition: ReadModelDefinition, events: Sequence[tuple[_Key, RecordedEvent[Any]]]) -> set[_Key]:
    """Fold events into the rows of their keys, and return the keys of those that another transaction has made meanwhile."""
    keys = list(dict.fromkeys(key for key, _ in events))
    is_postgresql = connection.dialect.name == "postgresql"
    rows = lock_rows(connection, definition, keys) if is_postgresql else _load_all(connection, definition, keys)
    before = set(rows)
    for key, each in events:
        with _refused(definition, each):
            change(definition, rows, key, each)
    if is_postgresql:
        return write_rows(connection, definition, before, rows)
    for key in before - set(rows):
        connection.execute(delete(definition.table).where(is_row(definition, key)))
    if rows:
        _save(connection, definition, rows)
    return set()


@contextmanager
def _refused(definition: ReadModelDefinition, event: RecordedEvent[Any]) -> Iterator[None]:
    """Name the event that a value of cannot be worked out, or that an ``@evolves`` method raised for.

    Where PostgreSQL works it out, it refuses it with an error of its own.
    """
    try:
        yield
    except Exception as error:
        if not definition.evolvers and not isinstance(error, ValueError | ArithmeticError):
            raise
        raise definition.refused([event], error) from error


def _load_all(connection: Connection, definition: ReadModelDefinition, keys: list[_Key]) -> dict[_Key, Row]:
    rows: dict[_Key, Row] = {}
    for start in range(0, len(keys), _BATCH):
        rows.update(_load(connection, definition, keys[start : start + _BATCH]))
    return rows


def _load(connection: Connection, definition: ReadModelDefinition, keys: Iterable[_Key]) -> dict[_Key, Row]:
    found = connection.execute(select(definition.table).where(or_(*(is_row(definition, key) for key in keys))))
    read = _read_own if definition.has_own_table else _read_shared
    return dict(read(definition, row) for row in found)


def _save(connection: Connection, definition: ReadModelDefinition, rows: dict[_Key, Row]) -> None:
    write = _write_own if definition.has_own_table else _write_shared
    values = [write(definition, key, row) for key, row in rows.items()]
    statement = sqlite.insert(definition.table)
    identity = [column.name for column in definition.table.primary_key]
    changed = {name: statement.excluded[name] for name in values[0] if name not in identity}
    connection.execute(statement.on_conflict_do_update(index_elements=identity, set_=changed), values)


def is_row(definition: ReadModelDefinition, key: _Key) -> ColumnElement[bool]:
    """Tell the row of a key."""
    table = definition.table
    if not definition.has_own_table:
        return and_(table.c.projection_name == definition.name, table.c.id == definition.row_id(key))
    columns = definition.model.__mapper__.columns
    return and_(*(columns[part.name] == value for part, value in zip(definition.key, key, strict=True)))


def _read_shared(definition: ReadModelDefinition, row: Any) -> tuple[_Key, Row]:
    data = row.data
    key = tuple(part.type.from_json(data[part.name]) for part in definition.key)
    values = {each.name: each.type.from_json(data[each.name]) if each.name in data else each.initial for each in definition.fields}
    return key, Row(values, row.version, row.created_at, row.updated_at, set(row.positions or ()))


def _write_shared(definition: ReadModelDefinition, key: _Key, row: Row) -> dict[str, Any]:
    data = {part.name: part.type.to_json(value) for part, value in zip(definition.key, key, strict=True)}
    data |= {each.name: each.type.to_json(row.values[each.name]) for each in definition.fields}
    return {
        "id": definition.row_id(key),
        "projection_name": definition.name,
        "data": without_decimals(data),
        "positions": sorted(row.is_set) or None,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _read_own(definition: ReadModelDefinition, row: Any) -> tuple[_Key, Row]:
    columns = definition.model.__mapper__.columns
    values = {each.name: row._mapping[columns[each.name]] for each in definition.fields}  # noqa: SLF001 - public in SQLAlchemy
    key = tuple(row._mapping[columns[part.name]] for part in definition.key)  # noqa: SLF001 - as above
    return key, Row(values, row.version, row.created_at, row.updated_at, set(row._mapping[POSITIONS] or ()))  # noqa: SLF001


def _write_own(definition: ReadModelDefinition, key: _Key, row: Row) -> dict[str, Any]:
    columns = definition.model.__mapper__.columns
    return {
        **{columns[part.name].name: value for part, value in zip(definition.key, key, strict=True)},
        **{columns[each.name].name: row.values[each.name] for each in definition.fields},
        POSITIONS: sorted(row.is_set) or None,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
