"""A log that is there, moved into partitions, into another number of them, or out of them.

The table is written again under another name, which then takes the old one's. Everything that makes an event what it is goes along,
position and transaction id included, so that no checkpoint has to be changed. What the table has besides its rows is taken from the
catalogue, and not from what the library declares today: a migration means the same for as long as it is kept.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import MetaData, Table, func, select, text

from sa_eventsource.exceptions import RepartitionError
from sa_eventsource.mapping import (
    TableStatement,
    check_names_are_free,
    create_partitions,
    create_statements,
    draw_positions,
    lock_table,
    partition_name,
    regclass_name,
)
from sa_eventsource.migrations.carried_over import (
    LIKE,
    keys_of,
    lost_with,
    properties_of,
    rights_by_default,
    rights_on,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

    from sa_eventsource.mapping import Rendering
    from sa_eventsource.migrations.carried_over import Carried

_NEW = "sa_eventsource_repartitioned"
"""The new table's name until it takes the old one's: short, as that of each partition begins with it."""

_COLUMNS = text("""
    SELECT quote_ident(attname) FROM pg_attribute
    WHERE attrelid = to_regclass(:events) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    ORDER BY attnum
""")
_TENANT = text("""
    SELECT attname FROM pg_attribute JOIN pg_constraint ON conrelid = attrelid AND attnum = ANY (conkey)
    WHERE attrelid = to_regclass(:events) AND contype = 'p' AND attname = 'tenant_id'
""")
_SEQUENCE = text("SELECT pg_get_serial_sequence(:events, 'position')")
_ROW_SECURITY = text("SELECT current_setting('row_security')")
_SET_ROW_SECURITY = text("SELECT set_config('row_security', :value, true)")
_DRAWN = text("SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(:events, 'position')::regclass), 0)")


def repartition(connection: Connection, table: Table, partitions: int | None) -> None:
    """Move an events table into partitions, or out of them, in the caller's transaction.

    Args:
        connection: On PostgreSQL, in a transaction.
        table: The events table, for its name and schema.
        partitions: How many partitions it is to have; None for none.

    Raises:
        RepartitionError: Something would be lost with the table that was there.
        DeclarationError: Something else has the name of a partition.
        ProgrammingError: Row security hides rows from who moves them.
    """
    _Move(connection, table, partitions).run()


class _Move:
    """One such move."""

    def __init__(self, connection: Connection, table: Table, partitions: int | None) -> None:
        """Choose the tables: the one that is there, and the one that takes its name in the end."""
        self._connection = connection
        self._events = table
        self._new = self._in_schema(_NEW)
        self._partitions = [self._in_schema(partition_name(table.name, number)) for number in range(partitions or 0)]
        self._where = {"events": regclass_name(connection, table)}

    def run(self) -> None:
        """Do it: copy, drop the old table, and give the new one its name and all that the old one had."""
        self._connection.execute(lock_table(self._events, "ACCESS EXCLUSIVE"))
        check_names_are_free(self._connection, self._events, len(self._partitions))
        lost = lost_with(self._connection, self._where)
        if lost:
            raise RepartitionError(self._events.name, lost)
        key = ", ".join(
            ["event_id", *(["aggregate_id"] if self._partitions else []), *self._connection.scalars(_TENANT, self._where)]
        )
        keys = list(keys_of(self._connection, self._where, key))
        properties = list(properties_of(self._connection, self._where))
        rights = list(rights_on(self._connection, self._where))
        drawn: int = self._connection.execute(_DRAWN, self._where).scalar_one()
        self._copy()
        self._execute(self._events, lambda names: f"DROP TABLE {names.table}")
        self._rename()
        self._say(keys)
        self._draw_positions(drawn)
        for statement in create_statements(self._events, "postgresql"):
            self._connection.execute(statement)
        self._execute(self._events, lambda names: f"ANALYZE {names.table}")
        self._say(rights_by_default(self._connection, self._where))
        self._say(properties)
        self._say(rights)

    def _copy(self) -> None:
        by = " PARTITION BY HASH (aggregate_id)" if self._partitions else ""
        columns = ", ".join(self._connection.scalars(_COLUMNS, self._where))
        events = self._events
        self._execute(self._new, lambda names: f"CREATE TABLE {names.table} (LIKE {names.of(events)} {LIKE}){by}")
        self._execute(self._new, lambda names: f"ALTER TABLE {names.table} ALTER COLUMN position DROP DEFAULT")
        for statement in create_partitions(self._new, len(self._partitions)):
            self._connection.execute(statement)
        with self._all_rows():
            self._execute(
                self._new,
                lambda names: f"INSERT INTO {names.table} ({columns}) SELECT {columns} FROM {names.of(events)} ORDER BY position",
            )

    @contextmanager
    def _all_rows(self) -> Iterator[None]:
        """Read all rows, whatever row security says of the owner; where somebody else may not, PostgreSQL raises."""
        self._execute(self._events, _altering("NO FORCE ROW LEVEL SECURITY"))
        before = self._connection.execute(_ROW_SECURITY).scalar_one()
        self._connection.execute(_SET_ROW_SECURITY, {"value": "off"})
        yield
        self._connection.execute(_SET_ROW_SECURITY, {"value": before})

    def _rename(self) -> None:
        for number, partition in enumerate(self._partitions):
            self._execute(self._in_schema(partition_name(_NEW, number)), _renaming(partition.name))
        self._execute(self._new, _renaming(self._events.name))

    def _draw_positions(self, drawn: int) -> None:
        if self._partitions:
            for statement in draw_positions(self._events):
                self._connection.execute(statement)
        else:
            self._execute(self._events, _altering("ALTER COLUMN position ADD GENERATED BY DEFAULT AS IDENTITY"))
        if drawn:
            sequence = func.pg_get_serial_sequence(self._where["events"], "position")
            self._connection.execute(select(func.setval(sequence, drawn)))

    def _say(self, carried: Iterable[Carried]) -> None:
        leaves = self._partitions or [self._events]
        scopes = {"table": [self._events], "leaves": leaves, "all": {self._events, *leaves}}
        sequence = self._connection.execute(_SEQUENCE, self._where).scalar_one_or_none()
        for each in list(carried):
            if each.scope in scopes:
                for table in scopes[each.scope]:
                    self._execute(table, _saying(each))
            else:
                named = f" SEQUENCE {sequence} " if each.scope == "sequence" else ""
                self._execute(self._events, _saying(each, named))

    def _in_schema(self, name: str) -> Table:
        return Table(name, MetaData(), schema=self._events.schema)

    def _execute(self, table: Table, render: Rendering) -> None:
        self._connection.execute(TableStatement(table, render))


def _altering(what: str) -> Rendering:
    return lambda names: f"ALTER TABLE {names.table} {what}"


def _renaming(name: str) -> Rendering:
    return lambda names: f"ALTER TABLE {names.table} RENAME TO {names.bare(name)}"


def _saying(carried: Carried, named: str | None = None) -> Rendering:
    """Write a statement; the driver takes a percent sign of the catalogue's, as in ``LIKE 'a%'``, for one of its own."""
    before, behind = (part.replace("%", "%%") for part in (carried.before, carried.behind))
    return lambda names: f"{before}{f' {names.table} ' if named is None else named}{behind}"
