"""Databases with the application's tables in them."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

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
