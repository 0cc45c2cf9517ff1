"""Databases with the tables of the fulfilment in them."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData

from tests.process_managers.fulfilment import Base


@pytest.fixture
def tables() -> MetaData | None:
    """Those of the fulfilment."""
    return Base.metadata
