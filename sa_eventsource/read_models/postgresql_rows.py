"""Rows that Python works out, on PostgreSQL: locked, folded and written back, with other transactions at work on them."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from sa_eventsource.read_models.fold import Row
from sa_eventsource.read_models.sql import folded_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.engine import Dialect

    from sa_eventsource.read_models.fields import Field, KeyPart
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

_Key = tuple[Any, ...]
_Writer: TypeAlias = "Callable[[Any], str]"
_Entry: TypeAlias = "tuple[str, _Writer]"
"""A name, and how its value is written."""


def load_rows(connection: Connection, definition: ReadModelDefinition, keys: Iterable[_Key]) -> dict[_Key, Row]:
    """Read the rows of some keys, as far as they are there, and lock them until the transaction ends."""
    writer = _RowWriter(definition, connection.dialect)
    wanted = f"[{','.join(map(writer.identity, keys))}]"
    names = [each.name for each in definition.fields]
    rows = {}
    for found in connection.execute(folded_rows(definition).lock, {"keys": wanted}).all():
        *values, version, created_at, updated_at = tuple(found)
        key = _as_key(definition, values[: -len(names)] if names else values)
        rows[key] = Row(dict(zip(names, values[len(key) :], strict=True)), version, created_at, updated_at, set())
    return rows


def write_rows(
    connection: Connection, definition: ReadModelDefinition, before: Collection[_Key], rows: Mapping[_Key, Row]
) -> set[_Key]:
    """Write rows that are locked, or were not there.

    Args:
        connection: In the transaction that has locked them.
        definition: The model.
        before: The keys of the rows that were there.
        rows: The rows as they are to be.

    Returns:
        The keys of rows that were not there, and that another transaction has made meanwhile: they are as that one has made them.
    """
    writer = _RowWriter(definition, connection.dialect)
    there = set(before)
    added = [key for key in rows if key not in there]
    parameters = {
        "changed": f"[{','.join(writer.row(key, row) for key, row in rows.items() if key in there)}]",
        "added": f"[{','.join(writer.row(key, rows[key]) for key in added)}]",
        "removed": f"[{','.join(writer.identity(key) for key in there if key not in rows)}]",
    }
    statements = folded_rows(definition)
    for name, statement in statements.before.items():
        written = parameters.pop(name)
        if written != "[]":
            connection.execute(statement, {name: written})
    inserted = connection.execute(statements.write, parameters).all()
    if len(inserted) == len(added):
        return set()
    made = {writer.key_text(found) for found in inserted}
    return {key for key in added if writer.identity(key) not in made}


class _RowWriter:
    """Writes rows as JSON objects of the table's columns."""

    def __init__(self, definition: ReadModelDefinition, dialect: Dialect) -> None:
        self._definition = definition
        self._key: list[_Entry] = []
        if definition.has_own_table:
            columns = definition.model.__mapper__.columns
            names = folded_rows(definition).identity
            self._key = [
                (_name(name), _column_writer(definition, part, dialect)) for part, name in zip(definition.key, names, strict=True)
            ]
            self._fields = [
                (each.name, _name(columns[each.name].name), _column_writer(definition, each, dialect)) for each in definition.fields
            ]
        else:
            self._key = [(_name(part.name), _json_writer(part)) for part in definition.key]
            self._fields = [(each.name, _name(each.name), _json_writer(each)) for each in definition.fields]

    def identity(self, key: _Key) -> str:
        """Write the columns that identify a row."""
        return f"{{{self._identity(key)}}}"

    def key_text(self, found: Any) -> str:
        """Write the same of a row that the database has returned."""
        if not self._definition.has_own_table:
            return f'{{"id": {_encode(found[0])}}}'
        return self.identity(_as_key(self._definition, found))

    def row(self, key: _Key, row: Row) -> str:
        """Write all columns of a row."""
        values = row.values
        entries = [name + write(values[field]) for field, name, write in self._fields]
        if not self._definition.has_own_table:
            entries = [f'"data": {{{", ".join([*self._key_entries(key), *entries])}}}']
        return (
            f"{{{', '.join([self._identity(key), *entries])}, "
            f'"version": {row.version}, "created_at": {_text(row.created_at)}, "updated_at": {_text(row.updated_at)}}}'
        )

    def _identity(self, key: _Key) -> str:
        if not self._definition.has_own_table:
            return f'"id": {_encode(self._definition.row_id(key))}'
        return ", ".join(self._key_entries(key))

    def _key_entries(self, key: _Key) -> list[str]:
        return [name + write(value) for (name, write), value in zip(self._key, key, strict=True)]


def _as_key(definition: ReadModelDefinition, found: Iterable[Any]) -> _Key:
    return tuple(part.type.normalise(value) for part, value in zip(definition.key, found, strict=True))


def _name(name: str) -> str:
    return f"{_encode(name)}: "


def _json_writer(part: KeyPart | Field) -> _Writer:
    """Find how a value is written that is in a document."""
    if part.type.enum is None and part.type.kind in ("text", "integer", "decimal", "float", "boolean"):
        return _text
    to_json = part.type.to_json
    return lambda value: _text(to_json(value))


def _column_writer(definition: ReadModelDefinition, part: KeyPart | Field, dialect: Dialect) -> _Writer:
    """Find how a value is written that a column of the model's own table is to read: as what the column's type makes of it."""
    if part.type.kind == "json":
        return _json_writer(part)
    column: Any = definition.model.__mapper__.columns[part.name]
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    return _text if process is None else lambda value: _text(process(value))


def _text(value: Any) -> str:
    """Write a value as JSON that PostgreSQL reads as the same: numbers with all their digits, and as text what JSON has not."""
    write = _WRITERS.get(type(value))
    if write is None:
        write = next((each for held, each in _WRITERS.items() if isinstance(value, held)), _encode)
    return write(value)


def _decimal_text(value: Decimal) -> str:
    return str(value) if value.is_finite() else f'"{value}"'


def _float_text(value: float) -> str:
    return str(value) if math.isfinite(value) else f'"{value}"'


def _quoted_text(value: UUID) -> str:
    return f'"{value}"'


def _time_text(value: date) -> str:
    return f'"{value.isoformat()}"'


_encode = json.JSONEncoder().encode
_WRITERS: dict[type[Any], _Writer] = {
    Decimal: _decimal_text,
    float: _float_text,
    datetime: _time_text,
    date: _time_text,
    UUID: _quoted_text,
    str: _encode,
    bool: _encode,
    int: _encode,
    type(None): _encode,
}
