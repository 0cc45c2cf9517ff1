"""Where the rows of a model are kept: what each column of a new row is, and what happens to a row that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import BigInteger, Text, Uuid, case, cast, delete, func, literal_column, null, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from sa_eventsource.mapping import quoted
from sa_eventsource.read_models.mapped_rows import POSITIONS
from sa_eventsource.read_models.sql.grouping import field_name, key_columns, position_name, removing
from sa_eventsource.read_models.sql.json_objects import json_object
from sa_eventsource.read_models.sql.lists import EMPTY, pruned, visible
from sa_eventsource.read_models.sql.source_expressions import as_json, from_json

if TYPE_CHECKING:
    from sqlalchemy import Subquery
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.read_models.fields import Field
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

_LATER_THAN_ANY = literal_column(str(2**63 - 1), BigInteger)


class SharedTable:
    """Rows of the projections table: fields are entries of ``data``."""

    def __init__(self, definition: ReadModelDefinition) -> None:
        """Choose the model."""
        self.definition = definition
        self.table = definition.tables.projections
        self.identity = [self.table.c.id, self.table.c.projection_name]

    def values(self, batch: Subquery) -> dict[str, Any]:
        """The columns of new rows."""
        data = {
            part.name: as_json(column, part.type)
            for part, column in zip(self.definition.key, key_columns(self.definition, batch), strict=True)
        }
        for each in self.definition.fields:
            value = batch.c[field_name(each.name)]
            data[each.name] = (
                _visible(each, pruned(value, distinct=each.distinct)) if each.family == "list" else as_json(value, each.type)
            )
        return {
            "id": self._row_id(batch),
            "projection_name": quoted(self.definition.name),
            "data": json_object(data),
            "positions": _new_positions(self.definition, batch),
            "version": batch.c.version,
            "created_at": batch.c.created_at,
            "updated_at": batch.c.updated_at,
        }

    def merged(self, excluded: Any) -> dict[str, Any]:
        """What happens to the columns of a row that is there."""
        old, new = self.table.c, excluded
        data = {part.name: _entry(old.data, part.name) for part in self.definition.key}
        for each in self.definition.fields:
            before, after = _entry(old.data, each.name), _entry(new.data, each.name)
            if each.family in ("sum", "min", "max"):
                combined = _combined(each, from_json(before, each.type), from_json(after, each.type))
                data[each.name] = as_json(combined, each.type)
            else:
                data[each.name] = _replaced(self.definition, each, (before, after), (old.positions, new.positions))
        return {"data": json_object(data), **_merged_columns(self.definition, self.table, excluded, "positions")}

    def removal(self, keyed: Subquery) -> Any:
        """Delete the rows that events remove, locked in the order in which all writers take them."""
        ids = select(self._row_id(keyed)).where(removing(self.definition, keyed))
        rows = self.table.alias("removed")
        locked = (
            select(rows.c.id)
            .where(rows.c.projection_name == quoted(self.definition.name), rows.c.id.in_(ids))
            .order_by(rows.c.id)
            .with_for_update()
        )
        return delete(self.table).where(self.table.c.projection_name == quoted(self.definition.name), self.table.c.id.in_(locked))

    def _row_id(self, rows: Subquery) -> ColumnElement[Any]:
        keys = [
            as_json(column, part.type) for part, column in zip(self.definition.key, key_columns(self.definition, rows), strict=True)
        ]
        if len(keys) > 1:
            return cast(func.jsonb_build_array(*keys), Text)
        only = key_columns(self.definition, rows)[0]
        return only if self.definition.key[0].type.kind in ("text", "uuid") else keys[0].op("#>>")(quoted("{}"))


class OwnTable:
    """Rows of a table of the model's own: fields are columns."""

    def __init__(self, definition: ReadModelDefinition) -> None:
        """Choose the model."""
        self.definition = definition
        self.table = definition.table
        self.identity = [self._column(part.name) for part in definition.key]

    def values(self, batch: Subquery) -> dict[str, Any]:
        """The columns of new rows."""
        found: dict[str, Any] = {
            self._column(part.name).name: _native(column, part.type.kind)
            for part, column in zip(self.definition.key, key_columns(self.definition, batch), strict=True)
        }
        for each in self.definition.fields:
            value = batch.c[field_name(each.name)]
            found[self._column(each.name).name] = (
                _visible(each, pruned(value, distinct=each.distinct)) if each.family == "list" else _native(value, each.type.kind)
            )
        return {
            **found,
            POSITIONS: _new_positions(self.definition, batch),
            "version": batch.c.version,
            "created_at": batch.c.created_at,
            "updated_at": batch.c.updated_at,
        }

    def merged(self, excluded: Any) -> dict[str, Any]:
        """What happens to the columns of a row that is there."""
        old, new = self.table.c[POSITIONS], excluded[POSITIONS]
        found: dict[str, Any] = {}
        for each in self.definition.fields:
            name = self._column(each.name).name
            before, after = self.table.c[name], excluded[name]
            found[name] = (
                _combined(each, before, after)
                if each.family in ("sum", "min", "max")
                else _replaced(self.definition, each, (before, after), (old, new))
            )
        return {**found, **_merged_columns(self.definition, self.table, excluded, POSITIONS)}

    def removal(self, keyed: Subquery) -> Any:
        """Delete the rows that events remove, locked in the order in which all writers take them."""
        keys = [
            _native(column, part.type.kind)
            for part, column in zip(self.definition.key, key_columns(self.definition, keyed), strict=True)
        ]
        ids = select(*keys).where(removing(self.definition, keyed))
        rows = self.table.alias("removed")
        identity = [rows.c[column.name] for column in self.identity]
        locked = select(*identity).where(tuple_(*identity).in_(ids)).order_by(*identity).with_for_update()
        return delete(self.table).where(tuple_(*self.identity).in_(locked))

    def _column(self, name: str) -> Any:
        return self.definition.model.__mapper__.columns[name]


Storage: TypeAlias = SharedTable | OwnTable


def storage_of(definition: ReadModelDefinition) -> Storage:
    """Choose the table that a model's rows are kept in."""
    return OwnTable(definition) if definition.has_own_table else SharedTable(definition)


def _native(value: Any, kind: str) -> Any:
    return cast(value, Uuid) if kind == "uuid" else value


def _combined(each: Field, before: Any, after: Any) -> Any:
    if each.family == "sum":
        zero: Any = literal_column("0")
        return func.coalesce(before, zero) + func.coalesce(after, zero)
    collated = [one.collate("C") if each.type.kind == "text" else one for one in (before, after)]
    return func.least(*collated) if each.family == "min" else func.greatest(*collated)


def _replaced(definition: ReadModelDefinition, each: Field, values: tuple[Any, Any], positions: tuple[Any, Any]) -> Any:
    """The later value, or the earlier, by the positions that have set them; a list from the entries of both."""
    if each.family == "list":
        return _visible(each, _merged_entries(each, *positions))
    before, after = (_position(kept, definition.position_group(each)) for kept in positions)
    earliest: Any = func.coalesce(before, literal_column("0"))
    is_newer = (
        # Parts of one stored event have its position, and may come one after the other.
        (after >= earliest if definition.split_sources else after > earliest)
        if each.family == "last"
        else after < func.coalesce(before, _LATER_THAN_ANY)
    )
    return case((is_newer, values[1]), else_=values[0])


def _new_positions(definition: ReadModelDefinition, batch: Subquery) -> Any:
    kept = {name: batch.c[position_name(name)] for name in _groups(definition)}
    kept |= {each.name: pruned(batch.c[field_name(each.name)], distinct=each.distinct) for each in definition.lists}
    return json_object(kept) if kept else cast(null(), JSONB)


def _merged_columns(definition: ReadModelDefinition, table: Any, excluded: Any, positions: str) -> dict[str, Any]:
    old, new = table.c[positions], excluded[positions]
    kept: dict[str, Any] = {
        name: (func.greatest if family == "last" else func.least)(_position(old, name), _position(new, name))
        for name, family in _groups(definition).items()
    }
    kept |= {each.name: _merged_entries(each, old, new) for each in definition.lists}
    return {
        positions: json_object(kept) if kept else cast(null(), JSONB),
        "version": table.c.version + excluded.version,
        "created_at": func.least(table.c.created_at, excluded.created_at),
        "updated_at": func.greatest(table.c.updated_at, excluded.updated_at),
    }


def _groups(definition: ReadModelDefinition) -> dict[str, str]:
    return {definition.position_group(each): each.family for each in definition.positioned}


def _merged_entries(each: Field, old: Any, new: Any) -> Any:
    before, after = (func.coalesce(_entry(kept, each.name), EMPTY) for kept in (old, new))
    return pruned(before.op("||", return_type=JSONB())(after), distinct=each.distinct)


def _visible(each: Field, entries: Any) -> Any:
    assert each.type.item is not None  # noqa: S101 - checked when the field was understood
    return visible(entries, each.type.item)


def _position(positions: Any, group: str) -> Any:
    return cast(positions.op("->>")(quoted(group)), BigInteger)


def _entry(document: Any, name: str) -> Any:
    return document.op("->", return_type=JSONB())(quoted(name))
