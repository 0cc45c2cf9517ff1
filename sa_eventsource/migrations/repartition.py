"""A log that is there, moved into partitions, into another number of them, or out of them.

The table is written anew under another name, which then takes the old one's. Everything that makes an event what it is goes along,
position and transaction id included, so that no checkpoint has to be changed. Constraints, indexes, privileges and the owner are
taken from the catalogue, and not from what the library declares today: a migration means the same for as long as it is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import MetaData, Table, func, select, text

from sa_eventsource.exceptions import RepartitionError
from sa_eventsource.mapping import (
    TableStatement,
    create_partitions,
    create_statements,
    draw_positions,
    lock_table,
    partition_name,
    regclass_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from sa_eventsource.mapping import Rendering

_NEW = "{}_repartitioned"

_LOST = text("""
    SELECT 'trigger ' || tgname FROM pg_trigger
    WHERE tgrelid = to_regclass(:events) AND NOT tgisinternal AND NOT starts_with(tgname, 'sa_eventsource_immutable')
    UNION ALL
    SELECT 'rule ' || rulename FROM pg_rewrite WHERE ev_class = to_regclass(:events)
    UNION ALL
    SELECT 'policy ' || polname FROM pg_policy WHERE polrelid = to_regclass(:events)
    UNION ALL
    SELECT 'publication ' || pubname FROM pg_publication_rel JOIN pg_publication AS p ON p.oid = prpubid
    WHERE prrelid = to_regclass(:events)
    ORDER BY 1
""")
_COLUMNS = text("""
    SELECT quote_ident(attname) FROM pg_attribute
    WHERE attrelid = to_regclass(:events) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    ORDER BY attnum
""")
_CONSTRAINTS = text("""
    SELECT quote_ident(conname) AS name,
        CASE contype WHEN 'p' THEN 'PRIMARY KEY (' || :key || ')' ELSE pg_get_constraintdef(oid) END AS definition
    FROM pg_constraint WHERE conrelid = to_regclass(:events) AND contype IN ('p', 'u')
    ORDER BY conname
""")
_INDEXES = text("""
    SELECT replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') FROM pg_index
    WHERE indrelid = to_regclass(:events)
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid AND contype IN ('p', 'u'))
    ORDER BY indexrelid::regclass::text
""")
_PRIVILEGES = text("""
    SELECT privilege_type AS privilege, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
    FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass(:events) AND grantee <> relowner
    ORDER BY role, privilege
""")
_OWNER = text("""
    SELECT relowner::regrole::text FROM pg_class
    WHERE oid = to_regclass(:events) AND relowner <> quote_ident(current_user)::regrole
""")
_SEQUENCE = text("SELECT pg_get_serial_sequence(:events, 'position')")
_DRAWN = text("SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(:events, 'position')::regclass), 0)")


def repartition(connection: Connection, table: Table, partitions: int | None) -> None:
    """Move an events table into partitions, or out of them, in the caller's transaction.

    Args:
        connection: On PostgreSQL, in a transaction.
        table: The events table, for its name and schema.
        partitions: How many partitions it is to have; None for none.

    Raises:
        RepartitionError: Something would be lost with the table that was there.
    """
    _Move(connection, table, partitions).run()


class _Move:
    """One such move."""

    def __init__(self, connection: Connection, table: Table, partitions: int | None) -> None:
        """Choose the tables: the one that is there, and the one that takes its name in the end."""
        self._connection = connection
        self._events = table
        self._new = Table(_NEW.replace("{}", table.name), MetaData(), schema=table.schema)
        self._partitions = partitions
        self._where = {"events": regclass_name(connection, table)}

    def run(self) -> None:
        """Do it: copy, drop the old table, and give the new one its name and all that the old one had."""
        self._connection.execute(lock_table(self._events, "ACCESS EXCLUSIVE"))
        lost = tuple(self._connection.scalars(_LOST, self._where))
        if lost:
            raise RepartitionError(self._events.name, lost)
        keys, rights = list(self._keys()), list(self._rights())
        drawn: int = self._connection.execute(_DRAWN, self._where).scalar_one()
        self._copy()
        self._execute(self._events, lambda names: f"DROP TABLE {names.table}")
        self._rename()
        for render in keys:
            self._execute(self._events, render)
        self._draw_positions(drawn)
        for statement in create_statements(self._events, "postgresql"):
            self._connection.execute(statement)
        for render in rights:
            self._execute(self._events, render)
        self._execute(self._events, lambda names: f"ANALYZE {names.table}")

    def _copy(self) -> None:
        by = "" if self._partitions is None else " PARTITION BY HASH (aggregate_id)"
        like = "INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY"
        columns = ", ".join(self._connection.scalars(_COLUMNS, self._where))
        events = self._events
        self._execute(self._new, lambda names: f"CREATE TABLE {names.table} (LIKE {names.of(events)} {like}){by}")
        self._execute(self._new, lambda names: f"ALTER TABLE {names.table} ALTER COLUMN position DROP DEFAULT")
        for statement in create_partitions(self._new, self._partitions or 0):
            self._connection.execute(statement)
        self._execute(
            self._new,
            lambda names: f"INSERT INTO {names.table} ({columns}) SELECT {columns} FROM {names.of(events)} ORDER BY position",
        )

    def _rename(self) -> None:
        renamed = {self._new.name: self._events.name}
        for number in range(self._partitions or 0):
            renamed[partition_name(self._new.name, number)] = partition_name(self._events.name, number)
        for before, after in renamed.items():
            self._execute(self._in_schema(before), _renaming(after))

    def _keys(self) -> Iterator[Rendering]:
        """Say which constraints and indexes the old table has, for the new one, which is then under its name."""
        key = "event_id" if self._partitions is None else "event_id, aggregate_id"
        for name, definition in self._connection.execute(_CONSTRAINTS, {**self._where, "key": key}):
            yield _altering(f"ADD CONSTRAINT {name} {definition}")
        for definition in self._connection.scalars(_INDEXES, self._where):
            yield _saying(definition)

    def _rights(self) -> Iterator[Rendering]:
        """Say who may do what with the old table."""
        for privilege, role, option in self._connection.execute(_PRIVILEGES, self._where):
            yield _granting(f"GRANT {privilege} ON", f"TO {role}{option}")
            if privilege == "INSERT" and self._partitions is not None:
                yield self._granting_positions(role)
        for owner in self._connection.scalars(_OWNER, self._where):
            yield _altering(f"OWNER TO {owner}")
            for number in range(self._partitions or 0):
                yield _altering(f"OWNER TO {owner}", of=self._in_schema(partition_name(self._events.name, number)))

    def _granting_positions(self, role: str) -> Rendering:
        """Let a role that may append draw positions: of an identity column, the table's privileges are enough."""
        return lambda _names: f"GRANT USAGE ON SEQUENCE {self._connection.execute(_SEQUENCE, self._where).scalar_one()} TO {role}"

    def _draw_positions(self, drawn: int) -> None:
        if self._partitions is None:
            self._execute(self._events, _altering("ALTER COLUMN position ADD GENERATED BY DEFAULT AS IDENTITY"))
        else:
            for statement in draw_positions(self._events):
                self._connection.execute(statement)
        if drawn:
            sequence = func.pg_get_serial_sequence(self._where["events"], "position")
            self._connection.execute(select(func.setval(sequence, drawn)))

    def _in_schema(self, name: str) -> Table:
        return Table(name, MetaData(), schema=self._events.schema)

    def _execute(self, table: Table, render: Rendering) -> None:
        self._connection.execute(TableStatement(table, render))


def _altering(what: str, *, of: Table | None = None) -> Rendering:
    return lambda names: f"ALTER TABLE {names.table if of is None else names.of(of)} {what}"


def _granting(before: str, behind: str) -> Rendering:
    return lambda names: f"{before} {names.table} {behind}"


def _renaming(name: str) -> Rendering:
    return lambda names: f"ALTER TABLE {names.table} RENAME TO {names.bare(name)}"


def _saying(statement: str) -> Rendering:
    return lambda _names: statement
