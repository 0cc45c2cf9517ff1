"""The forms of the INSERT into the log, and what they have in common on all databases.

Each skips what is stored already (``ON CONFLICT DO NOTHING``) instead of failing: the row count tells, and the transaction can
still be asked. Each but the first event of a new stream goes in only behind the version it follows, so that an aggregate whose
earlier events were never committed leaves no hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, bindparam, exists, literal_column

from sa_eventsource.store.driver_statement import DriverStatement

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.sql import ColumnElement


@dataclass(frozen=True, slots=True)
class InsertStatements:
    """The forms for one database.

    Attributes:
        first: The first event of a stream; parameters are the columns asked for.
        next: An event that follows another; the same parameters, once or many times.
        many: Any events, as one JSON array under the name ``rows``; None where ``next`` takes many sets of parameters in one go.
        all_or_none: As ``many``, but it fails where it would skip a row, with :data:`INCOMPLETE` in the message. A further
            parameter, ``expected``, is how many there are, which it also returns. None as ``many``.
    """

    first: DriverStatement
    next: DriverStatement
    many: DriverStatement | None
    all_or_none: DriverStatement | None


INCOMPLETE = "sa_eventsource: rows that went in before the rest was refused: "
"""Begins the text that is cast to a number to have a statement fail."""


def parameters_of(events: Table, columns: tuple[str, ...]) -> dict[str, Any]:
    """Give a parameter for each column, under its name and of its type."""
    return {name: bindparam(name, type_=events.c[name].type) for name in columns}


def follows(events: Table) -> ColumnElement[bool]:
    """Check that the version before the one of the parameters is stored."""
    version = bindparam("version", type_=Integer) - literal_column("1", Integer)
    aggregate_type, aggregate_id = parameters_of(events, ("aggregate_type", "aggregate_id")).values()
    return is_stored(events, aggregate_type, aggregate_id, version)


def is_stored(events: Table, aggregate_type: Any, aggregate_id: Any, version: Any) -> ColumnElement[bool]:
    """Check that a stream has an event of a version."""
    before = events.alias("before")
    return exists().where(
        before.c.aggregate_type == aggregate_type, before.c.aggregate_id == aggregate_id, before.c.version == version
    )


def idempotent(statement: postgresql.Insert | sqlite.Insert) -> DriverStatement:
    """Have an INSERT skip what is stored, and count the rows that it has inserted."""
    return DriverStatement(statement.on_conflict_do_nothing().execution_options(preserve_rowcount=True))
