"""Shapes: what a class writes as JSON, and what it reads, taken from the schema that Pydantic made of it.

As for exactness (:mod:`sa_eventsource.events.exactness`), there is a list of what is known, never of what is not: a validator, a
serializer, a setting that is not listed here make a shape ``unknown``, of which only itself can be said to fit. JSON Schema would
not do: it has no word for a time that must have a zone, for bytes in base64, or for a validator, and what it says of ``format``
binds nobody.

A shape is plain JSON, so that it can be kept in a file: ``{"kind": "text", "max_length": 5}``.
"""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python

from sa_eventsource.aggregates import digest_of
from sa_eventsource.events import is_known_setting, personal_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

Shape: TypeAlias = "dict[str, Any]"

_BOUNDS = ("le", "ge", "lt", "gt")
_LENGTHS = ("min_length", "max_length")
_NUMBERS: tuple[str, ...] = (*_BOUNDS, "multiple_of")

_SIMPLE: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "none": ("null", (), ()),
    "bool": ("boolean", (), ()),
    "str": ("text", (*_LENGTHS, "pattern"), ("regex_engine",)),
    "int": ("integer", _NUMBERS, ()),
    "float": ("float", _NUMBERS, ("allow_inf_nan",)),
    "decimal": ("decimal", (*_NUMBERS, "max_digits", "decimal_places"), ("allow_inf_nan",)),
    "uuid": ("uuid", ("version",), ()),
    "date": ("date", _BOUNDS, ()),
    "time": ("time", (*_BOUNDS, "microseconds_precision"), ()),
    "timedelta": ("duration", _BOUNDS, ()),
}
"""Kinds of values: what they are called here, which of their rules are kept, and which say nothing about what is written."""


class _UnknownError(Exception):
    """Nothing is known of a schema."""


def shape_of(model: type[BaseModel]) -> Shape:
    """Work out the shape of a model."""
    return _Shaper().shape(cast("Shape", model.__pydantic_core_schema__), {})


def shape_of_type(annotation: Any) -> Shape:
    """Work out the shape of any type that Pydantic knows."""
    return _Shaper().shape(cast("Shape", TypeAdapter(annotation).core_schema), {})


class _Shaper:
    """Goes through a schema from the outside in."""

    def __init__(self) -> None:
        self._named: dict[str, Shape] = {}
        self._within: list[str] = []

    def shape(self, schema: Shape, config: Shape) -> Shape:
        """Describe a schema; what is not known, as unknown, with a digest of its code where there is one."""
        try:
            return self._known(schema, config)
        except _UnknownError as error:
            return {"kind": "unknown", "because": str(error), "digest": digest_of_schema(schema)}

    def _known(self, schema: Shape, config: Shape) -> Shape:
        kind: str = schema["type"]
        if kind in _SIMPLE:
            name, kept, silent = _SIMPLE[kind]
            _allow(schema, kept, silent)
            if schema.get("microseconds_precision", "truncate") != "truncate":
                raise _UnknownError("how times are rounded")
            return {"kind": name, **{rule: _as_json(schema[rule]) for rule in kept if schema.get(rule) is not None}}
        method = getattr(self, f"_of_{kind.replace('-', '_')}", None)
        if method is None:
            raise _UnknownError(_words(schema))
        found: Shape = method(schema, config)
        return found

    def _of_any(self, schema: Shape, _config: Shape) -> Shape:
        _allow(schema)
        return {"kind": "any"}

    def _of_bytes(self, schema: Shape, config: Shape) -> Shape:
        _allow(schema, _LENGTHS)
        written, read = config.get("ser_json_bytes", "utf8"), config.get("val_json_bytes", "utf8")
        if written != read:
            raise _UnknownError("bytes that are written in another way than they are read")
        return {"kind": "bytes", "encoding": written, **_rules(schema, _LENGTHS)}

    def _of_datetime(self, schema: Shape, _config: Shape) -> Shape:
        _allow(schema, _BOUNDS, ("tz_constraint", "microseconds_precision"))
        if schema.get("tz_constraint", "aware") != "aware" or schema.get("microseconds_precision", "truncate") != "truncate":
            raise _UnknownError("times with a rule of their own")
        return {"kind": "moment", **_rules(schema, _BOUNDS)}

    def _of_literal(self, schema: Shape, _config: Shape) -> Shape:
        _allow(schema, ("expected",))
        return _values([each.value if isinstance(each, Enum) else each for each in schema["expected"]])

    def _of_enum(self, schema: Shape, _config: Shape) -> Shape:
        _allow(schema, ("cls", "members", "sub_type"))
        if (
            issubclass(schema["cls"], Flag)
            or cast("Any", schema["cls"]._missing_).__func__ is not cast("Any", Enum._missing_).__func__
        ):
            raise _UnknownError("an enumeration that has more values than its members")
        return _values([each.value for each in schema["members"]])

    def _of_nullable(self, schema: Shape, config: Shape) -> Shape:
        _allow(schema, ("schema",))
        return _union([{"kind": "null"}, self.shape(schema["schema"], config)])

    def _of_default(self, schema: Shape, config: Shape) -> Shape:
        _allow(schema, ("schema", "default", "default_factory", "default_factory_takes_data", "copy_default"))
        return self.shape(schema["schema"], config)

    def _of_list(self, schema: Shape, config: Shape) -> Shape:
        return self._array(schema, config, ordered=True)

    def _of_set(self, schema: Shape, config: Shape) -> Shape:
        return self._array(schema, config, ordered=False)

    _of_frozenset = _of_set

    def _array(self, schema: Shape, config: Shape, *, ordered: bool) -> Shape:
        _allow(schema, ("items_schema",), _LENGTHS)
        items = self.shape(schema["items_schema"], config) if "items_schema" in schema else {"kind": "any"}
        return {"kind": "list" if ordered else "set", "items": items, **_rules(schema, _LENGTHS)}

    def _of_tuple(self, schema: Shape, config: Shape) -> Shape:
        _allow(schema, ("items_schema", "variadic_item_index"), _LENGTHS)
        items = [self.shape(each, config) for each in schema["items_schema"]]
        if "variadic_item_index" not in schema:
            return {"kind": "tuple", "items": items}
        if len(items) != 1:
            raise _UnknownError("a tuple that begins or ends otherwise")
        return {"kind": "list", "items": items[0], **_rules(schema, _LENGTHS)}

    def _of_dict(self, schema: Shape, config: Shape) -> Shape:
        _allow(schema, ("keys_schema", "values_schema"), _LENGTHS)
        keys = self.shape(schema["keys_schema"], config) if "keys_schema" in schema else {"kind": "any"}
        values = self.shape(schema["values_schema"], config) if "values_schema" in schema else {"kind": "any"}
        return {"kind": "map", "keys": keys, "values": values, **_rules(schema, _LENGTHS)}

    def _of_union(self, schema: Shape, config: Shape) -> Shape:
        _allow(schema, ("choices",), ("custom_error_type", "custom_error_message", "custom_error_context"))
        if schema.get("mode", "smart") != "smart":
            raise _UnknownError("a union that takes the first type that fits")
        return _union([self.shape(each[0] if isinstance(each, tuple) else each, config) for each in schema["choices"]])

    def _of_tagged_union(self, schema: Shape, config: Shape) -> Shape:
        _allow(schema, ("choices", "discriminator", "from_attributes"))
        tag = schema["discriminator"]
        if not isinstance(tag, str) or not all(type(each) is str for each in schema["choices"]):
            raise _UnknownError("a union whose types are told apart by a function")
        return {
            "kind": "tagged",
            "tag": tag,
            "choices": {name: self.shape(each, config) for name, each in schema["choices"].items()},
        }

    def _of_definitions(self, schema: Shape, config: Shape) -> Shape:
        _allow(schema, ("schema", "definitions"))
        self._named.update({each["ref"]: each for each in schema["definitions"]})
        return self.shape(schema["schema"], config)

    def _of_definition_ref(self, schema: Shape, config: Shape) -> Shape:
        _allow(schema, ("schema_ref",))
        name = schema["schema_ref"]
        if name in self._within:
            raise _UnknownError("a model that holds itself")
        self._within.append(name)
        try:
            return self.shape(self._named[name], config)
        finally:
            self._within.pop()

    def _of_model(self, schema: Shape, _config: Shape) -> Shape:
        _allow(
            schema, ("cls", "schema", "config", "generic_origin", "frozen", "revalidate_instances", "extra_behavior", "root_model")
        )
        config: Shape = schema.get("config", {})
        for name, value in config.items():
            # A default that is validated may be refused, and then what was stored without the field is not read.
            if name == "validate_default" or not is_known_setting(name, value):
                raise _UnknownError(f"a model with the setting {name}={value!r}")
        fields = schema["schema"]
        if schema.get("root_model"):
            return self.shape(fields, config)  # written as what it holds
        if fields["type"] != "model-fields" or schema.get("extra_behavior") == "allow":
            raise _UnknownError(_words(fields))
        _allow(fields, ("fields", "model_name", "from_attributes", "extra_behavior"))
        personal = {each.name: each for each in personal_fields(schema["cls"]).own}
        found: dict[str, Shape] = {}
        for name, each in fields["fields"].items():
            _allow(each, ("schema", "frozen", "validation_alias", "serialization_alias"))
            read, written = each.get("validation_alias", name), each.get("serialization_alias", name)
            if not isinstance(read, str):
                raise _UnknownError(f"a field, {name}, with several aliases")
            inner = each["schema"]
            found[name] = {
                "shape": self.shape(inner, config),
                "required": inner["type"] != "default",
                "reads": read,
                "writes": written,
            }
            if name in personal:
                mark = personal[name]
                found[name]["personal"] = {"subject": ".".join(mark.subject), "placeholder": json.loads(mark.placeholder)}
        return {"kind": "object", "fields": found, "others": config.get("extra_fields_behavior", "ignore")}


def digest_of_schema(schema: Any) -> str | None:
    """Digest a schema with the code that it names; None where that has no text that is the same in every process."""
    try:
        return digest_of(schema)
    except Exception:  # noqa: BLE001 - such as those of the application's own __reduce__
        return None


def digest_of_shape(shape: Shape) -> str:
    """Digest a shape, to tell it from others."""
    return sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]


def _values(values: list[Any]) -> Shape:
    """Describe a choice of values: as Python has them, since 1 and True are the same there."""
    if not all(each is None or type(each) in (bool, int, str) for each in values):
        raise _UnknownError("a choice of values that are no text, number or truth value")
    return {"kind": "one of", "values": sorted(values, key=lambda each: (type(each).__name__, str(each)))}


def _union(shapes: list[Shape]) -> Shape:
    flat = [part for each in shapes for part in (each["choices"] if each["kind"] == "union" else [each])]
    unique = {json.dumps(each, sort_keys=True): each for each in flat}
    return flat[0] if len(unique) == 1 else {"kind": "union", "choices": list(unique.values())}


def _rules(schema: Shape, names: tuple[str, ...]) -> Shape:
    return {name: _as_json(schema[name]) for name in names if schema.get(name) is not None}


def _as_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, bool | int | float | str | date | datetime | time | timedelta):
        return to_jsonable_python(value)
    raise _UnknownError(f"a rule with {value!r}")


def _allow(schema: Mapping[str, Any], *known: tuple[str, ...]) -> None:
    for key, value in schema.items():
        if value and key not in ("type", "ref", "metadata") and not any(key in each for each in known):
            raise _UnknownError(f"{_words(schema)} with {key}")


def _words(schema: Mapping[str, Any]) -> str:
    return str(schema["type"]).replace("function-", "a validator, ").replace("-", " ")
