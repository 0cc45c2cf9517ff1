"""Databases with the application's tables in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.databases import configure_sqlite
from tests.orders import Base


@pytest.fixture
def tables() -> MetaData | None:
    """The application's; a module with other tables says so."""
    return Base.metadata


@pytest.fixture
def database(engine: Engine) -> Engine:
    """Engine on a database of each kind, with the application's tables."""
    return engine


@pytest.fixture
def postgres(postgres_engine: Engine) -> Engine:
    """Engine on a PostgreSQL database with the application's tables."""
    return postgres_engine


@pytest.fixture
def async_database(async_engine: AsyncEngine) -> AsyncEngine:
    """Asynchronous engine on a database of each kind, with the application's tables."""
    return async_engine


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Engine]:
    """Engine on a further database, with the application's tables too."""
    engine = create_engine(f"sqlite:///{tmp_path / 'second.db'}")
    configure_sqlite(engine)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()
