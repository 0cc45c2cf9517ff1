"""The INSERT into the log, in the forms that a flush needs.

Each skips what is stored already (``ON CONFLICT DO NOTHING``) instead of failing: the row count tells, and the transaction can
still be asked. Each but the first event of a new stream goes in only behind the version it follows, so that an aggregate whose
earlier events were never committed leaves no hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, Text, bindparam, cast, column, exists, func, literal_column, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import CompileError

from sa_eventsource.mapping import APPENDED, DOCUMENTS, KINDS
from sa_eventsource.store.driver_statement import DriverStatement

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.sql import ColumnElement


@dataclass(frozen=True, slots=True)
class InsertStatements:
    """The forms for one dialect.

    Attributes:
        first: The first event of a stream; parameters are the columns asked for.
        next: An event that follows another; the same parameters, once or many times.
        many: Any events, as one JSON array under the name ``rows``; None where ``next`` takes many sets of parameters in one go.
    """

    first: DriverStatement
    next: DriverStatement
    many: DriverStatement | None


@lru_cache(maxsize=256)  # the tables of a process: as many as it has declarative bases
def insert_statements(events: Table, dialect: str, columns: tuple[str, ...] = APPENDED) -> InsertStatements:
    """Get the statements for an events table.

    Args:
        events: The table.
        dialect: Name of the dialect.
        columns: What is given: ``APPENDED`` or ``MOVED``.

    Raises:
        CompileError: The dialect is neither PostgreSQL nor SQLite.
    """
    if dialect not in _BUILDERS:
        raise CompileError(f"sa_eventsource stores events in PostgreSQL or SQLite, not in {dialect}")
    return _BUILDERS[dialect](events, columns)


def _postgresql(events: Table, columns: tuple[str, ...]) -> InsertStatements:
    values: dict[str, Any] = {name: bindparam(name, type_=events.c[name].type) for name in columns}
    for name in DOCUMENTS:
        values[name] = cast(bindparam(name, type_=Text), JSONB)
    # One text parameter for all rows: psycopg takes longer to write arrays or a long list of VALUES than the database to read this.
    new = (
        func.json_to_recordset(cast(bindparam("rows", type_=Text), postgresql.JSON))
        .table_valued(*(column(name, KINDS[name].recordset) for name in columns), column("follows", Integer))
        .render_derived(name="new", with_types=True)
    )
    rows = select(*(new.c[name] for name in columns)).where(
        or_(new.c.follows.is_(None), _stored(events, new.c.aggregate_type, new.c.aggregate_id, new.c.follows))
    )
    return InsertStatements(
        first=_idempotent(postgresql.insert(events).values(values)),
        next=_idempotent(postgresql.insert(events).from_select(columns, select(*values.values()).where(_follows(events)))),
        many=_idempotent(postgresql.insert(events).from_select(columns, rows)),
    )


def _sqlite(events: Table, columns: tuple[str, ...]) -> InsertStatements:
    values: dict[str, Any] = {name: bindparam(name, type_=events.c[name].type) for name in columns}
    for name in DOCUMENTS:
        values[name] = bindparam(name, type_=Text)
    # One writer at a time: the next position is one more than the last.
    values["position"] = select(func.coalesce(func.max(events.alias().c.position), 0) + 1).scalar_subquery()
    any_event = or_(bindparam("version", type_=Integer) == literal_column("1", Integer), _follows(events))
    return InsertStatements(
        first=_idempotent(sqlite.insert(events).values(values)),
        next=_idempotent(sqlite.insert(events).from_select([*columns, "position"], select(*values.values()).where(any_event))),
        many=None,
    )


_BUILDERS = {"postgresql": _postgresql, "sqlite": _sqlite}


def _follows(events: Table) -> ColumnElement[bool]:
    """Tell whether the version before the one of the parameters is stored."""
    version = bindparam("version", type_=Integer) - literal_column("1", Integer)
    aggregate_type, aggregate_id = (bindparam(name, type_=events.c[name].type) for name in ("aggregate_type", "aggregate_id"))
    return _stored(events, aggregate_type, aggregate_id, version)


def _stored(events: Table, aggregate_type: Any, aggregate_id: Any, version: Any) -> ColumnElement[bool]:
    before = events.alias("before")
    return exists().where(
        before.c.aggregate_type == aggregate_type, before.c.aggregate_id == aggregate_id, before.c.version == version
    )


def _idempotent(statement: postgresql.Insert | sqlite.Insert) -> DriverStatement:
    return DriverStatement(statement.on_conflict_do_nothing().execution_options(preserve_rowcount=True))
