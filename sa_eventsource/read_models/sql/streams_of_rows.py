"""The streams that some rows of a read model are made of, where their key says which: to look there, and not through the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Text, any_, bindparam, func, select

from sa_eventsource.read_models.sources import EnvelopeField

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.read_models.fields import KeyPart
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition


def of_streams(definition: ReadModelDefinition) -> list[ColumnElement[bool]]:
    """Select the events of the streams that some rows are made of; their parameters are those of :func:`streams_of_rows`.

    The index on streams begins with the aggregate's type. Empty where the key does not say which streams it is about.
    """
    if _id_in_key(definition) is None:
        return []
    events = definition.tables.events
    return [
        events.c.aggregate_type == any_(bindparam("stream_types", type_=ARRAY(Text))),
        events.c.aggregate_id == any_(bindparam("stream_ids", type_=ARRAY(Text))),
    ]


def streams_of_rows(connection: Connection, definition: ReadModelDefinition, keys: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """Find the types and ids that the streams of some rows may have, as the parameters of :func:`of_streams`.

    Args:
        connection: On PostgreSQL, after the rows' checkpoint has been locked.
        definition: The model.
        keys: The rows' keys.
    """
    place = _id_in_key(definition)
    if place is None:
        return {}
    return {"stream_types": aggregate_types(connection, definition.tables.events), "stream_ids": [key[place] for key in keys]}


def _id_in_key(definition: ReadModelDefinition) -> int | None:
    """Find the part of the key that is the id of the events' aggregate, as it is stored.

    Where it has another type, one value may be stored in several forms, such as a UUID in capitals.
    """
    return next((place for place, part in enumerate(definition.key) if part.type.kind == "text" and _is_id(part)), None)


def _is_id(part: KeyPart) -> bool:
    return all(isinstance(source, EnvelopeField) and source.name == "aggregate_id" for source in part.sources.values())


def aggregate_types(connection: Connection, events: Table) -> list[str]:
    """List the aggregate types of a log, by one look into the index on streams for each."""
    first = select(func.min(events.c.aggregate_type).label("name")).cte("aggregate_types", recursive=True)
    last = first.alias("last")
    following = select(func.min(events.c.aggregate_type)).where(events.c.aggregate_type > last.c.name).scalar_subquery()
    names = first.union_all(select(following).where(last.c.name.is_not(None)))
    return list(connection.scalars(select(names.c.name).where(names.c.name.is_not(None))))
