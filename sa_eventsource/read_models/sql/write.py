"""The writing half: grouped rows go into the read model's table, or are merged into those that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import ARRAY, Text, Uuid, any_, bindparam, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB, insert

from sa_eventsource.consumers import ALL_STREAMS, Streams
from sa_eventsource.mapping import conflict_key
from sa_eventsource.read_models.sql.beginnings import Own, beginning
from sa_eventsource.read_models.sql.grouping import (
    appended_event,
    appended_events,
    grouped,
    key_columns,
    stored_events,
    with_keys,
)
from sa_eventsource.read_models.sql.row_storage import storage_of
from sa_eventsource.read_models.sql.source_expressions import as_json
from sa_eventsource.read_models.sql.streams_of_rows import of_streams
from sa_eventsource.store import DriverStatement, between_positions, in_window, taken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Subquery

    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition
    from sa_eventsource.store import Database

Selection: TypeAlias = Literal["id", "ids", "stored ids", "window", "window from the start", "rows", "rows in progress"]
"""Which events: that of parameter ``event_id``, which was just appended; those of ``event_ids``, likewise; those of ``event_ids``,
whatever their shape; those between two snapshots (``since``, ``until``) and two positions (``after``, ``upto``); all that ``until``
sees between the positions; all that a reader at ``since`` has taken which belong to the rows of ``keys``, a JSON array of arrays,
whose streams are given by :func:`streams_of_rows`; or that one at ``since`` has taken that has come to ``upto`` on its way to
``until``."""


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
    key = (selection, streams, with_upcasted, into_empty, bool(definition.split_sources))
    kept = definition.statements
    found: WriteStatements | None = kept.get(key)
    if found is None:
        keyed = with_keys(definition, _selected(definition, selection, streams, with_upcasted=with_upcasted))
        if selection in ("rows", "rows in progress"):
            keyed = _of_rows(definition, keyed)
        found = kept[key] = _build(definition, keyed, selection, into_empty=into_empty)
    return found


def beginning_statement(definition: ReadModelDefinition, own: Own, database: Database) -> DriverStatement:
    """Build, once, the statement that begins a strong model's checkpoint by itself.

    Args:
        definition: The read model.
        own: Which events the flush has appended itself, which follows from the database.
        database: The database.
    """
    key = ("beginning", own)
    kept = definition.statements
    found: DriverStatement | None = kept.get(key)
    if found is None:
        found = kept[key] = DriverStatement(beginning(definition, own, database.insert(definition.tables.projection_positions)))
    return found


def _build(definition: ReadModelDefinition, keyed: Subquery, selection: Selection, *, into_empty: bool) -> WriteStatements:
    storage = storage_of(definition)
    batch = grouped(definition, keyed)
    values = storage.values(batch)
    rows = select(*values.values()).order_by(*(literal_column(str(index + 1)) for index in range(len(storage.identity))))
    statement = insert(storage.table).from_select(list(values), rows, include_defaults=False)
    if not into_empty:
        statement = statement.on_conflict_do_update(
            index_elements=conflict_key(storage.table, *storage.identity), set_=storage.merged(statement.excluded)
        )
    if selection in ("id", "ids"):
        begun = beginning(definition, selection, insert(definition.tables.projection_positions))
        statement = statement.add_cte(begun.cte("beginning"))
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
