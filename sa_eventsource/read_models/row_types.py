"""How a read model's fields are stored in the database: as entries of a JSON document, or as columns of a table of its own."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Double,
    Enum,
    Numeric,
    String,
    Text,
    Uuid,
    cast,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.expression import Extract
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from sa_eventsource.mapping import DOCUMENT, UtcDateTime, UuidId, quoted
from sa_eventsource.read_models.value_types import without_decimals

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql import ColumnElement
    from sqlalchemy.sql.compiler import SQLCompiler

    from sa_eventsource.read_models.value_types import ValueType


_OfTexts: Any = Text.comparator_factory


class _TextComparator(TypeDecorator.Comparator[Any], _OfTexts):  # type: ignore[misc]
    """Compares with values as text, which an index serves, and else takes a date or a moment for one, in a sum or next to a column.

    The comparison with an aggregate's id is left to that, which knows its own text: a UUID is no text to PostgreSQL.
    """

    def operate(self, op: Any, *other: Any, **options: Any) -> Any:
        if op in _ARITHMETIC or any(_is_time(each) for each in other):
            return op(stored_time(self.expr), *(stored_time(each) for each in other), **options)
        if op in (operators.eq, operators.ne) and isinstance(getattr(other[0], "type", None), UuidId):
            return op(other[0], self.expr)
        return super().operate(op, *other, **options)

    def reverse_operate(self, op: Any, other: Any, **options: Any) -> Any:
        if op in _ARITHMETIC:
            return op(stored_time(other), stored_time(self.expr), **options)
        return super().reverse_operate(op, other, **options)


_ARITHMETIC = (operators.add, operators.sub)


def _is_time(value: Any) -> bool:
    """Check for what is a date or a moment to the database, such as a column of another table; a plain value is none."""
    affinity: Any = getattr(getattr(value, "type", None), "_type_affinity", None)
    return isinstance(affinity, type) and issubclass(affinity, Date | DateTime)


def stored_time(value: Any) -> Any:
    """Turn a date or a moment that is kept as text into one for PostgreSQL; anything else stays."""
    kept = getattr(value, "type", None)
    found = _TIMES.get(kept.value_type.kind) if isinstance(kept, StoredText) else None
    return value if found is None else cast(value, found)


_TIMES: dict[str, TypeEngine[Any]] = {"date": Date(), "moment": DateTime(timezone=True)}


@compiles(Extract, "postgresql")
def _postgresql_extract(element: Extract, compiler: SQLCompiler, **options: Any) -> str:
    """Take a part of what a text stands for: ``extract("year", Model.day)``. Any other is compiled as usual."""
    expression = stored_time(element.expr)
    visit: Any = compiler.visit_extract
    return str(visit(element if expression is element.expr else Extract(element.field, expression), **options))


class StoredText(TypeDecorator[Any]):
    """A value kept as text whose order is the value's: a date, a moment, a UUID, a member of an enumeration."""

    impl = Text
    cache_ok = True
    comparator_factory = _TextComparator  # pyright: ignore[reportAssignmentType]

    def __init__(self, value_type: ValueType) -> None:
        """Remember what the text stands for."""
        super().__init__()
        self.value_type = value_type

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Write the text."""
        return value if isinstance(value, str) else self.value_type.to_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Read the text."""
        return self.value_type.from_json(value)


class StoredNumber(TypeDecorator[Any]):
    """A number kept in JSON: an ``int`` of any size, a ``Decimal`` with all its digits, an enumeration's number.

    SQLite calculates with binary fractions: about 15 digits are right there.
    """

    impl = Numeric
    cache_ok = True

    def __init__(self, value_type: ValueType) -> None:
        """Remember what the number stands for."""
        super().__init__()
        self.value_type = value_type

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use ``numeric`` on PostgreSQL."""
        return dialect.type_descriptor(Numeric() if dialect.name == "postgresql" else Numeric(asdecimal=False))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Write the number."""
        number = self.value_type.to_json(value)
        return float(number) if isinstance(number, Decimal) and dialect.name != "postgresql" else number

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Read the number."""
        if value is None:
            return None
        return self.value_type.from_json(int(value) if self.value_type.kind == "integer" else value)


class StoredList(TypeDecorator[Any]):
    """A JSON array of values that have a type of their own."""

    impl = JSON
    cache_ok = True

    def __init__(self, value_type: ValueType) -> None:
        """Remember what is in the list."""
        super().__init__()
        self.value_type = value_type

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use ``jsonb`` on PostgreSQL."""
        return dialect.type_descriptor(JSONB(none_as_null=True) if dialect.name == "postgresql" else JSON(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Write the array."""
        stored = self.value_type.to_json(value)
        return stored if dialect.name == "postgresql" else without_decimals(stored)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Read the array."""
        return self.value_type.from_json(value)


class document_entry(FunctionElement[Any]):  # noqa: N801 - SQLAlchemy's naming of SQL functions
    """An entry of a JSON document as JSON; null is SQL's."""

    inherit_cache = True
    name = "document_entry"

    def __init__(self, document: Any, key: Any, type_: TypeEngine[Any]) -> None:
        """Say what is in the entry."""
        super().__init__(document, key)
        self.type = type_


@compiles(document_entry, "postgresql")
def _postgresql_document_entry(element: document_entry, compiler: SQLCompiler, **options: Any) -> str:
    document, key = (compiler.process(each, **options) for each in element.clauses)
    return f"NULLIF(({document} -> {key}), 'null'::jsonb)"


@compiles(document_entry)
def _document_entry(element: document_entry, compiler: SQLCompiler, **options: Any) -> str:
    document, key = (compiler.process(each, **options) for each in element.clauses)
    return f"NULLIF(JSON_QUOTE(JSON_EXTRACT({document}, '$.' || {key})), 'null')"


class document_text(FunctionElement[str]):  # noqa: N801 - SQLAlchemy's naming of SQL functions
    """An entry of a JSON document as text, its key written into the statement so that an index on the same expression serves it."""

    type = Text()
    inherit_cache = True
    name = "document_text"


class document_text_to_cast(document_text):  # noqa: N801 - as above
    """The same without parentheses, which within a cast would keep Alembic from seeing that an index is the same."""

    inherit_cache = True


@compiles(document_text, "postgresql")
def _postgresql_document_text(element: document_text, compiler: SQLCompiler, **options: Any) -> str:
    document, key = element.clauses
    text = f"{compiler.process(document, **options)} ->> {compiler.process(key, **options)}"
    return text if isinstance(element, document_text_to_cast) else f"({text})"


@compiles(document_text)
def _document_text(element: document_text, compiler: SQLCompiler, **options: Any) -> str:
    document, key = element.clauses
    return f"json_extract({compiler.process(document, **options)}, '$.' || {compiler.process(key, **options)})"


def document_value(document: Any, name: str, found: ValueType) -> ColumnElement[Any]:
    """Select an entry of a JSON document with its own type."""
    if found.kind == "json":
        return document_entry(document, quoted(name), DOCUMENT if found.item is None else StoredList(found))
    entry_text = document_text_to_cast if _is_cast(found) else document_text
    return typed_text(entry_text(document, quoted(name)), found)


def typed_text(text: ColumnElement[Any], found: ValueType) -> ColumnElement[Any]:
    """Give a text that :meth:`ValueType.to_json` wrote its type."""
    match found.kind:
        case "integer" | "decimal":
            return cast(text, StoredNumber(found))
        case "float":
            return cast(text, Double)
        case "boolean":
            return cast(text, Boolean)
        case "text" if found.enum is None:
            return type_coerce(text, Text)
        case _:
            return type_coerce(text, StoredText(found))


def _is_cast(found: ValueType) -> bool:
    return found.kind in ("integer", "decimal", "float", "boolean")


def column_type(found: ValueType) -> TypeEngine[Any]:
    """Choose the type of a column of its own for a field."""
    if found.enum is not None and found.kind == "text":
        return Enum(found.enum, values_callable=lambda members: [each.value for each in members], native_enum=False, length=255)
    if found.enum is not None or found.kind == "decimal":
        return StoredNumber(found)
    if found.item is not None:
        return StoredList(found)
    types: dict[str, Any] = {
        "text": String,
        "integer": BigInteger,
        "float": Double,
        "boolean": Boolean,
        "date": Date,
        "moment": UtcDateTime,
        "uuid": Uuid,
    }
    return DOCUMENT if found.kind == "json" else types[found.kind]()
