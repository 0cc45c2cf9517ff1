"""What the models within a stored document are read as: without keys that they do not know, with defaults for those that it lacks.

Python does so when it reads the payload; the database has to do the same where a read model takes a whole model, or a list of them.
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


class OutOfReachError(Exception):
    """There are models where the database cannot reach them."""


@dataclass(frozen=True)
class FieldShape:
    """A field of a model.

    Attributes:
        key: Its key in the JSON.
        default: JSON text of what stands for it where a document lacks it; None if it has no default.
        inner: What its own models are read as; None if it has none.
    """

    key: str
    default: str | None
    inner: Shape | None


@dataclass(frozen=True)
class ObjectShape:
    """The fields of a model, of which a document may lack some and have others beside."""

    fields: tuple[FieldShape, ...]


@dataclass(frozen=True)
class ListShape:
    """A list of models."""

    item: Shape


Shape: TypeAlias = ObjectShape | ListShape


def shape_of(annotation: Any, where: str, seen: tuple[Any, ...] = ()) -> Shape | None:
    """Find what documents of a type are read as; None if as they are.

    Raises:
        OutOfReachError: There are models in a place where the database cannot reach them, such as the values of a dict.
        DeclarationError: A default is another one each time.
    """
    annotation = without_none(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return shape_of(arguments[0], where, seen)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in seen:
            raise OutOfReachError
        return _of_model(annotation, where, (*seen, annotation))
    if origin in (list, set, frozenset) or (origin is tuple and arguments[1:] == (...,)):
        item = shape_of(arguments[0], where, seen)
        return None if item is None else ListShape(item)
    for each in arguments:
        if shape_of(each, where, seen) is not None:
            raise OutOfReachError
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
    if isinstance(document, dict) and isinstance(value, dict) and len(document) == len(value):
        return {key: _in_order(document[key], each) for key, each in zip(document, value.values(), strict=True)}
    is_array = isinstance(document, list) and isinstance(value, list | tuple | set | frozenset)
    if not is_array or len(document) != len(value):  # a serializer writes it otherwise
        return document
    items = [_in_order(item, each) for item, each in zip(document, value, strict=True)]
    return sorted(items, key=json.dumps) if isinstance(value, set | frozenset) else items


def json_key(name: str, field: FieldInfo) -> str:
    """The key that a field is stored under."""
    return field.serialization_alias or field.alias or name


def _of_model(model: type[BaseModel], where: str, seen: tuple[Any, ...]) -> ObjectShape | None:
    fields = tuple(
        FieldShape(json_key(name, field), default_text(field, f"{model.__name__}.{name}"), shape_of(field.annotation, where, seen))
        for name, field in model.model_fields.items()
    )
    is_as_stored = model.model_config.get("extra") == "forbid" and all(
        each.default is None and each.inner is None for each in fields
    )
    return None if is_as_stored else ObjectShape(fields)
