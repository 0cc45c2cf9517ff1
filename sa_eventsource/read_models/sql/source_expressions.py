"""Sources as SQL expressions over one row of events."""

from __future__ import annotations

import json
from functools import reduce
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Boolean,
    Date,
    DateTime,
    Double,
    Numeric,
    Text,
    Uuid,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from sa_eventsource.mapping import quoted
from sa_eventsource.read_models.documents import ListShape
from sa_eventsource.read_models.sources import Calculation, Constant, EnvelopeField, EventField, MetadataValue, ReadValue, TimePart
from sa_eventsource.read_models.sql.json_objects import json_object

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement
    from sqlalchemy.types import TypeEngine

    from sa_eventsource.read_models.documents import Shape
    from sa_eventsource.read_models.sources import Source
    from sa_eventsource.read_models.value_types import ValueType

_JSON_TYPES = {"text": "string", "boolean": "boolean", "integer": "number", "decimal": "number", "float": "number"}


def sql_type(found: ValueType) -> TypeEngine[Any]:
    """The type that values of a field have while they are worked out."""
    types: dict[str, TypeEngine[Any]] = {
        "text": Text(),
        "integer": Numeric(),
        "decimal": Numeric(),
        "float": Double(),
        "boolean": Boolean(),
        "date": Date(),
        "moment": DateTime(timezone=True),
        "uuid": Text(),
        "json": JSONB(),
    }
    return types[found.kind]


def extract(source: Source | ReadValue, events: Any) -> ColumnElement[Any]:  # noqa: PLR0911 - one for each kind of source
    """Write the value that a source has for a row of *events*."""
    match source:
        case EventField():
            return _from_payload(source, events.c.event_data)
        case ReadValue(key=key, type=found):
            return _as_value(_entry(events.c.event_data, key), found)
        case EnvelopeField(name="aggregate_id", type=found) if found.kind == "uuid":
            return cast(cast(events.c.aggregate_id, Uuid), Text)
        case EnvelopeField(name=name, type=found):
            return cast(events.c[name], sql_type(found))
        case MetadataValue(path=path, type=found):
            entry = _entry(events.c.metadata, source.key)
            if len(path) > 1:
                entry = func.coalesce(entry, reduce(_entry, path, events.c.metadata), type_=JSONB())
            return _from_metadata(entry, found)
        case Constant(value=value, type=found):
            return _constant(value, found)
        case Calculation(operator=operator, left=left, right=right, type=found):
            one, other = (cast(extract(each, events), sql_type(found)) for each in (left, right))
            return one.concat(other) if found.kind == "text" else one.op(operator, return_type=sql_type(found))(other)
        case TimePart(unit=unit, source=inner, zone=zone):
            local = func.timezone(quoted(zone), extract(inner, events))
            part = cast(local if unit == "day" else func.date_trunc(quoted(unit), local), Date)
            return part if isinstance(inner, EnvelopeField) else _within_pythons_years(part, "0001-01-01", "9999-12-31")


def _within_pythons_years(value: ColumnElement[Any], first: str, last: str) -> ColumnElement[Any]:
    """Have a statement fail for a day or a moment that Python has none for, as the fold does: it could be stored, and never read.

    Moments of a payload may lie at the ends of time, in a zone of their own; those of the log lie a day or more within them.
    """
    refused = cast(func.concat(quoted("no time of Python: "), value), value.type)
    is_one = value.between(cast(quoted(first), value.type), cast(quoted(last), value.type))
    return case((is_one, value), (value.is_not(None), refused))


def as_json(value: ColumnElement[Any], found: ValueType) -> ColumnElement[Any]:
    """Write a value as the JSON that :meth:`ValueType.to_json` makes of it."""
    if found.kind == "moment":
        return func.to_jsonb(func.to_char(func.timezone(quoted("UTC"), value), quoted('YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
    if found.kind == "date":
        return func.to_jsonb(func.to_char(value, quoted("YYYY-MM-DD")))
    return value if found.kind == "json" else func.to_jsonb(value)


def from_json(document: ColumnElement[Any], found: ValueType) -> ColumnElement[Any]:
    """Read a value from the JSON that :func:`as_json` makes."""
    return document if found.kind == "json" else cast(_text(document), sql_type(found))


def _from_payload(source: EventField, payload: ColumnElement[Any]) -> ColumnElement[Any]:
    if len(source.path) == 1 and source.path[0].default is None and source.type.kind != "json":
        return _canonical(payload.op("->>", return_type=Text())(quoted(source.path[0].key)), source.type)
    document = payload
    for depth, step in enumerate(source.path):
        entry = _entry(document, step.key)
        if step.default is not None:
            # Missing is SQL's NULL here, and null a JSON value.
            known = func.coalesce(entry, cast(quoted(step.default), JSONB))
            entry = known if depth == 0 else case((func.jsonb_typeof(document) == quoted("object"), known))
        document = entry
    return _as_value(document if source.shape is None else _shaped(document, source.shape), source.type)


def _as_value(document: ColumnElement[Any], found: ValueType) -> ColumnElement[Any]:
    """Give a JSON value the type of the field; null is SQL's."""
    if found.kind != "json":
        return _canonical(_text(document), found)
    if found.item is not None and found.item.kind in _IN_SEVERAL_FORMS:
        document = _canonical_list(document, found.item)
    return func.nullif(document, cast(quoted("null"), JSONB), type_=JSONB())


_IN_SEVERAL_FORMS = ("integer", "moment", "date", "uuid")
"""What a payload may have in another form than the one that rows have: 7.0, other zones, upper-case letters."""


def _canonical(text: ColumnElement[Any], found: ValueType) -> ColumnElement[Any]:
    """Give a text from a payload its type, and the one form that each value of it has."""
    if found.kind == "uuid":
        return cast(cast(text, Uuid), Text)
    value = cast(text, sql_type(found))
    if found.kind == "moment":
        return _within_pythons_years(value, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z")
    return func.trunc(value, type_=Numeric()) if found.kind == "integer" else value


def _canonical_list(document: ColumnElement[Any], item: ValueType) -> ColumnElement[Any]:
    each = func.jsonb_array_elements(document).table_valued("value", with_ordinality="place").render_derived()
    entry = as_json(_canonical(_text(cast(each.c.value, JSONB)), item), item)
    whole = select(func.coalesce(func.jsonb_agg(aggregate_order_by(entry, each.c.place)), cast(quoted("[]"), JSONB)))
    return case((func.jsonb_typeof(document) == quoted("array"), whole.scalar_subquery()), else_=document)


def _shaped(document: ColumnElement[Any], shape: Shape) -> ColumnElement[Any]:
    """Have the models in a document as they are read: with the defaults that it lacks, without keys that they do not know."""
    kind = func.jsonb_typeof(document)
    if isinstance(shape, ListShape):
        each = func.jsonb_array_elements(document).table_valued("value", with_ordinality="place").render_derived()
        items = aggregate_order_by(_shaped(cast(each.c.value, JSONB), shape.item), each.c.place)
        whole = select(func.coalesce(func.jsonb_agg(items), cast(quoted("[]"), JSONB))).scalar_subquery()
        return case((kind == quoted("array"), whole), else_=document)
    entries = {}
    for each_field in shape.fields:
        entry: ColumnElement[Any] = _entry(document, each_field.key)
        if each_field.default is not None:
            entry = func.coalesce(entry, cast(quoted(each_field.default), JSONB), type_=JSONB())
        entries[each_field.key] = entry if each_field.inner is None else _shaped(entry, each_field.inner)
    return case((kind == quoted("object"), json_object(entries)), else_=document)


def _from_metadata(entry: ColumnElement[Any], found: ValueType) -> ColumnElement[Any]:
    if found.kind == "json":
        return func.nullif(entry, cast(quoted("null"), JSONB), type_=JSONB())
    fits = func.jsonb_typeof(entry) == quoted(_JSON_TYPES[found.kind])
    value = case((fits, cast(_text(entry), sql_type(found))))
    return case((value == func.trunc(value), value)) if found.kind == "integer" else value


def _entry(document: ColumnElement[Any], key: str) -> ColumnElement[Any]:
    return document.op("->", return_type=JSONB())(quoted(key))


def _text(document: ColumnElement[Any]) -> ColumnElement[Any]:
    return document.op("#>>", return_type=Text())(quoted("{}"))


def _constant(value: Any, found: ValueType) -> ColumnElement[Any]:
    if value is None:
        return cast(null(), sql_type(found))
    stored = found.to_json(value)
    if isinstance(stored, bool):
        return literal_column("true" if stored else "false", Boolean)
    text = stored if isinstance(stored, str) else str(stored) if found.kind == "decimal" else json.dumps(stored)
    return cast(quoted(text), sql_type(found))
