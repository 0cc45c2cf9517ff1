"""The tables that the databases of these tests have from the beginning."""

from __future__ import annotations

import pytest
from sqlalchemy import MetaData

from tests.integrity.proven_log import Base


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata
