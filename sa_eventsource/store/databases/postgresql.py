"""PostgreSQL."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Integer,
    Interval,
    Text,
    and_,
    bindparam,
    case,
    cast,
    column,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, OID, REGCLASS, insert

from sa_eventsource.events import ARCHIVED_TYPE, CLOSED_TYPE
from sa_eventsource.mapping import (
    SWITCH,
    TENANT_SETTING,
    is_shared_by_tenants,
    lock_table,
    regclass_name,
    statement_clock,
)
from sa_eventsource.store.databases.database import Database, OpenWriter, milliseconds
from sa_eventsource.store.databases.postgresql_inserts import insert_statements
from sa_eventsource.store.driver_statement import DriverStatement
from sa_eventsource.store.windows import current_snapshot, visible_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Column, Connection, FromClause, Table
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.store.databases.insert_forms import InsertStatements, KeysToLock


_IDLE = 0
"""libpq's ``PQTRANS_IDLE``: connected, and in no transaction."""


_NO_PIPELINE = 0
"""libpq's ``PQ_PIPELINE_OFF``."""


class PostgreSQL(Database):
    """A server that many transactions write to at a time."""

    has_one_writer = False
    works_out_fields = True
    is_server = True
    stores_only_json = True
    statement_by_statement: ClassVar = {"isolation_level": "READ COMMITTED"}
    one_state: ClassVar = {"isolation_level": "REPEATABLE READ"}
    without_transaction: ClassVar = {"isolation_level": "AUTOCOMMIT"}

    def is_autocommitting(self, driver_connection: Any) -> bool:
        """Ask the driver: a ``connect`` or ``checkout`` hook may have told it."""
        return getattr(driver_connection, "autocommit", False) is True

    def is_in_transaction(self, driver_connection: Any) -> bool | None:
        """Ask libpq, which the server tells with each answer; or asyncpg. It is asked at each statement of a handler."""
        if hasattr(driver_connection, "pgconn"):  # psycopg; its ``info`` is built again for each question
            return bool(driver_connection.pgconn.transaction_status != _IDLE)
        ask = getattr(driver_connection, "is_in_transaction", None)
        if ask is not None:
            return bool(ask())
        status = getattr(getattr(driver_connection, "info", None), "transaction_status", None)
        return None if status is None else status != _IDLE

    def can_commit_alone(self, connection: Connection) -> bool:
        """Ask psycopg, which sends BEGIN with the first statement. Other drivers are not asked."""
        if connection.dialect.driver not in ("psycopg", "psycopg_async"):
            return False
        driver: Any = connection.connection.driver_connection
        return (
            driver.pgconn.transaction_status == _IDLE
            and driver.pgconn.pipeline_status == _NO_PIPELINE
            and driver.isolation_level is None
            and driver.read_only is None
            and driver.deferrable is None
        )

    def begin(self, connection: Connection) -> None:
        """Do nothing: drivers for PostgreSQL begin with the first statement, whatever it is."""

    def begin_reading(self, connection: Connection) -> None:
        """Have the server refuse writes.

        Not by ``postgresql_readonly``: the pool takes it back by asking for READ WRITE, which a standby refuses from then on.
        """
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    def sees_one_state(self, connection: Connection) -> bool:
        """Ask for the isolation level."""
        return connection.scalar(text("SHOW transaction_isolation")) in ("repeatable read", "serializable")

    def sees_what_is_committed(self) -> ColumnElement[bool]:
        """Ask for the isolation level."""
        level = func.current_setting(_word("'transaction_isolation'", Text), type_=Text)
        return level.not_in([_word("'repeatable read'", Text), _word("'serializable'", Text)])

    def insert(self, table: Table) -> Insert:
        """Begin an INSERT."""
        return insert(table)

    def document(self, text: ColumnElement[str]) -> ColumnElement[Any]:
        """Cast the text."""
        return cast(text, JSONB)

    def is_among(self, column: Column[Any], parameter: str) -> ColumnElement[bool]:
        """Have the server read the array: one parameter, however many there are."""
        each = func.json_array_elements_text(cast(bindparam(parameter, type_=Text), JSON)).column_valued("each")
        return column.in_(select(cast(each, column.type)))

    def moment_after(self, delay: timedelta) -> ColumnElement[datetime]:
        """Add to the server's clock."""
        return statement_clock() + literal(delay, Interval)

    def insert_statements(self, events: Table, columns: tuple[str, ...], keys: KeysToLock | None) -> InsertStatements:
        """Build the INSERTs; that of many rows takes them as one document."""
        return insert_statements(events, columns, keys)

    def ends_of_streams(self, connection: Connection, events: Table, streams: Sequence[tuple[str, str]]) -> Iterator[Any]:
        """Look each stream up in the index of the unique constraint, by one statement for all."""
        asked = func.unnest(bindparam("types", type_=ARRAY(Text)), bindparam("ids", type_=ARRAY(Text)))
        names = column("aggregate_type", Text), column("aggregate_id", Text)
        stream = asked.table_valued(*names, name="asked").render_derived()
        is_of_stream = (events.c.aggregate_type == stream.c.aggregate_type) & (events.c.aggregate_id == stream.c.aggregate_id)
        backwards = select(events.c.version, events.c.event_type).where(is_of_stream).order_by(events.c.version.desc())
        last = backwards.limit(1).correlate(stream).lateral("last")
        version, is_closed = (
            func.coalesce(last.c.version, 0),
            func.coalesce(last.c.event_type.in_([CLOSED_TYPE, ARCHIVED_TYPE]), false()),
        )
        wanted = select(
            stream.c.aggregate_type, stream.c.aggregate_id, version.label("version"), is_closed.label("is_closed")
        ).select_from(stream.outerjoin(last, true()))
        types, ids = zip(*streams, strict=True) if streams else ((), ())
        yield from connection.execute(wanted, {"types": list(types), "ids": list(ids)})

    def become_writer(self, connection: Connection, table: Table) -> None:
        """Do nothing: many may write."""

    def lock_log(self, connection: Connection, events: Table, *, to_change: bool = False) -> None:
        """Lock the table against writers, not against readers; to change it, against others who lock it, too."""
        connection.execute(lock_table(events, "SHARE ROW EXCLUSIVE" if to_change else "SHARE"))

    def older_view(self, connection: Connection, transaction_id: str) -> str | None:
        """Look at the snapshots of all processes, which everybody may see; what cleans up tables appends nothing.

        A transaction id that lies ahead, or far back, comes from another cluster, or nobody remembers it.
        """
        row = connection.execute(_OLDER_VIEW, {"transaction_id": transaction_id, "far": _FAR_BACK}).one_or_none()
        return None if row is None else f"process {row.pid} ({row.application_name or 'unnamed'})"

    @contextmanager
    def letting_events_change(self, connection: Connection, events: Table) -> Iterator[None]:  # noqa: ARG002 - for all logs
        """Set the switch that the triggers ask for, and set it back; after an error that is left to the rollback."""
        connection.execute(select(func.set_config(SWITCH, "on", True)))  # noqa: FBT003 - until the transaction ends
        yield
        connection.execute(select(func.set_config(SWITCH, "off", True)))  # noqa: FBT003

    def lock_checkpoints(self, connection: Connection, positions: Table) -> None:
        """Lock the table against all who would write to it, not against readers."""
        connection.execute(lock_table(positions, "EXCLUSIVE"))

    def lock_stream(self, connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> None:
        """Take a transaction-level advisory lock; the log's number in the catalogue distinguishes the logs of tenants."""
        connection.execute(select(func.pg_advisory_xact_lock(_stream_key(connection, events, aggregate_type, aggregate_id))))

    def lock_stream_if_free(self, connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> bool:
        """Try to take it."""
        key = _stream_key(connection, events, aggregate_type, aggregate_id)
        return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(key))))

    def idle_limit(self) -> list[ColumnElement[Any]]:
        """Set ``idle_in_transaction_session_timeout``, unless it is shorter."""
        return [_idle_limit()]

    def limit_waits(self, connection: Connection, *, for_locks: float | None, idle: float | None) -> None:
        """Set ``lock_timeout`` and ``idle_in_transaction_session_timeout``, in one statement."""
        if for_locks is not None or idle is not None:
            values = {"locks": milliseconds(for_locks), "idle": milliseconds(idle)}
            _limits(for_locks=for_locks is not None, idle=idle is not None).execute(connection, values)

    def limit_statements(self, connection: Connection, seconds: float) -> None:
        """Set ``statement_timeout``, and switch ``jit`` off: compiling a statement takes longer than such a one is to take."""
        until_the_end: ColumnElement[bool] = literal_column("true")
        limit = func.set_config("statement_timeout", milliseconds(seconds), until_the_end)
        connection.execute(select(limit, func.set_config("jit", "off", until_the_end)))

    def stored_bytes(self, document: ColumnElement[Any]) -> ColumnElement[int]:
        """Ask for its size, compressed as it may be."""
        return func.pg_column_size(document, type_=Integer)

    def check_constraints(self, connection: Connection) -> None:
        """Check the deferred ones."""
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))

    def snapshot(self, connection: Connection) -> str | None:
        """Ask for the running statement's snapshot."""
        snapshot: str = connection.execute(select(current_snapshot())).scalar_one()
        return snapshot

    def committed_with(self, events: FromClause, other: FromClause) -> ColumnElement[bool]:
        """Compare the transactions that wrote them."""
        return events.c.transaction_id == other.c.transaction_id

    def written_with(self, events: FromClause, first: FromClause) -> ColumnElement[bool]:
        """Compare the transactions; a savepoint has that of its transaction."""
        return events.c.transaction_id == first.c.transaction_id

    def taken(self, events: Table, positions: Table) -> ColumnElement[bool]:
        """Take what the cursor sees and, of the window that is being processed, what lies before the position."""
        seen = func.coalesce(visible_in(events, positions.c.snapshot_cursor), false())
        walked = and_(
            func.coalesce(visible_in(events, positions.c.window_end), false()),
            events.c.position <= positions.c.last_processed_position,
        )
        return or_(seen, walked)

    def oldest_transaction(self, connection: Connection) -> tuple[int, str, float] | None:
        """Ask the server, which shows others' names only to those who may see them (role ``pg_read_all_stats``)."""
        row = connection.execute(
            text("""
                SELECT pid, coalesce(application_name, ''), extract(epoch FROM clock_timestamp() - xact_start)
                FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND backend_xid IS NOT NULL AND xact_start IS NOT NULL
                ORDER BY age(backend_xid) DESC
                LIMIT 1
            """)
        ).one_or_none()
        return None if row is None else (row[0], row[1], float(row[2]))

    def open_writers(self, connection: Connection, table: Table) -> list[OpenWriter]:
        """Look at the locks: whoever inserts has locked the table before, until its transaction can be seen to have ended."""
        statement = text("""
            SELECT locks.virtualtransaction, sessions.xact_start,
                   coalesce(
                       'process ' || locks.pid || ' (' || coalesce(nullif(sessions.application_name, ''), 'unnamed') || ')',
                       'a prepared transaction'
                   )
            FROM pg_locks AS locks LEFT JOIN pg_stat_activity AS sessions ON sessions.pid = locks.pid
            WHERE locks.locktype = 'relation' AND locks.mode = 'RowExclusiveLock' AND locks.granted
              AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND locks.relation = to_regclass(:name) AND locks.pid IS DISTINCT FROM pg_backend_pid()
        """)
        return [OpenWriter(*row) for row in connection.execute(statement, {"name": regclass_name(connection, table)})]

    def unique_indexes(self, connection: Connection, table: Table) -> set[str]:
        """Ask the catalogue for those that are valid."""
        statement = text("""
            SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE indrelid = to_regclass(:name) AND indisunique AND indisvalid
        """)
        return set(connection.scalars(statement, {"name": regclass_name(connection, table)}))


_FAR_BACK = 1_000_000_000
"""Half of the transaction ids that PostgreSQL tells apart by 32 bits."""

_OLDER_VIEW = text("""
    SELECT pid, application_name
    FROM pg_stat_activity, (
        SELECT CAST(CAST(:transaction_id AS text) AS xid8) AS id,
            CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) - CAST(:transaction_id AS bigint) AS back
    ) AS other
    WHERE CAST(other.id AS text) = CAST(pg_current_xact_id_if_assigned() AS text) AND pid = pg_backend_pid()
       OR back BETWEEN 0 AND :far AND datname = current_database() AND pid <> pg_backend_pid()
          AND backend_type IS DISTINCT FROM 'autovacuum worker' AND age(backend_xmin) >= age(CAST(other.id AS xid))
    ORDER BY pid <> pg_backend_pid()
    LIMIT 1
""")


def _stream_key(connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> ColumnElement[int]:
    log: ColumnElement[str] = cast(cast(cast(regclass_name(connection, events), REGCLASS), OID), Text)
    if is_shared_by_tenants(events):
        log = log + func.current_setting(_word(f"'{TENANT_SETTING}'", Text), _word("true", Boolean), type_=Text)
    return func.hashtextextended(log + f"/{aggregate_type}/{aggregate_id}", cast(0, BigInteger))


@cache
def _limits(*, for_locks: bool, idle: bool) -> DriverStatement:
    """Build the statement that limits waits; the limits are parameters, in milliseconds."""
    settings = []
    if for_locks:
        settings.append(_setting("lock_timeout", "locks", when=_word("current_setting('lock_timeout') = '0'", Boolean)))
    if idle:
        settings.append(_idle_limit())
    return DriverStatement(select(*settings))


def _idle_limit() -> ColumnElement[str]:
    own = _word("current_setting('idle_in_transaction_session_timeout')::interval", Interval)
    limit = cast(bindparam("idle", type_=Text) + _word("'ms'", Text), Interval)
    is_shorter = and_(own > _word("interval '0'", Interval), own < limit)
    return _setting("idle_in_transaction_session_timeout", "idle", when=not_(is_shorter))


def _setting(name: str, parameter: str, *, when: ColumnElement[bool]) -> ColumnElement[str]:
    until_the_transaction_ends = _word("true", Boolean)
    return case((when, func.set_config(_word(f"'{name}'", Text), bindparam(parameter, type_=Text), until_the_transaction_ends)))


def _word(text: str, type_: Any) -> ColumnElement[Any]:
    return literal_column(text, type_)
