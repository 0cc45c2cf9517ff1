"""The bank's tables."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData

from tests.testing.races.bank import Base


@pytest.fixture
def tables() -> MetaData:
    """The bank's."""
    return Base.metadata
