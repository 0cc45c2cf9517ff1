"""One database with the accounts, and engines of both dialects for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, MetaData, create_engine

from tests.pipelined.accounts import Base

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def tables() -> MetaData | None:
    """The accounts'."""
    return Base.metadata


@pytest.fixture
def plain(postgres_engine: Engine) -> Iterator[Engine]:
    """Engine of SQLAlchemy's own dialect, with one connection."""
    engine = create_engine(postgres_engine.url.set(drivername="postgresql+psycopg"), pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


@pytest.fixture
def pipelined(postgres_engine: Engine) -> Iterator[Engine]:
    """Engine of the pipelined dialect, with one connection."""
    engine = create_engine(postgres_engine.url.set(drivername="postgresql+psycopg_pipelined"), pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()
