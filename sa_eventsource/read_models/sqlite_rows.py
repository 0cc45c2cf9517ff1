"""Rows that Python works out, on SQLite, which has one writer: read, folded and written back with no other transaction at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, or_, select
from sqlalchemy.dialects import sqlite

from sa_eventsource.read_models.fold import Row
from sa_eventsource.read_models.mapped_rows import POSITIONS, is_row
from sa_eventsource.read_models.value_types import without_decimals

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection

    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

_AT_ONCE = 200
"""Rows selected by one statement; SQLite's oldest limit on parameters is 999."""

_Key = tuple[Any, ...]


def load_rows(connection: Connection, definition: ReadModelDefinition, keys: Sequence[_Key]) -> dict[_Key, Row]:
    """Read the rows of some keys, as far as they are there."""
    read = _read_own if definition.has_own_table else _read_shared
    rows: dict[_Key, Row] = {}
    for start in range(0, len(keys), _AT_ONCE):
        wanted = or_(*(is_row(definition, key) for key in keys[start : start + _AT_ONCE]))
        rows.update(read(definition, row) for row in connection.execute(select(definition.table).where(wanted)))
    return rows


def write_rows(
    connection: Connection, definition: ReadModelDefinition, before: Collection[_Key], rows: Mapping[_Key, Row]
) -> set[_Key]:
    """Write rows, and delete those of *before* that are not among them; no other transaction can have made one meanwhile."""
    for key in before:
        if key not in rows:
            connection.execute(delete(definition.table).where(is_row(definition, key)))
    if rows:
        _save(connection, definition, rows)
    return set()


def _save(connection: Connection, definition: ReadModelDefinition, rows: Mapping[_Key, Row]) -> None:
    write = _write_own if definition.has_own_table else _write_shared
    values = [write(definition, key, row) for key, row in rows.items()]
    statement = sqlite.insert(definition.table)
    identity = [column.name for column in definition.table.primary_key]
    changed = {name: statement.excluded[name] for name in values[0] if name not in identity}
    connection.execute(statement.on_conflict_do_update(index_elements=identity, set_=changed), values)


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
