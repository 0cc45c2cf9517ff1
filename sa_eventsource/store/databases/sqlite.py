"""SQLite."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    Integer,
    LargeBinary,
    Text,
    and_,
    bindparam,
    cast,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from sa_eventsource.events import ARCHIVED_TYPE, CLOSED_TYPE
from sa_eventsource.mapping import DOCUMENTS, UtcDateTime, create_statements, drop_statements, schema_of
from sa_eventsource.store.databases.database import Database, OpenWriter
from sa_eventsource.store.databases.insert_forms import InsertStatements, KeysToLock, follows, idempotent, is_new, parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from sqlalchemy import Column, Connection, FromClause, Table
    from sqlalchemy.dialects.sqlite import Insert
    from sqlalchemy.sql import ColumnElement

_STREAMS = 400
"""How many are asked for with one question; SQLite's oldest limit on parameters is 999."""


class SQLite(Database):
    """A file that one transaction writes to at a time."""

    has_one_writer = True
    works_out_fields = False
    is_server = False
    stores_only_json = False
    statement_by_statement: ClassVar = {}
    one_state: ClassVar = {}
    without_transaction: ClassVar = {}

    def is_autocommitting(self, driver_connection: Any) -> bool:
        """Ask the driver: one whose ``isolation_level`` is None is in a transaction when a ``begin`` hook has begun one."""
        is_left_to_us = getattr(driver_connection, "isolation_level", "") is None
        return is_left_to_us and not getattr(driver_connection, "in_transaction", True)

    def is_in_transaction(self, driver_connection: Any) -> bool | None:
        """Ask SQLite, by the driver."""
        return getattr(driver_connection, "in_transaction", None)

    def can_commit_alone(self, connection: Connection) -> bool:  # noqa: ARG002 - the same for all
        """Say no: there is no round trip to be saved."""
        return False

    def begin(self, connection: Connection) -> None:
        """Begin unless that is done: ``sqlite3`` by itself waits for the first row to be written.

        A savepoint outside a transaction is one by itself, and its release a commit
        (https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#enabling-non-legacy-sqlite-transactional-modes-with-the-sqlite3-or-aiosqlite-driver).
        """
        if not connection.in_transaction():
            connection.begin()  # whoever listens for that may begin for the driver
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            connection.exec_driver_sql("BEGIN")

    def begin_reading(self, connection: Connection) -> None:
        """Begin: what the first statement reads is what all read."""
        self.begin(connection)

    def sees_one_state(self, connection: Connection) -> bool:
        """Check whether a transaction has begun, with the first statement, where SQLAlchemy is told to begin it."""
        connection.execute(text("SELECT 1"))
        return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))

    def sees_what_is_committed(self) -> ColumnElement[bool]:
        """Whoever writes does: one that began with less is refused."""
        return true()

    def insert(self, table: Table) -> Insert:
        """Begin an INSERT."""
        return insert(table)

    def document(self, text: ColumnElement[str]) -> ColumnElement[Any]:
        """Take the text as it is: JSON is text here."""
        return text

    def is_among(self, column: Column[Any], parameter: str) -> ColumnElement[bool]:
        """Have SQLite read the array."""
        each = func.json_each(bindparam(parameter, type_=Text)).table_valued("value")
        return column.in_(select(type_coerce(each.c.value, column.type)))

    def moment_after(self, delay: timedelta) -> ColumnElement[datetime]:
        """Add to this machine's clock, which is the file's too."""
        return literal(datetime.now(UTC) + delay, UtcDateTime)

    def insert_statements(self, events: Table, columns: tuple[str, ...], keys: KeysToLock | None) -> InsertStatements:
        """Build the INSERTs, which also draw the position: with one writer, the next is one more than the last."""
        if keys is not None:
            raise AssertionError("the one writer need not lock keys")
        values = parameters_of(events, columns)
        for name in DOCUMENTS:
            values[name] = self.document(bindparam(name, type_=Text))
        values["position"] = select(func.coalesce(func.max(events.alias().c.position), 0) + 1).scalar_subquery()
        is_first = bindparam("version", type_=Integer) == literal_column("1", Integer)
        first = insert(events).values(values)
        new = is_new(events, values["aggregate_type"], values["aggregate_id"])
        if new is not None:
            is_first = and_(is_first, new)
            first = insert(events).from_select([*columns, "position"], select(*values.values()).where(new))
        any_event = or_(is_first, follows(events))
        return InsertStatements(
            first=idempotent(first),
            next=idempotent(insert(events).from_select([*columns, "position"], select(*values.values()).where(any_event))),
            many=None,
            all_or_none=None,
            first_or_fail=None,
            next_or_fail=None,
        )

    def ends_of_streams(self, connection: Connection, events: Table, streams: Sequence[tuple[str, str]]) -> Iterator[Any]:
        """Ask for some streams at a time; those that are not there are left out. Beside a maximum, SQLite reads from its row."""
        stream = events.c.aggregate_type, events.c.aggregate_id
        is_closed = events.c.event_type.in_([CLOSED_TYPE, ARCHIVED_TYPE]).label("is_closed")
        last = select(*stream, func.max(events.c.version).label("version"), is_closed).group_by(*stream)
        for start in range(0, len(streams), _STREAMS):
            yield from connection.execute(last.where(tuple_(*stream).in_(streams[start : start + _STREAMS])))

    def become_writer(self, connection: Connection, table: Table) -> None:
        """Update no row: the statement makes the transaction the writer nevertheless."""
        first = table.c[0]
        connection.execute(update(table).where(false()).values({first: first}))

    def lock_log(self, connection: Connection, events: Table, *, to_change: bool = False) -> None:
        """Do nothing: who is the writer keeps all others waiting."""

    def older_view(self, connection: Connection, transaction_id: str) -> str | None:  # noqa: ARG002 - none of them can write
        """Name none: who sees an older state is refused when it writes."""
        return None

    @contextmanager
    def letting_events_change(self, connection: Connection, events: Table) -> Iterator[None]:
        """Drop the triggers, for which there is no switch, and create them again: nobody else ever sees a log without them."""
        for statement in drop_statements(events, "sqlite"):
            connection.execute(statement)
        try:
            yield
        finally:
            for statement in create_statements(events, "sqlite"):
                connection.execute(statement)

    def lock_checkpoints(self, connection: Connection, positions: Table) -> None:
        """Do nothing: who is the writer keeps all others waiting."""

    def lock_stream(self, connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> None:
        """Do nothing: writers are alone."""

    def lock_stream_if_free(self, connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> bool:  # noqa: ARG002 - that of others
        """Say so: writers are alone."""
        return True

    def idle_limit(self) -> list[ColumnElement[Any]]:
        """None: no server ends a connection."""
        return []

    def limit_waits(self, connection: Connection, *, for_locks: float | None, idle: float | None) -> None:
        """Do nothing: a wait has the limit that the driver was given, and no server ends a connection."""

    def limit_statements(self, connection: Connection, seconds: float) -> None:
        """Do nothing: SQLite has no such limit."""

    def stored_bytes(self, document: ColumnElement[Any]) -> ColumnElement[int]:
        """Ask for its length as a BLOB, for which the head of the row is enough."""
        return func.length(cast(document, LargeBinary), type_=Integer)

    def check_constraints(self, connection: Connection) -> None:
        """Do nothing: they are checked with the statement."""

    def snapshot(self, connection: Connection) -> str | None:  # noqa: ARG002 - nothing to ask
        """Give none: there is nothing but positions."""
        return None

    def committed_with(self, events: FromClause, other: FromClause) -> ColumnElement[bool]:
        """Compare positions: what was committed earlier has the lower one."""
        return events.c.position <= other.c.position

    def written_with(self, events: FromClause, first: FromClause) -> ColumnElement[bool]:
        """Compare positions: nobody else writes meanwhile."""
        return events.c.position >= first.c.position

    def taken(self, events: Table, positions: Table) -> ColumnElement[bool]:
        """Take what lies before the position."""
        return events.c.position <= positions.c.last_processed_position

    def oldest_transaction(self, connection: Connection) -> tuple[int, str, float] | None:  # noqa: ARG002 - nothing to ask
        """Find none: nobody is asked about others' transactions."""
        return None

    def open_writers(self, connection: Connection, table: Table) -> list[OpenWriter]:
        """Become the writer: then there is no other."""
        self.begin(connection)
        self.become_writer(connection, table)
        return []

    def unique_indexes(self, connection: Connection, table: Table) -> set[str]:
        """Ask the pragma."""
        statement = text('SELECT name FROM pragma_index_list(:name, :schema) WHERE "unique"')
        return set(connection.scalars(statement, {"name": table.name, "schema": schema_of(connection, table) or "main"}))
