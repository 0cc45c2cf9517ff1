"""Column types and defaults that SQLAlchemy does not bring: times in UTC, transaction ids, the database's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, DateTime, Interval
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator, UserDefinedType

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine

DOCUMENT = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""A JSON document; ``jsonb`` on PostgreSQL."""

MAX_NAME_LENGTH = 255
"""The longest aggregate id, aggregate type and event type, in characters."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware datetimes only, read back in UTC, on SQLite too, which knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Take a ``timedelta`` for the interval that it is: a moment plus one is a moment."""
        return Interval() if isinstance(value, timedelta) else super().coerce_compared_value(op, value)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without zone, and give SQLite the time in UTC.

        Raises:
            ValueError: *value* has no time zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; pass an aware time, such as datetime.now(UTC)")
        return value if dialect.name == "postgresql" else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Read the time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


LOWEST_TRANSACTION_ID = 3
"""PostgreSQL's lowest normal transaction id, which each snapshot sees; a new cluster's first user transactions have some 700."""


class XID8(UserDefinedType[int]):
    """PostgreSQL's ``xid8``: a transaction id that never wraps round. An ``int`` in Python."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Name the type in DDL and casts."""
        return "XID8"

    def bind_processor(self, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Send the number as text: there is no cast from integers to xid8."""
        return lambda value: None if value is None else str(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:  # noqa: ARG002
        """Read the number from the text that drivers deliver."""
        return lambda value: None if value is None else int(value)


# Reflection knows the type, so that Alembic compares it instead of warning about it.
ischema_names.setdefault("xid8", XID8)


class TransactionId(TypeDecorator[int]):
    """The transaction that wrote a row: ``xid8`` on PostgreSQL, a number without meaning elsewhere."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose ``xid8`` where it exists."""
        return dialect.type_descriptor(XID8() if dialect.name == "postgresql" else BigInteger())


class current_transaction_id(GenericFunction[int]):  # noqa: N801 - SQLAlchemy's naming of SQL functions
    """The id of the transaction in progress; 0 on a database with a single writer, where nothing asks for it."""

    type = TransactionId()
    inherit_cache = True


@compiles(current_transaction_id)
def _no_transaction_id(element: current_transaction_id, compiler: SQLCompiler, **_: Any) -> str:
    return "0"


@compiles(current_transaction_id, "postgresql")
def _postgresql_transaction_id(element: current_transaction_id, compiler: SQLCompiler, **_: Any) -> str:
    return "pg_current_xact_id()"


class database_clock(GenericFunction[datetime]):  # noqa: N801 - SQLAlchemy's naming of SQL functions
    """What the database's clock shows while it writes a row, not when the transaction began."""

    type = UtcDateTime()
    inherit_cache = True


class statement_clock(GenericFunction[datetime]):  # noqa: N801 - SQLAlchemy's naming of SQL functions
    """What the database's clock showed when the statement began: the same for all its rows, so that an index is used."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(statement_clock, "postgresql")
def _postgresql_statement_clock(element: statement_clock, compiler: SQLCompiler, **_: Any) -> str:
    return "statement_timestamp()"


@compiles(database_clock)
def _standard_clock(element: database_clock, compiler: SQLCompiler, **_: Any) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(database_clock, "postgresql")
def _postgresql_clock(element: database_clock, compiler: SQLCompiler, **_: Any) -> str:
    return "clock_timestamp()"


@compiles(database_clock, "sqlite")
@compiles(statement_clock, "sqlite")
def _sqlite_clock(element: database_clock | statement_clock, compiler: SQLCompiler, **_: Any) -> str:
    # SQLite counts milliseconds. Six digits, as SQLAlchemy writes times there, so that they compare as text.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
