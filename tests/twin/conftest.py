"""Where the worlds are: on PostgreSQL in one database, on SQLite in two files, as it has one writer at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from tests.databases import DatabasePool, EmbeddedServer, configure_sqlite
from tests.twin.worlds import create_tables

WAITS = {"options": "-c lock_timeout=20ms"}
"""One thread cannot wait for itself."""


@contextmanager
def engines_on_postgresql(url: str, **options: Any) -> Iterator[tuple[Engine, Engine]]:
    """Two engines on one database."""
    engines = [create_engine(url, connect_args=WAITS, **options) for _ in range(2)]
    create_tables(engines[0])
    try:
        yield engines[0], engines[1]
    finally:
        for engine in engines:
            engine.dispose()


@contextmanager
def engines_on_sqlite(folder: Path) -> Iterator[tuple[Engine, Engine]]:
    """Two engines, each on a file of its own."""
    engines = [create_engine(f"sqlite:///{folder / name}.db", connect_args={"timeout": 0}) for name in ("aggregates", "twins")]
    for engine in engines:
        configure_sqlite(engine)
        create_tables(engine)
    try:
        yield engines[0], engines[1]
    finally:
        for engine in engines:
            engine.dispose()


@pytest.fixture
def postgres_engines(postgres_database_url: str) -> Iterator[Callable[..., Any]]:
    """``with postgres_engines(isolation_level=...) as engines:``."""
    yield lambda **options: engines_on_postgresql(postgres_database_url, **options)


@pytest.fixture
def preparing_engines(preparing_server: EmbeddedServer) -> Iterator[tuple[Engine, Engine]]:
    """Two engines on one database that has prepared transactions."""
    pool = DatabasePool(preparing_server.url)
    with pool.database() as url, engines_on_postgresql(url) as engines:
        yield engines
    pool.close()


@pytest.fixture
def sqlite_engines(tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """Two engines, each on a file of its own."""
    with engines_on_sqlite(tmp_path) as engines:
        yield engines
