"""The shop's log, for every broker."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData

from tests.publishing.shop import Base


@pytest.fixture
def tables() -> MetaData | None:
    """The shop's."""
    return Base.metadata


@pytest.fixture
def shop(postgres_engine: Engine) -> Engine:
    """Engine on a database with the shop's tables."""
    return postgres_engine
