"""Databases with the bakery's tables in them."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData

from tests.commands.bakery import Base


@pytest.fixture
def tables() -> MetaData | None:
    """The bakery's."""
    return Base.metadata
