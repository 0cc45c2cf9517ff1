"""Databases with the accounts' tables in them."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData

from tests.partitions.accounts import Base


@pytest.fixture
def tables() -> MetaData | None:
    """Those of the accounts."""
    return Base.metadata
