"""Hash-partitioned events: on PostgreSQL, the log is several tables, each of which has a share of the streams.

The hash of the aggregate's id says which, so that a stream's events lie together, and the constraint that refuses a second event at
one place of a stream holds. No constraint of a partitioned table can apply to what does not contain the id: an event's id is unique
among the events of its stream, and positions are unique because they are drawn from one sequence. It is a sequence and no identity
column, which partitioned tables have from PostgreSQL 17 on.

The statements are DDL elements, as those of the triggers are: see :mod:`sa_eventsource.mapping.immutability`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, case, cast, event, func, select, text
from sqlalchemy.dialects.postgresql import REGCLASS

from sa_eventsource.counting import counted
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping.schemas import regclass_name
from sa_eventsource.mapping.statements import TableNames, TableStatement, literal_name

if TYPE_CHECKING:
    from sqlalchemy import Table

    from sa_eventsource.mapping.statements import Rendering

PARTITION_KEY = "aggregate_id"
PARTITION_BY = f"HASH ({PARTITION_KEY})"

_FEWEST, _MOST = 2, 1000
_LONGEST_NAME = 63
_BOUND = re.compile(r"FOR VALUES WITH \(modulus (\d+), remainder (\d+)\)")


def check_partitions(partitions: object, events: str) -> None:
    """Refuse a number of partitions that cannot be.

    Args:
        partitions: What the application says; None for no partitions.
        events: Name of the events table.

    Raises:
        DeclarationError: It is no whole number from 2 to 1000, or PostgreSQL would cut the partitions' names off.
    """
    if partitions is None:
        return
    if not isinstance(partitions, int) or isinstance(partitions, bool) or not _FEWEST <= partitions <= _MOST:
        raise DeclarationError(
            f"EventSourceOptions(partitions={partitions!r}): it must be None, or how many partitions the events table has: a whole "
            f"number from {_FEWEST} to {_MOST}, such as 8"
        )
    longest = partition_name(events, partitions - 1)
    if len(longest.encode()) > _LONGEST_NAME:
        raise DeclarationError(
            f"the last partition of {events!r} would be named {longest!r}, and names in PostgreSQL have at most {_LONGEST_NAME} "
            "bytes. Give the events table a shorter name: EventSourceOptions(events=...)"
        )


def partition_name(events: str, number: int) -> str:
    """Name the partition of a number, from 0."""
    return f"{events}_p{number}"


def partition_events(table: Table, partitions: int) -> None:
    """Have ``create_all`` make the partitions behind an events table that is declared as partitioned, and behind its copies."""

    def make(table: Table, connection: Connection, **_: object) -> None:
        if connection.dialect.name == "postgresql":
            if isinstance(connection, Connection):  # and none that writes the statements down
                check_names_are_free(connection, table, partitions)
            for statement in partition_statements(table, partitions):
                connection.execute(statement)

    event.listen(table, "after_create", make, propagate=True)


def partition_statements(table: Table, partitions: int) -> list[TableStatement]:
    """List the statements that make a partitioned events table whole, behind that which creates it."""
    return [*draw_positions(table), *create_partitions(table, partitions)]


def check_names_are_free(connection: Connection, table: Table, partitions: int) -> None:
    """Refuse to create partitions where something else has the name of one: its share of the streams could not be stored.

    Args:
        connection: On PostgreSQL.
        table: The events table, which is there.
        partitions: How many there are to be.

    Raises:
        DeclarationError: Something has such a name and is no partition of the table.
    """
    names = [partition_name(table.name, number) for number in range(partitions)]
    taken = connection.scalars(_TAKEN, {"events": regclass_name(connection, table), "names": names}).all()
    if taken:
        raise DeclarationError(
            f"a partition of {table.name!r} would be named {', '.join(map(repr, taken))}, and there is something else of that name "
            "in its schema. Rename that, or give the events table another name: EventSourceOptions(events=...)"
        )


_TAKEN = text("""
    SELECT relname::text FROM pg_class
    WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:events)) AND relname = ANY (:names)
        AND oid NOT IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(:events))
    ORDER BY relname
""")


def draw_positions(table: Table) -> list[TableStatement]:
    """List the statements that have positions drawn from a sequence, which goes with the table."""
    return [TableStatement(table, render) for render in (_sequence, _default)]


def create_partitions(table: Table, partitions: int) -> list[TableStatement]:
    """List the statements that create those partitions of an events table that are not there."""
    return [TableStatement(table, _partition(number, partitions)) for number in range(partitions)]


def draw_behind(connection: Connection, table: Table, position: int) -> None:
    """Have positions go on behind one where their sequence stands before it, as it does after a replication.

    No constraint of a partitioned log would refuse a position that is there already.
    """
    sequence = func.pg_get_serial_sequence(regclass_name(connection, table), "position")
    at = func.coalesce(func.pg_sequence_last_value(cast(sequence, REGCLASS)), 0)
    connection.execute(select(case((at < position, func.setval(cast(sequence, REGCLASS), position)))))


def _sequence(names: TableNames) -> str:
    return f"CREATE SEQUENCE IF NOT EXISTS {names.in_schema(_SEQUENCE)} OWNED BY {names.table}.position"


def _default(names: TableNames) -> str:
    sequence = literal_name(names.in_schema(_SEQUENCE))
    return f"ALTER TABLE {names.table} ALTER COLUMN position SET DEFAULT nextval({sequence}::regclass)"


_SEQUENCE = "{}_position_seq"
"""The name that PostgreSQL gives to the sequence of an identity column."""


def _partition(number: int, partitions: int) -> Rendering:
    return lambda names: (
        f"CREATE TABLE IF NOT EXISTS {names.in_schema(partition_name('{}', number))} PARTITION OF {names.table} "
        f"FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})"
    )


@dataclass(frozen=True, slots=True)
class FoundPartitions:
    """How an events table is partitioned in a database.

    Attributes:
        is_there: Whether there is such a table, and it is on PostgreSQL.
        is_partitioned: Whether it is partitioned, however.
        key: What by, as PostgreSQL writes it.
        tables: The partitions, as schema and name, by name.
        shares: The share that each has: the number of shares and which of them, or None where it is something else.
    """

    is_there: bool
    is_partitioned: bool
    key: str | None
    tables: tuple[tuple[str, str], ...]
    shares: tuple[tuple[int, int] | None, ...]

    def missing(self, partitions: int) -> list[int] | None:
        """List the numbers of the partitions that are missing; None if what is there are no partitions of so many."""
        wanted = {(partitions, number) for number in range(partitions)}
        if self.key != PARTITION_BY or not wanted.issuperset(self.shares):
            return None
        return sorted(number for _, number in wanted.difference(self.shares))

    def fault(self, partitions: int | None) -> str | None:
        """Say how this differs from what is declared; None if it does not, or if there is no table.

        Args:
            partitions: How many are declared; None for none.
        """
        if not self.is_there or (partitions is None and not self.is_partitioned):
            return None
        if partitions is None:
            return f"the table has {counted(len(self.tables), 'partition')}, and none are declared"
        missing = self.missing(partitions) if self.is_partitioned else None
        if missing is None:
            what = f"{counted(len(self.tables), 'partition')} by {self.key}" if self.is_partitioned else "no partitions"
            return f"the table has {what}, and {partitions} by {PARTITION_BY} are declared"
        if missing:
            numbers = f"{', '.join(map(str, missing))} {'is' if len(missing) == 1 else 'are'}"
            return f"of its {counted(partitions, 'partition')}, {numbers} missing, from 0: no event of their streams can be stored"
        return None


def found_partitions(connection: Connection, events: Table) -> FoundPartitions:
    """Ask PostgreSQL how an events table is partitioned; on other databases there is none to be asked about."""
    if connection.dialect.name != "postgresql":
        return FoundPartitions(is_there=False, is_partitioned=False, key=None, tables=(), shares=())
    parameters = {"events": regclass_name(connection, events)}
    table = connection.execute(
        text(
            "SELECT relkind = 'p' AS is_partitioned, pg_get_partkeydef(oid) AS key FROM pg_class WHERE oid = to_regclass(:events)"
        ),
        parameters,
    ).one_or_none()
    rows = connection.execute(
        text("""
            SELECT nspname, relname, pg_get_expr(relpartbound, c.oid) AS bound
            FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = relnamespace
            WHERE inhparent = to_regclass(:events)
            ORDER BY nspname, relname
        """),
        parameters,
    ).all()
    return FoundPartitions(
        is_there=table is not None,
        is_partitioned=table is not None and table.is_partitioned,
        key=None if table is None else table.key,
        tables=tuple((row.nspname, row.relname) for row in rows),
        shares=tuple(_share(row.bound) for row in rows),
    )


def _share(bound: str | None) -> tuple[int, int] | None:
    match = _BOUND.fullmatch(bound or "")
    return None if match is None else (int(match[1]), int(match[2]))
