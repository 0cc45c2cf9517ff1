"""What rows of a read model have: columns with a kind, which says how a value is written in a filter and in an address."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import DateTime, Numeric, literal, type_coerce
from sqlalchemy.types import TypeDecorator

from sa_eventsource.browser.log_filters import read_moment
from sa_eventsource.browser.shown_text import shortened
from sa_eventsource.mapping import TENANT_ID, UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.sql import ColumnElement
    from sqlalchemy.types import TypeEngine

    from sa_eventsource.read_models import ReadModelDefinition

Kind: TypeAlias = Literal["text", "number", "boolean", "date", "moment", "uuid", "enumeration", "document", "other"]

SORTED: tuple[Kind, ...] = ("text", "number", "boolean", "date", "moment", "uuid", "enumeration")
"""The kinds whose values have an order, and can be written in an address."""


@dataclass(frozen=True, slots=True)
class RowColumn:
    """A column.

    Attributes:
        name: What it is called.
        column: It, in a statement.
        kind: What it holds.
        python: The Python type of its values; None where it is not known.
        has_index: Whether an index begins with it.
    """

    name: str
    column: ColumnElement[Any]
    kind: Kind
    python: type[Any] | None
    has_index: bool

    def read(self, text: str) -> Any:
        """Read a value, given as a text, for a comparison with the column. Errors as for :meth:`value`."""
        return literal(*self._checked(text))

    def value(self, text: str) -> Any:
        """Read a value that is given as a text.

        Raises:
            ValueError: It is none of the column's kind.
        """
        return self._checked(text)[0]

    def _checked(self, text: str) -> tuple[Any, TypeEngine[Any]]:
        try:
            return self._read(text)
        except (ValueError, ArithmeticError, KeyError):
            written = shortened(text)
            raise ValueError(f"“{written}” is no value of {self.name}, which is {_HOW_TO_WRITE[self.kind](self.python)}.") from None

    def _read(self, text: str) -> tuple[Any, TypeEngine[Any]]:
        kind: Any = self.column.type
        if self.kind == "number" and not _WHOLE.fullmatch(text) and self.python is not float:
            return Decimal(_number(text)), Numeric()
        value = _READERS[self.kind](self.python, text)
        is_naive = isinstance(kind, DateTime) and not kind.timezone
        return (value.replace(tzinfo=None) if is_naive else value), kind

    def written(self, value: Any) -> str:
        """Write a value as :meth:`read` reads it."""
        if isinstance(value, enum.Enum):
            return value.name
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, datetime):
            return (value.replace(tzinfo=UTC) if value.tzinfo is None else value).isoformat()
        return value.isoformat() if isinstance(value, date) else str(value)


def columns_of(definition: ReadModelDefinition) -> Mapping[str, RowColumn]:
    """List the columns of a model's rows, by name, in their order."""
    indexed = _indexed(definition)
    found: dict[str, RowColumn] = {}
    for each in definition.model.__table__.c:
        if each.name != TENANT_ID and not each.name.startswith("_"):
            found[each.key] = _column(each.key, each, has_index=each.key in indexed)
    return found


def key_columns(definition: ReadModelDefinition) -> list[RowColumn]:
    """List the columns that identify a row."""
    columns = columns_of(definition)
    if not definition.has_own_table:
        return [columns[part.name] for part in definition.key]
    return [columns[each.key] for each in definition.table.primary_key if each.name != TENANT_ID]


def _column(name: str, column: Any, *, has_index: bool) -> RowColumn:
    kind = column.type
    if isinstance(kind, TypeDecorator) and not isinstance(kind, UtcDateTime) and not hasattr(kind, "value_type"):
        # Of an application's own type it is not known how values are written, nor of hashes who may try some: as it is stored.
        column = type_coerce(column, kind.impl_instance)
    python = _python(column.type)
    return RowColumn(name, column, _kind(python), python, has_index)


def _python(kind: Any) -> Any:
    value_type = getattr(kind, "value_type", None)  # of types that the library keeps fields in
    if value_type is not None:
        return value_type.enum or (list if value_type.kind == "json" else value_type.python)
    try:
        return (kind.impl_instance if isinstance(kind, TypeDecorator) else kind).python_type
    except NotImplementedError:
        return None


def _kind(python: Any) -> Kind:
    if not isinstance(python, type):
        return "other"
    for types, kind in _KINDS:
        if issubclass(python, types):
            return kind
    return "other"


_KINDS: tuple[tuple[Any, Kind], ...] = (
    (enum.Enum, "enumeration"),
    (bool, "boolean"),
    (int | float | Decimal, "number"),
    (str, "text"),
    (datetime, "moment"),
    (date, "date"),
    (UUID, "uuid"),
    (dict | list, "document"),
)


def _indexed(definition: ReadModelDefinition) -> set[str]:
    """Name the columns that an index begins with."""
    if definition.has_own_table:
        table = definition.table
        indexes: list[list[Any]] = [[*each.expressions] for each in table.indexes] + [[*table.primary_key]]
        return {str(each.key) for each, *_ in indexes if getattr(each, "table", None) is table}
    declared = {part.name for part in definition.parts if part.declaration.index or part.declaration.unique}
    return {*declared, *(names[0] for names in definition.model.__indexes__), definition.key[0].name}


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return text


def _whole(text: str) -> str:
    if not _WHOLE.fullmatch(text) or len(text.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(text)
    return text


def _member(enumeration: Any, text: str) -> Any:
    for each in enumeration:
        if str(each.value) == text:
            return each
    return enumeration[text]


_MOST_DIGITS = 18
"""Of a whole number: with more, it may be none that a column holds, nor that the database takes."""

_WHOLE = re.compile(r"-?[0-9]{1,300}")
_NUMBER = re.compile(r"-?[0-9]{1,300}(\.[0-9]{1,300})?|NaN|-?Infinity|[0-9.]{1,40}e[-+]?[0-9]{1,3}")

_READERS: dict[Kind, Callable[[Any, str], Any]] = {
    "text": lambda _, text: text,
    "number": lambda python, text: python(_number(text) if python is not int else _whole(text)),
    "boolean": lambda _, text: {"true": True, "false": False}[text.lower()],
    "date": lambda _, text: date.fromisoformat(text),
    "moment": lambda _, text: read_moment(text),
    "uuid": lambda _, text: UUID(text),
    "enumeration": _member,
    "document": lambda _, text: text,
    "other": lambda _, text: text,
}

_HOW_TO_WRITE: dict[Kind, Callable[[Any], str]] = {
    "text": lambda _: "a text",
    "number": lambda python: f"a number, such as 12{f', of at most {_MOST_DIGITS} digits' if python is int else ' or 12.50'}",
    "boolean": lambda _: "true or false",
    "date": lambda _: "a date, such as 2026-05-04",
    "moment": lambda _: "a time, such as 2026-05-04 or 2026-05-04T12:00; it is UTC unless it has an offset",
    "uuid": lambda _: "a UUID",
    "enumeration": lambda python: f"one of {', '.join(str(each.value) for each in python)}",
    "document": lambda _: "a document",
    "other": lambda _: "of a type that cannot be written here",
}


def column_name(definition: ReadModelDefinition, field: str) -> str:
    """Get the name of the column that a field of a model is kept in."""
    if not definition.has_own_table:
        return field
    return str(definition.model.__mapper__.columns[field].key)


def key_of_texts(definition: ReadModelDefinition, texts: Sequence[str]) -> tuple[Any, ...]:
    """Read the declared key of a row from the texts that addresses have, in the order of :func:`key_columns`.

    Raises:
        ValueError: They are no key.
    """
    values = {column.name: column.value(text) for column, text in zip(key_columns(definition), texts, strict=True)}
    return tuple(part.type.normalise(values[column_name(definition, part.name)]) for part in definition.key)


def plain_value(value: Any) -> Any:
    """Make what is shown of a value, and compared with what was: of a member of an enumeration, what is stored."""
    return value.value if isinstance(value, enum.Enum) else value
