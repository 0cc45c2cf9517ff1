"""An aggregate's id: ``str``, ``UUID`` or ``int`` in the application, text in the log.

In SQL an id is of the Python type's own kind, so that it compares, sorts, aggregates and joins as the id of any entity does: an
``int`` is a 64-bit integer, a ``UUID`` is what SQLAlchemy's ``Uuid`` is on the database, a ``str`` is the stored text itself.
A cast would hide the log's index, so ``Order.id == value`` and ``Order.id.in_(values)`` ask for the stored text: see
:class:`StoredIdentity`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import BigInteger, BindParameter, String, Uuid, cast, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from sa_eventsource.exceptions import AggregateIdError
from sa_eventsource.mapping.column_types import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql import ColumnElement
    from sqlalchemy.sql.compiler import SQLCompiler

ID_TYPES: tuple[type[Any], ...] = (str, UUID, int)
"""The Python types an aggregate's id may have."""

STORED_ID = "stored_id"
"""Column of the mapped subquery that holds the id as the log has it, where that is not the id itself. It is not mapped."""

_LARGEST = 2**63


def id_as_text(value: Any, id_type: type[Any], aggregate_type: str) -> str:
    """Turn an aggregate's id into the text that the log stores.

    A member of an enumeration that is a ``str`` or an ``int`` as well, or a value of another subclass, is stored as the plain value
    that it equals.

    Args:
        value: The id as the application has it.
        id_type: The Python type declared for it: ``str``, ``UUID`` or ``int``.
        aggregate_type: The aggregate's stored type name, for the message.

    Raises:
        AggregateIdError: *value* is of another type, empty, longer than 255 characters, not within 64 bits, holds what PostgreSQL's
            text cannot, or is of a subclass whose values are not equal to plain ones.
    """
    if type(value) is not id_type:
        value = _plain(value, id_type, aggregate_type)
    if id_type is int and not -_LARGEST <= value < _LARGEST:
        raise AggregateIdError(aggregate_type, value, "it does not fit into 64 bits, as integers in the database do")
    text = str(value)
    if not text:
        raise AggregateIdError(aggregate_type, value, "it is empty")
    if len(text) > MAX_NAME_LENGTH:
        raise AggregateIdError(aggregate_type, value, f"it has {len(text)} characters, and at most {MAX_NAME_LENGTH} are stored")
    if "\x00" in text:
        raise AggregateIdError(aggregate_type, value, "PostgreSQL text cannot hold a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise AggregateIdError(aggregate_type, value, "it holds half of a surrogate pair, which is no character") from error
    return text


def _plain(value: Any, id_type: type[Any], aggregate_type: str) -> Any:
    """Take a value of a subclass for what it is besides, if nobody can tell the two apart."""
    if not isinstance(value, id_type) or isinstance(value, bool):
        raise AggregateIdError(aggregate_type, value, f"it must be {id_type.__name__}, not {type(value).__name__}")
    # Not what str() makes of it, which an enumeration's class, or any other, may say otherwise.
    if id_type is str:
        plain: Any = str.__str__(value)
    elif id_type is int:
        plain = int.__index__(value)
    else:
        plain = UUID(int=value.int)
    if plain != value or hash(plain) != hash(value):
        kind = type(value).__name__
        raise AggregateIdError(
            aggregate_type,
            value,
            f"it would come back as {plain!r}, which a {kind} does not equal; pass a plain {id_type.__name__}",
        )
    return plain


def compared_as_text(value: Any, id_type: type[Any], aggregate_type: str) -> str:
    """Write a value that ids are compared with. A text that is too short or too long for an id is no error: it equals none.

    Such a text may stand in a column that refers to aggregates, alongside others that are good.

    Raises:
        AggregateIdError: As :func:`id_as_text`, except for the length.
    """
    is_no_id = type(value) is str and id_type is str and not 0 < len(value) <= MAX_NAME_LENGTH
    return value if is_no_id else id_as_text(value, id_type, aggregate_type)


class TextId(TypeDecorator[Any]):
    """An id as the log stores it: any of the three in Python, text in the database."""

    impl = String(MAX_NAME_LENGTH)
    cache_ok = True

    def __init__(self, id_type: type[Any] = str, aggregate_type: str = "aggregate") -> None:
        """Remember the Python type and whose id it is."""
        super().__init__(MAX_NAME_LENGTH)
        self.id_type = id_type
        self.aggregate_type = aggregate_type

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn the application's id into text, refusing what is of another type."""
        return None if value is None else compared_as_text(value, self.id_type, self.aggregate_type)


class _Comparator(TypeDecorator.Comparator[Any]):
    """Has ``==`` and ``in_`` ask for the stored text where values or texts are compared; all else compares the id itself."""

    def operate(self, op: Any, *other: Any, **options: Any) -> Any:
        if other and isinstance(other[0], bool):
            kind: Any = self.type
            raise AggregateIdError(kind.aggregate_type, other[0], f"it must be {kind.id_type.__name__}, not bool")
        compared: Any = super().operate(op, *other, **options)
        if op in _STORED_AS_TEXT and isinstance(compared, BinaryExpression) and _stored(compared.left) is not None:
            is_value = isinstance(compared.right, BindParameter) and op is not operators.ne
            if is_value or isinstance(_basic(compared.right), String):
                return StoredIdentity(
                    compared.left,
                    compared.right,
                    compared.operator,
                    type_=compared.type,
                    negate=compared.negate,
                    modifiers=compared.modifiers,
                )
        return compared


_STORED_AS_TEXT = (operators.eq, operators.in_op, operators.ne)


def _basic(element: Any) -> Any:
    kind = getattr(element, "type", None)
    return kind.impl if isinstance(kind, TypeDecorator) else kind


_OfIntegers: Any = BigInteger.comparator_factory
_OfUuids: Any = Uuid.comparator_factory


class _IntegerComparator(_Comparator, _OfIntegers):  # type: ignore[misc]
    pass


class _UuidComparator(_Comparator, _OfUuids):  # type: ignore[misc]
    pass


class _TypedId(TypeDecorator[Any]):
    """An id that is not text in SQL."""

    id_type: type[Any]

    def __init__(self, aggregate_type: str = "aggregate") -> None:
        """Remember whose id it is."""
        super().__init__()
        self.aggregate_type = aggregate_type

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Refuse what cannot be an id."""
        return None if value is None else self.id_type(id_as_text(value, self.id_type, self.aggregate_type))


class IntegerId(_TypedId):
    """An ``int`` id as a 64-bit integer."""

    impl = BigInteger
    cache_ok = True
    id_type = int
    comparator_factory = _IntegerComparator  # pyright: ignore[reportAssignmentType]

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Compare fractions as any integer column does, and refuse what is no number."""
        return self.impl_instance.coerce_compared_value(op, value) if isinstance(value, float) else self


class UuidId(_TypedId):
    """A ``UUID`` id as the database's kind of UUID."""

    impl = Uuid
    cache_ok = True
    id_type = UUID
    comparator_factory = _UuidComparator  # pyright: ignore[reportAssignmentType]


class uuid_of_text(FunctionElement[UUID]):  # noqa: N801 - SQLAlchemy's naming of SQL functions
    """A UUID from its text: what SQLAlchemy's ``Uuid`` is on the database, 32 digits where it has no such type."""

    name = "uuid_of_text"
    inherit_cache = True


@compiles(uuid_of_text)
def _digits(element: uuid_of_text, compiler: SQLCompiler, **options: Any) -> str:
    return f"replace({compiler.process(element.clauses, **options)}, '-', '')"


@compiles(uuid_of_text, "postgresql")
def _postgresql_uuid(element: uuid_of_text, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS UUID)"


def typed_id(text: Any, id_type: type[Any], aggregate_type: str) -> ColumnElement[Any]:
    """Give a column of ids as the log stores them the kind that their Python type has in SQL."""
    if id_type is int:
        return cast(text, IntegerId(aggregate_type))
    if id_type is UUID:
        return type_coerce(uuid_of_text(text), UuidId(aggregate_type))
    return type_coerce(text, TextId(str, aggregate_type))


class StoredIdentity(BinaryExpression[bool]):
    """``id = value`` and ``id IN (values)``, written as a condition on the stored text, for which the log has an index.

    So is the comparison with a column of texts, such as ``EventRecord.aggregate_id``.

    It remains a comparison of the id for all who look at it, such as a relationship that finds out whether it can load by
    ``session.get``. Only the compiler writes the other column.
    """

    inherit_cache = True


def _stored(identifier: Any) -> ColumnElement[Any] | None:
    """Find the column of the stored text alongside an id; None where a query has passed on the id alone."""
    columns = getattr(getattr(identifier, "table", None), "c", {})
    found: ColumnElement[Any] | None = columns.get(STORED_ID) if identifier.key == "id" else None
    return found


@compiles(StoredIdentity)
def _stored_identity(element: StoredIdentity, compiler: SQLCompiler, **options: Any) -> str:
    identifier: Any = element.left
    # Where rows are grouped by the id, the column of the text next to it cannot be asked for: in HAVING and among the columns. Of a
    # WHERE and of a join, SQLAlchemy says that it collects what they read from.
    stored = _stored(identifier) if "from_linter" in options else None
    binary: BinaryExpression[bool] = element
    if stored is not None:
        right: Any = element.right
        if isinstance(right, BindParameter):
            kind: _TypedId = identifier.type
            right = type_coerce(right, TextId(kind.id_type, kind.aggregate_type)).typed_expression
        binary = BinaryExpression(stored, right, element.operator)
    text: str = compiler.visit_binary(binary, **options)  # type: ignore[no-untyped-call]
    return text
