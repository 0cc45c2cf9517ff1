"""The types that fields of read models have: what holds what, and how each is written as JSON.

A value that SQL works out and one that Python works out must come to the same row, so each type has one canonical JSON form:
times in UTC with six decimals, dates as ISO 8601, numbers as JSON numbers with all their digits.
"""

from __future__ import annotations

import enum
import types
import typing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union
from uuid import UUID

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Kind: TypeAlias = Literal["text", "integer", "decimal", "float", "boolean", "date", "moment", "uuid", "json"]

EXACT = Context(prec=150_000, Emax=999_999, Emin=-999_999)
"""Decimal arithmetic with as many digits as PostgreSQL's ``numeric`` has."""

_PLAIN: dict[Any, Kind] = {
    str: "text",
    int: "integer",
    Decimal: "decimal",
    float: "float",
    bool: "boolean",
    date: "date",
    datetime: "moment",
    UUID: "uuid",
}
_WIDER: frozenset[tuple[Kind, Kind]] = frozenset({("decimal", "integer"), ("text", "uuid")})
"""(holder, held): types that take the values of another as they are."""


@dataclass(frozen=True)
class ValueType:
    """What a field or a source holds.

    Attributes:
        kind: How it is stored and compared.
        python: The Python type, without ``None``.
        enum: The enumeration whose members' values are stored, or None.
        item: For a ``list`` of values that have a type of their own, that type.
    """

    kind: Kind
    python: Any
    enum: type[enum.Enum] | None = None
    item: ValueType | None = None

    def holds(self, other: ValueType) -> bool:
        """Check whether values of *other* can be kept in a field of this type."""
        if self.enum is not None:
            return self == other
        if self.item is not None:
            return self.item == other.item
        if self.kind == "json":
            return other.kind == "json"
        return self.kind == other.kind or (self.kind, other.kind) in _WIDER

    def to_json(self, value: Any) -> Any:
        """Turn a value into what is in the row's JSON; a ``Decimal`` stays one, for the caller to write with all its digits."""
        if value is None:
            return None
        if isinstance(value, enum.Enum):
            return value.value
        if self.item is not None:
            return without_decimals([self.item.to_json(each) for each in value])
        return _WRITERS[self.kind](value) if self.kind in _WRITERS else value

    def normalise(self, value: Any) -> Any:
        """Turn a source's value into what the field holds once it is stored."""
        return value if self.is_as_stored(value) else self.from_json(self.to_json(value))

    def is_as_stored(self, value: Any) -> bool:
        """Check at a glance whether a value is what a stored field gives back; where it is not sure, it is not."""
        return type(value) is self.python and self.kind in _STORED_AS_THEY_ARE

    def accepts(self, value: Any) -> bool:
        """Check whether a value, not None, is one of this type or of a narrower one: a whole number is a ``Decimal`` too."""
        if self.enum is not None:
            return isinstance(value, self.enum)
        if self.item is not None:
            item = self.item
            return isinstance(value, list | tuple | set | frozenset) and all(each is None or item.accepts(each) for each in value)
        if self.kind == "json":
            return True
        accepted, refused = _ACCEPTED[self.kind]
        return isinstance(value, accepted) and not isinstance(value, refused)

    def from_json(self, value: Any) -> Any:
        """Turn what :meth:`to_json` wrote into the field's value."""
        if value is None:
            return None
        if self.enum is not None:
            return self.enum(value)
        if self.item is not None:
            return [self.item.from_json(each) for each in value]
        return _READERS[self.kind](value) if self.kind in _READERS else value


_STORED_AS_THEY_ARE: frozenset[Kind] = frozenset({"text", "integer", "float", "boolean", "date", "uuid"})
"""Kinds whose values come back identical, if they are of the very class that Python reads."""

_ACCEPTED: dict[Kind, tuple[Any, Any]] = {
    "text": (str, ()),
    "integer": (int, bool),
    "decimal": (int | Decimal, bool),
    "float": (int | float, bool),
    "boolean": (bool, ()),
    "date": (date, datetime),
    "moment": (datetime, ()),
    "uuid": (UUID, ()),
}
"""The Python types whose values a type takes, and those of their subclasses whose it does not."""


def as_kept_by_jsonb(document: Any) -> Any:
    """Have a JSON value as ``jsonb`` gives it back: keys of objects in its order, and large binary fractions as whole numbers."""
    if isinstance(document, list):
        return [as_kept_by_jsonb(each) for each in document]
    if isinstance(document, dict):
        keys = sorted(document, key=lambda key: (len(key.encode()), key.encode()))
        return {key: as_kept_by_jsonb(document[key]) for key in keys}
    if isinstance(document, float) and "e+" in repr(document):
        return int(Decimal(repr(document)))
    return document


def without_decimals(value: Any) -> Any:
    """Write the decimals in a JSON value as text, for a driver that would make binary fractions of them."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return [without_decimals(each) for each in value]
    return {name: without_decimals(each) for name, each in value.items()} if isinstance(value, dict) else value


def moment_text(moment: datetime) -> str:
    """Write a moment as ISO 8601 in UTC with six decimals, so that texts sort as the moments do."""
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='microseconds')}Z"


_WRITERS: dict[Kind, Callable[[Any], Any]] = {
    "date": date.isoformat,
    "moment": moment_text,
    "uuid": str,
    "text": str,
    "json": to_jsonable_python,
}
_READERS: dict[Kind, Callable[[Any], Any]] = {
    "date": date.fromisoformat,
    "moment": datetime.fromisoformat,
    "uuid": UUID,
    "decimal": lambda value: Decimal(str(value)),
    "float": float,
}


def value_type(annotation: Any) -> ValueType | None:
    """Find the type that an annotation stands for; None if fields cannot have it.

    ``None`` besides it is left out: every field can be unset.
    """
    annotation = without_none(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return value_type(arguments[0])
    if annotation in _PLAIN:
        return ValueType(_PLAIN[annotation], annotation)
    if origin is Literal:
        return _of_values(None, arguments)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _of_values(annotation, [member.value for member in annotation])
    item = value_type(arguments[0]) if origin is list and arguments else None
    if item is not None and item.kind != "json":
        return ValueType("json", annotation, item=item)
    return _as_pydantic_sees(annotation)


def _of_values(enumeration: type[enum.Enum] | None, values: Iterable[Any]) -> ValueType | None:
    kinds = {_PLAIN.get(type(each)) for each in values}
    plain = str if kinds == {"text"} else int if kinds == {"integer"} else None
    return None if plain is None else ValueType(_PLAIN[plain], enumeration or plain, enum=enumeration)


_CORE_TYPES: dict[str, type[Any]] = {
    "str": str,
    "int": int,
    "decimal": Decimal,
    "float": float,
    "bool": bool,
    "date": date,
    "datetime": datetime,
    "uuid": UUID,
}


def _as_pydantic_sees(annotation: Any) -> ValueType | None:
    """Understand Pydantic's own types, such as ``AwareDatetime`` and ``EmailStr``; a model, or a union, is a JSON document."""
    try:
        schema: Any = TypeAdapter(annotation).core_schema
    except Exception:  # noqa: BLE001 - Pydantic has many ways to say that it does not know a type
        return None
    while schema["type"] in ("function-after", "function-before") and "serialization" not in schema:
        schema = schema["schema"]
    plain = _CORE_TYPES.get(schema["type"])
    if plain is None or "serialization" in schema:
        return ValueType("json", annotation)
    return ValueType(_PLAIN[plain], plain)


def without_none(annotation: Any) -> Any:
    """Take ``None`` out of an optional type."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        rest = [each for each in typing.get_args(annotation) if each is not type(None)]
        return rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - made at run time
    return annotation
