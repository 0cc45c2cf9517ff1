"""What a stored document lacks: fields of models that were given a default after it was written.

Python fills them in when it reads the payload; the database has to do the same where a read model takes a whole model, or a list of
them.
"""

from __future__ import annotations

import json
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, TypeAdapter

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.value_types import without_none

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class ObjectGaps:
    """What objects of one model may lack.

    Attributes:
        defaults: JSON text of an object with the default of each field that has one.
        inner: Keys whose values may have gaps themselves.
    """

    defaults: str
    inner: tuple[tuple[str, Gaps], ...]


@dataclass(frozen=True)
class ListGaps:
    """A list whose items may have gaps."""

    item: Gaps


Gaps: TypeAlias = ObjectGaps | ListGaps


def gaps(annotation: Any, where: str, seen: tuple[Any, ...] = ()) -> Gaps | None:
    """Find what documents of a type may lack; None if nothing.

    Raises:
        DeclarationError: There are models with defaults where the database cannot reach them.
    """
    annotation = without_none(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return gaps(arguments[0], where, seen)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in seen:
            raise _out_of_reach(annotation, where)
        return _of_model(annotation, where, (*seen, annotation))
    if origin in (list, set, frozenset) or (origin is tuple and arguments[1:] == (...,)):
        item = gaps(arguments[0], where, seen)
        return None if item is None else ListGaps(item)
    for each in arguments:
        if gaps(each, where, seen) is not None:
            raise _out_of_reach(annotation, where)
    return None


def default_text(field: FieldInfo, where: str) -> str | None:
    """Write the default of a field as JSON; None if it has none.

    Raises:
        DeclarationError: It is another one each time.
    """
    if field.is_required():
        return None
    first, second = (field.get_default(call_default_factory=True, validated_data={}) for _ in range(2))
    annotation: Any = field.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    text = _as_json(adapter, first)
    if text != _as_json(adapter, second):
        raise DeclarationError(f"{where} has another default each time; a read model cannot tell what a payload without it means")
    return text


def _as_json(adapter: TypeAdapter[Any], value: Any) -> str:
    """Write a value as JSON; the items of sets, anywhere in it, in an order that is the same in every process."""
    return json.dumps(_in_order(json.loads(adapter.dump_json(value, by_alias=True)), adapter.dump_python(value, by_alias=True)))


def _in_order(document: Any, value: Any) -> Any:
    """Sort what stands for sets in a document, given the same value with the sets that it has in Python."""
    is_array = isinstance(document, list) and isinstance(value, list | tuple | set | frozenset)
    is_object = isinstance(document, dict) and isinstance(value, dict)
    if not (is_array or is_object) or len(document) != len(value):  # a serializer writes one of them otherwise
        return document
    if is_object:
        return {key: _in_order(document[key], each) for key, each in zip(document, value.values(), strict=True)}
    items = [_in_order(item, each) for item, each in zip(document, value, strict=True)]
    return sorted(items, key=json.dumps) if isinstance(value, set | frozenset) else items


def json_key(name: str, field: FieldInfo) -> str:
    """The key that a field is stored under."""
    return field.serialization_alias or field.alias or name


def _of_model(model: type[BaseModel], where: str, seen: tuple[Any, ...]) -> ObjectGaps | None:
    defaults: dict[str, Any] = {}
    inner: list[tuple[str, Gaps]] = []
    for name, field in model.model_fields.items():
        key = json_key(name, field)
        text = default_text(field, f"{model.__name__}.{name}")
        if text is not None:
            defaults[key] = json.loads(text)
        found = gaps(field.annotation, where, seen)
        if found is not None:
            inner.append((key, found))
    return ObjectGaps(json.dumps(defaults), tuple(inner)) if defaults or inner else None


def _out_of_reach(annotation: Any, where: str) -> DeclarationError:
    name = getattr(annotation, "__name__", repr(annotation))
    return DeclarationError(
        f"{where} has models with defaults within {name}, which stored payloads may lack and the database cannot fill in there. "
        "Map the fields that are needed one by one, or write an @handles method."
    )
