"""The writing half: grouped rows go into the read model's table, or are merged into those that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Text,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    null,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from sa_eventsource.consumers import ALL_STREAMS, Streams
from sa_eventsource.mapping import quoted
from sa_eventsource.read_models.mapped_rows import POSITIONS
from sa_eventsource.read_models.sql.beginnings import Own, beginning
from sa_eventsource.read_models.sql.grouping import (
    appended_event,
    appended_events,
    field_name,
    grouped,
    key_columns,
    position_name,
    removing,
    stored_events,
    with_keys,
)
from sa_eventsource.read_models.sql.json_objects import json_object
from sa_eventsource.read_models.sql.lists import EMPTY, pruned, visible
from sa_eventsource.read_models.sql.source_expressions import as_json, from_json
from sa_eventsource.read_models.sql.streams_of_rows import of_streams
from sa_eventsource.store import DriverStatement, between_positions, in_window, taken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Subquery
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.read_models.fields import Field
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

Selection: TypeAlias = Literal["id", "ids", "stored ids", "window", "window from the start", "rows", "rows in progress"]
"""Which events: that of parameter ``event_id``, which was just appended; those of ``event_ids``, likewise; those of ``event_ids``,
whatever their shape; those between two snapshots (``since``, ``until``) and two positions (``after``, ``upto``); all that ``until``
sees between the positions; all that a reader at ``since`` has taken which belong to the rows of ``keys``, a JSON array of arrays,
whose streams are given by :func:`streams_of_rows`; or that one at ``since`` has taken that has come to ``upto`` on its way to
``until``."""

_LATER_THAN_ANY = literal_column(str(2**63 - 1), BigInteger)


@dataclass(frozen=True, slots=True)
class WriteStatements:
    """What brings a model's rows up to date with some events; to be executed in this order.

    Attributes:
        remove: Deletes the rows that one of the events removes; None if none can, or the table is empty.
        write: Inserts the rows that the others make, or merges them into those that are there. Of events that were just appended,
            it begins the model's checkpoint as well.
    """

    remove: DriverStatement | None
    write: DriverStatement

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> None:
        """Execute both, with the parameters of the selection."""
        if self.remove is not None:
            self.remove.execute(connection, parameters)
        self.write.execute(connection, parameters)


def write_statements(
    definition: ReadModelDefinition,
    selection: Selection,
    *,
    streams: Streams = ALL_STREAMS,
    with_upcasted: bool = False,
    into_empty: bool = False,
) -> WriteStatements:
    """Build, once, the statements for some selection of events.

    Args:
        definition: The read model.
        selection: Which events they take.
        streams: Of which streams.
        with_upcasted: Whether parameter ``upcasted`` has further events, as a JSON array of rows of events.
        into_empty: Whether the model has none of the rows yet, so that none needs to be merged.
    """
    key = (selection, streams, with_upcasted, into_empty)
    kept = definition.statements
    found: WriteStatements | None = kept.get(key)
    if found is None:
        keyed = with_keys(definition, _selected(definition, selection, streams, with_upcasted=with_upcasted))
        if selection in ("rows", "rows in progress"):
            keyed = _of_rows(definition, keyed)
        found = kept[key] = _build(definition, keyed, selection, into_empty=into_empty)
    return found


def beginning_statement(definition: ReadModelDefinition, own: Own) -> DriverStatement:
    """Build, once, the statement that begins a strong model's checkpoint by itself."""
    key = ("beginning", own)
    kept = definition.statements
    found: DriverStatement | None = kept.get(key)
    if found is None:
        found = kept[key] = DriverStatement(beginning(definition, own))
    return found


def _build(definition: ReadModelDefinition, keyed: Subquery, selection: Selection, *, into_empty: bool) -> WriteStatements:
    storage = _OwnTable(definition) if definition.has_own_table else _SharedTable(definition)
    batch = grouped(definition, keyed)
    values = storage.values(batch)
    rows = select(*values.values()).order_by(*(literal_column(str(index + 1)) for index in range(len(storage.identity))))
    statement = insert(storage.table).from_select(list(values), rows, include_defaults=False)
    if not into_empty:
        statement = statement.on_conflict_do_update(index_elements=storage.identity, set_=storage.merged(statement.excluded))
    if selection in ("id", "ids"):
        statement = statement.add_cte(beginning(definition, selection).cte("beginning"))
    remove = None if into_empty or not definition.removed_by else DriverStatement(storage.removal(keyed))
    return WriteStatements(remove, DriverStatement(statement))


def _selected(definition: ReadModelDefinition, selection: Selection, streams: Streams, *, with_upcasted: bool) -> Subquery:
    events = definition.tables.events
    where = streams.conditions(definition.tables)
    match selection:
        case "id":
            return appended_event(definition)
        case "ids":
            return appended_events(definition)
        case "stored ids":
            where.append(events.c.event_id == any_(cast(bindparam("event_ids", type_=Text), ARRAY(Uuid))))
        case "window" | "window from the start":
            where += [*in_window(events, has_start=selection == "window"), *between_positions(events)]
        case "rows" | "rows in progress":
            where += [taken(events, in_progress=selection == "rows in progress"), *of_streams(definition)]
    is_selective = selection == "stored ids" or streams.not_parked_by is not None
    return stored_events(definition, where, with_upcasted=with_upcasted, is_selective=is_selective)


def _of_rows(definition: ReadModelDefinition, keyed: Subquery) -> Subquery:
    """Keep the events of the rows whose keys are parameter ``keys``."""
    key = func.jsonb_build_array(
        *(as_json(column, part.type) for part, column in zip(definition.key, key_columns(definition, keyed), strict=True))
    )
    wanted = select(func.jsonb_array_elements(cast(bindparam("keys", type_=Text), JSONB)))
    return select(keyed).where(key.in_(wanted)).subquery("wanted_event")


class _SharedTable:
    """Rows of the projections table: fields are entries of ``data``."""

    def __init__(self, definition: ReadModelDefinition) -> None:
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
        """What becomes of the columns of a row that is there."""
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


class _OwnTable:
    """Rows of a table of the model's own: fields are columns."""

    def __init__(self, definition: ReadModelDefinition) -> None:
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
        """What becomes of the columns of a row that is there."""
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
    is_newer = (
        after > func.coalesce(before, literal_column("0"))
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
