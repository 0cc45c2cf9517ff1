"""Databases with the application's tables in them."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.orders import Base


@pytest.fixture
def database(engine: Engine) -> Engine:
    """Engine on a database of each kind, with the application's tables."""
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def postgres(postgres_engine: Engine) -> Engine:
    """Engine on a PostgreSQL database with the application's tables."""
    Base.metadata.create_all(postgres_engine)
    return postgres_engine


@pytest.fixture
async def async_database(async_engine: AsyncEngine) -> AsyncEngine:
    """Asynchronous engine on a database of each kind, with the application's tables."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return async_engine
