"""The forms of the INSERT into the log, and what they have in common on all databases.

Each skips what is stored already (``ON CONFLICT DO NOTHING``) instead of failing: the row count tells, and the transaction can
still be asked. Each but the first event of a new stream goes in only after the version it follows, so that an aggregate whose
earlier events were never committed leaves no hole; and none goes in behind the event that closes a stream, whoever appends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Integer, Text, bindparam, exists, literal_column, select

from sa_eventsource.events import ARCHIVED_TYPE, CLOSED_TYPE
from sa_eventsource.mapping import may_be_archived
from sa_eventsource.store.driver_statement import DriverStatement

if TYPE_CHECKING:
    from sqlalchemy import Select, Table
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.sql import ColumnElement


class KeysToLock(NamedTuple):
    """The keys of subjects that an INSERT is to lock, so that nobody destroys them until the transaction ends.

    It then inserts nothing unless all are there and each is the newest of its subject.

    Attributes:
        table: The table of keys.
        are_many: Whether there may be more than one. The id of one is the parameter ``key``; several are ``keys``, the text of an
            array of ids, and ``key_count``. To look for one, PostgreSQL takes the index, whatever it knows of the table.
    """

    table: Table
    are_many: bool


@dataclass(frozen=True, slots=True)
class InsertStatements:
    """The forms for one database.

    Attributes:
        first: The first event of a stream; parameters are the columns asked for.
        next: An event that follows another; the same parameters, once or many times.
        many: Any events, as one JSON array under the name ``rows``; None where ``next`` takes many sets of parameters in one go.
        all_or_none: As ``many``, but it fails where it would skip a row, with :data:`INCOMPLETE` in the message. A further
            parameter, ``expected``, is how many there are, which it also returns. None as ``many``.
        first_or_fail: As ``first``, likewise, with the further parameter; None as ``many``.
        next_or_fail: As ``next`` with one set of parameters, likewise.
    """

    first: DriverStatement
    next: DriverStatement
    many: DriverStatement | None
    all_or_none: DriverStatement | None
    first_or_fail: DriverStatement | None
    next_or_fail: DriverStatement | None


INCOMPLETE = "sa_eventsource: rows that went in before the rest was refused: "
"""Begins the text that is cast to a number to have a statement fail."""


def parameters_of(events: Table, columns: tuple[str, ...]) -> dict[str, Any]:
    """Give a parameter for each column, under its name and of its type."""
    return {name: bindparam(name, type_=events.c[name].type) for name in columns}


def follows(events: Table) -> ColumnElement[bool]:
    """Check that the version before the one of the parameters is stored, and does not close the stream."""
    version = bindparam("version", type_=Integer) - literal_column("1", Integer)
    aggregate_type, aggregate_id = parameters_of(events, ("aggregate_type", "aggregate_id")).values()
    return is_open(events, aggregate_type, aggregate_id, version)


def is_open(events: Table, aggregate_type: Any, aggregate_id: Any, version: Any) -> ColumnElement[bool]:
    """Check that a stream has an event of a version, which does not close it."""
    return exists(_open_version(events, aggregate_type, aggregate_id, version))


def is_found_open(events: Table, aggregate_type: Any, aggregate_id: Any, version: Any) -> ColumnElement[bool]:
    """Check the same for each of many rows, besides another condition.

    There PostgreSQL reads the whole log, in place of the index for each row, to answer an EXISTS: 8 ms among 4,600 events.
    """
    return _open_version(events, aggregate_type, aggregate_id, version).scalar_subquery().is_not(None)


def _open_version(events: Table, aggregate_type: Any, aggregate_id: Any, version: Any) -> Select[tuple[int]]:
    before = events.alias("before")
    return select(before.c.version).where(
        before.c.aggregate_type == aggregate_type,
        before.c.aggregate_id == aggregate_id,
        before.c.version == version,
        before.c.event_type.not_in([literal_column(f"'{name}'", Text) for name in _ends(events)]),
    )


def _ends(events: Table) -> tuple[str, ...]:
    return (CLOSED_TYPE, ARCHIVED_TYPE) if may_be_archived(events) else (CLOSED_TYPE,)


def is_new(events: Table, aggregate_type: Any, aggregate_id: Any) -> ColumnElement[bool] | None:
    """Check that a stream is not there; None where the place of its first event says so: an archived one is not in that place.

    It is asked for one version, and not by NOT EXISTS, for the same reason as in :func:`is_found_open`.
    """
    if not may_be_archived(events):
        return None
    other = events.alias("other")
    found = (
        select(other.c.version)
        .where(other.c.aggregate_type == aggregate_type, other.c.aggregate_id == aggregate_id)
        .limit(literal_column("1", Integer))
    )
    return found.scalar_subquery().is_(None)


def idempotent(statement: postgresql.Insert | sqlite.Insert) -> DriverStatement:
    """Have an INSERT skip what is stored, and count the rows that it has inserted."""
    return DriverStatement(statement.on_conflict_do_nothing().execution_options(preserve_rowcount=True))
