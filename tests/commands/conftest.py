"""Databases with the shop's tables in them."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData

from tests.commands.ordering import Base


@pytest.fixture
def tables() -> MetaData | None:
    """The shop's."""
    return Base.metadata
