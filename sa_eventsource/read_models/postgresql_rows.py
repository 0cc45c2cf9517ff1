"""Rows that Python works out, on PostgreSQL: locked, folded and written back, with other transactions at work on them."""

from __future__ import annotations

import json
import math
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any
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
_Writer = "Callable[[Any], str]"


def load_rows(connection: Connection, definition: ReadModelDefinition, keys: Iterable[_Key]) -> dict[_Key, Row]:
    """Read the rows of some keys, as far as they are there, and lock them until the transaction ends."""
    writer = _RowWriter(definition, connection.dialect)
    wanted = f"[{','.join(writer.identity(key) for key in keys)}]"
    rows = {}
    length = len(definition.key)
    for found in connection.execute(folded_rows(definition).lock, {"keys": wanted}):
        *values, version, created_at, updated_at = tuple(found)
        key = tuple(part.type.normalise(value) for part, value in zip(definition.key, values[:length], strict=True))
        fields = {each.name: value for each, value in zip(definition.fields, values[length:], strict=True)}
        rows[key] = Row(fields, version, created_at, updated_at, set())
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
    inserted = connection.execute(folded_rows(definition).write, parameters).all()
    if len(inserted) == len(added):
        return set()
    made = {writer.key_text(found) for found in inserted}
    return {key for key in added if writer.identity(key) not in made}


class _RowWriter:
    """Writes rows as JSON objects of the table's columns."""

    def __init__(self, definition: ReadModelDefinition, dialect: Dialect) -> None:
        self._definition = definition
        self._names = folded_rows(definition).identity
        if definition.has_own_table:
            self._parts = {part.name: _column_writer(definition, part, dialect) for part in definition.parts}

    def identity(self, key: _Key) -> str:
        """Write the columns that identify a row."""
        if not self._definition.has_own_table:
            return f'{{"id": {json.dumps(self._definition.row_id(key))}}}'
        return f"{{{', '.join(self._key_entries(key))}}}"

    def key_text(self, found: Any) -> str:
        """Write the same of a row that the database has returned."""
        if not self._definition.has_own_table:
            return f'{{"id": {json.dumps(found[0])}}}'
        return self.identity(tuple(part.type.normalise(value) for part, value in zip(self._definition.key, found, strict=True)))

    def row(self, key: _Key, row: Row) -> str:
        """Write all columns of a row."""
        if self._definition.has_own_table:
            columns = self._definition.model.__mapper__.columns
            entries = self._key_entries(key)
            entries += [
                f"{json.dumps(columns[each.name].name)}: {self._parts[each.name](row.values[each.name])}"
                for each in self._definition.fields
            ]
        else:
            document = [
                f"{json.dumps(part.name)}: {_json(part, value)}" for part, value in zip(self._definition.key, key, strict=True)
            ]
            document += [f"{json.dumps(each.name)}: {_json(each, row.values[each.name])}" for each in self._definition.fields]
            entries = [f'"id": {json.dumps(self._definition.row_id(key))}', f'"data": {{{", ".join(document)}}}']
        entries.append(f'"version": {row.version}')
        entries.append(f'"created_at": {_text(row.created_at)}, "updated_at": {_text(row.updated_at)}')
        return f"{{{', '.join(entries)}}}"

    def _key_entries(self, key: _Key) -> list[str]:
        parts = zip(self._definition.key, self._names, key, strict=True)
        return [f"{json.dumps(name)}: {self._parts[part.name](value)}" for part, name, value in parts]


def _json(part: KeyPart | Field, value: Any) -> str:
    return _text(part.type.to_json(value))


def _column_writer(definition: ReadModelDefinition, part: KeyPart | Field, dialect: Dialect) -> Callable[[Any], str]:
    """Find how a value is written that a column of the model's own table is to read: as what the column's type makes of it."""
    if part.type.kind == "json":
        return lambda value: _json(part, value)
    column: Any = definition.model.__mapper__.columns[part.name]
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    return _text if process is None else lambda value: _text(process(value))


def _text(value: Any) -> str:
    """Write a value as JSON that PostgreSQL reads as the same: numbers with all their digits, and as text what JSON has not."""
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else f'"{value}"'
    if isinstance(value, float) and not math.isfinite(value):
        return f'"{value}"'
    if isinstance(value, date):
        return f'"{value.isoformat()}"'
    if isinstance(value, UUID):
        return f'"{value}"'
    return json.dumps(value)
