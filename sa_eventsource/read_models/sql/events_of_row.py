"""The events that belong to one row of a read model, as conditions on the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, cast, false, func, select, true
from sqlalchemy.dialects.postgresql import JSONB

from sa_eventsource.aggregates import definition_of as definition_of_aggregate
from sa_eventsource.consumers import knows
from sa_eventsource.mapping import quoted
from sa_eventsource.read_models.sources import EnvelopeField
from sa_eventsource.read_models.sql.grouping import is_current, is_outdated, value_by_type
from sa_eventsource.read_models.sql.source_expressions import as_json
from sa_eventsource.read_models.sql.streams_of_rows import aggregate_types
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.read_models.fields import KeyPart
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition


def of_row(definition: ReadModelDefinition, key: Sequence[Any]) -> ColumnElement[bool]:
    """Select, among the events that a model takes, those of a row, and those of which only Python can tell.

    For PostgreSQL. Each event is asked what it is before its payload is read.

    Args:
        definition: The model, which has declared fields or ``@evolves`` methods.
        key: The row's key.
    """
    events = definition.tables.events
    wanted = json.dumps([part.type.to_json(value) for part, value in zip(definition.key, key, strict=True)], ensure_ascii=False)
    parts = (as_json(value_by_type(definition, events, part.sources), part.type) for part in definition.key)
    is_of_it = func.jsonb_build_array(*parts) == cast(quoted(wanted), JSONB)
    return case((is_outdated(definition, events), true()), (is_current(definition, events), is_of_it), else_=false())


def of_streams_of_row(connection: Connection, definition: ReadModelDefinition, key: Sequence[Any]) -> list[ColumnElement[bool]]:
    """Select the events of the streams that a row is made of, which an index finds; empty where its key does not say which.

    Args:
        connection: Where the log is.
        definition: The model.
        key: The row's key.
    """
    place = next((place for place, part in enumerate(definition.key) if _is_id(part)), None)
    if place is None:
        return []
    events, part = definition.tables.events, definition.key[place]
    if database_of(connection.dialect).works_out_fields:
        types = aggregate_types(connection, events)
    else:
        types = list(connection.scalars(select(events.c.aggregate_type).distinct()))
    types = [each for each in types if definition.takes_from(each)]
    if part.type.kind != "text" and not all(_writes_ids_in_one_form(definition, each, part) for each in types):
        return []
    return [events.c.aggregate_type.in_(types), events.c.aggregate_id == str(key[place])]


def _is_id(part: KeyPart) -> bool:
    return all(isinstance(source, EnvelopeField) and source.name == "aggregate_id" for source in part.sources.values())


def _writes_ids_in_one_form(definition: ReadModelDefinition, aggregate_type: str, part: KeyPart) -> bool:
    """Check whether a type's ids are written as Python writes values of the key, or the type feeds no row."""
    aggregate_class = definition.tables.aggregate_classes.get(aggregate_type)
    if aggregate_class is None:
        return False
    is_of_type = definition_of_aggregate(aggregate_class).id_type is part.type.python
    return is_of_type or not knows(aggregate_class, definition.named_classes)
