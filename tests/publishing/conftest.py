"""The shop's log, for every broker."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tests.publishing.shop import Base


@pytest.fixture
def shop(postgres_engine: Engine) -> Engine:
    """Engine on a database with the shop's tables."""
    Base.metadata.create_all(postgres_engine)
    return postgres_engine
