"""``example()``: an event or a command with values made from its schema, for a test to which most of them do not matter."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from sa_eventsource.testing.freezing import NOON
from sa_eventsource.testing.schema_parts import SchemaParts

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.testing.schema_parts import Schema

M = TypeVar("M", bound=BaseModel)


def example(model: type[M], /, **fields: Any) -> M:
    """Make an event, a command or any other Pydantic model with the fields that matter, and plain values for the others.

    Example: ``example(OrderPlaced, total=Decimal(10))``.

    The values are the same in every run, and within the limits that the fields declare: a text is the field's name, a number is 1,
    a time the first noon of 2025, an enumeration's value its first; what may be None is None, a list is as short as it may be, and
    a field with a default keeps it.

    Args:
        model: The class.
        **fields: The fields that matter, by name.

    Raises:
        TypeError: No value can be made for a field, as where a pattern or a validator of the application's own decides: give it.
        ValidationError: The class refuses a value that was given.
    """
    parts = SchemaParts.of_model(model)
    known = {each.name: each.key for each in parts.fields(parts.core(parts.whole))}
    given = {known.get(name, name): value for name, value in fields.items()}
    values = _Examples(parts).of_fields(parts.whole, given)
    try:
        return model(**values)
    except ValidationError as error:
        made = sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]} - given.keys())
        if not made:
            raise
        raise TypeError(
            f"no example of {model.__name__} can be made by its schema: give {', '.join(f'{name}=...' for name in made)}"
        ) from error


class _Examples:
    """Makes a value for each kind of schema."""

    def __init__(self, parts: SchemaParts) -> None:
        """Look into the schema of a model."""
        self._parts = parts
        self._within: list[int] = []

    def of_fields(self, schema: Schema, given: dict[str, Any]) -> dict[str, Any]:
        """Make values for the fields that are required and not given."""
        made = {
            each.key: self.of(each.schema, each.name)
            for each in self._parts.fields(schema)
            if each.is_required and each.key not in given
        }
        return {**made, **given}

    def of(self, schema: Schema, name: str) -> Any:
        """Make a value for the field of a name; None where none can be made, which the model refuses."""
        schema = self._parts.core(schema)
        kind = schema["type"]
        plain = _PLAIN.get(kind)
        if plain is not None:
            return plain(schema, name)
        if kind in {"nullable", "none", "any"} or id(schema) in self._within:
            return None
        self._within.append(id(schema))
        try:
            return self._of_parts(schema, kind, name)
        finally:
            self._within.pop()

    def _of_parts(self, schema: Schema, kind: str, name: str) -> Any:  # noqa: PLR0911 - one for each kind
        if kind in {"model-fields", "dataclass-args", "typed-dict"}:
            return self.of_fields(schema, {})
        if kind in {"union", "tagged-union"}:
            return self.of(self._parts.choices(schema)[0], name)
        if kind == "default":
            return self.of(schema["schema"], name)
        if kind == "tuple":
            items = schema["items_schema"]
            if schema.get("variadic_item_index") is not None:
                return tuple(self.of(items[-1], name) for _ in range(schema.get("min_length", 0)))
            return tuple(self.of(each, f"{name}_{number}") for number, each in enumerate(items, 1))
        if kind in {"list", "set", "frozenset", "generator"}:
            return [self.of(schema["items_schema"], f"{name}_{number}") for number in range(1, 1 + schema.get("min_length", 0))]
        if kind == "dict":
            numbers = range(1, 1 + schema.get("min_length", 0))
            return {self.of(schema["keys_schema"], f"{name}_{each}"): self.of(schema["values_schema"], name) for each in numbers}
        return None


def _text(schema: Schema, name: str) -> str:
    text = name.ljust(schema.get("min_length") or 0, "x")
    return text[: schema.get("max_length", len(text))]


def _number(schema: Schema, _name: str) -> Any:
    """Make the number that is nearest to 1."""
    step = schema.get("multiple_of", 1)
    if "multiple_of" not in schema and schema["type"] != "int":
        places = schema.get("decimal_places")
        step = Decimal(1).scaleb(-2 if places is None else -min(places, 2)) if schema["type"] == "decimal" else 0.01
    number: Any = step if "multiple_of" in schema else {"int": int, "float": float, "decimal": Decimal}[schema["type"]](1)
    number = _within(schema, number, step)
    if "multiple_of" in schema and number % step:
        number += step - number % step
    return number


def _bounded(value: Any, step: Any) -> Callable[[Schema, str], Any]:
    """Make a value that is moved to where the schema wants it to be."""

    def make(schema: Schema, _name: str) -> Any:
        made = value
        if schema.get("now_op") == "future":
            made = value.replace(year=9000)
        if schema.get("tz_constraint") == "naive":
            made = value.replace(tzinfo=None)
        return _within(schema, made, step)

    return make


def _within(schema: Schema, value: Any, step: Any) -> Any:
    """Move a value to where the bounds of a schema want it to be, by a step where a bound itself is excluded."""
    if "ge" in schema:
        value = max(value, schema["ge"])
    if "gt" in schema and value <= schema["gt"]:
        value = schema["gt"] + step
    if "le" in schema:
        value = min(value, schema["le"])
    if "lt" in schema and value >= schema["lt"]:
        value = schema["lt"] - step
    return value


def _uuid(schema: Schema, name: str) -> UUID:
    number = int.from_bytes(name.encode()[:8].rjust(8, b"\0"))
    return (
        UUID(int=number, version=schema.get("version", 4))
        if schema.get("version") in {1, 3, 4, 5}
        else UUID(int=(7 << 76) | (2 << 62) | number >> 2)
    )


_PLAIN: dict[str, Callable[[Schema, str], Any]] = {
    "bool": lambda _schema, _name: False,
    "str": _text,
    "bytes": lambda schema, name: _text(schema, name).encode(),
    "int": _number,
    "float": _number,
    "decimal": _number,
    "uuid": _uuid,
    "datetime": _bounded(NOON, timedelta(seconds=1)),
    "date": _bounded(NOON.date(), timedelta(days=1)),
    "time": lambda _schema, _name: NOON.time(),
    "timedelta": _bounded(timedelta(hours=1), timedelta(seconds=1)),
    "literal": lambda schema, _name: schema["expected"][0],
    "enum": lambda schema, _name: schema["members"][0],
    "url": lambda schema, _name: f"{schema.get('allowed_schemes', ['https'])[-1]}://example.com/",
}
