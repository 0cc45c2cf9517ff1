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
from sa_eventsource.read_models.documents import ListGaps
from sa_eventsource.read_models.sources import Calculation, Constant, EnvelopeField, EventField, MetadataValue, TimePart

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement
    from sqlalchemy.types import TypeEngine

    from sa_eventsource.read_models.documents import Gaps
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


def extract(source: Source, events: Any) -> ColumnElement[Any]:  # noqa: PLR0911 - one for each kind of source
    """Write the value that a source has for a row of *events*."""
    match source:
        case EventField():
            return _from_payload(source, events.c.event_data)
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
            return cast(local if unit == "day" else func.date_trunc(quoted(unit), local), Date)


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
        return cast(payload.op("->>", return_type=Text())(quoted(source.path[0].key)), sql_type(source.type))
    document = payload
    for depth, step in enumerate(source.path):
        entry = _entry(document, step.key)
        if step.default is not None:
            # Missing is SQL's NULL here, and null a JSON value.
            known = func.coalesce(entry, cast(quoted(step.default), JSONB))
            entry = known if depth == 0 else case((func.jsonb_typeof(document) == quoted("object"), known))
        document = entry
    if source.type.kind == "json":
        document = document if source.gaps is None else _filled(document, source.gaps)
        return func.nullif(document, cast(quoted("null"), JSONB), type_=JSONB())
    return cast(_text(document), sql_type(source.type))


def _filled(document: ColumnElement[Any], gaps: Gaps) -> ColumnElement[Any]:
    """Fill in the defaults that a stored document lacks."""
    kind = func.jsonb_typeof(document)
    if isinstance(gaps, ListGaps):
        each = func.jsonb_array_elements(document).table_valued("value", with_ordinality="place").render_derived()
        items = aggregate_order_by(_filled(cast(each.c.value, JSONB), gaps.item), each.c.place)
        filled = select(func.coalesce(func.jsonb_agg(items), cast(quoted("[]"), JSONB))).scalar_subquery()
        return case((kind == quoted("array"), filled), else_=document)
    whole: ColumnElement[Any] = cast(quoted(gaps.defaults), JSONB).op("||", return_type=JSONB())(document)
    inner = [each for key, held in gaps.inner for each in (quoted(key), _filled(_entry(whole, key), held))]
    if inner:
        whole = whole.op("||", return_type=JSONB())(func.jsonb_build_object(*inner))
    return case((kind == quoted("object"), whole), else_=document)


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
