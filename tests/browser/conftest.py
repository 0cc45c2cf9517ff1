"""A library that tests of pages look at, filled once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from tests.browser.library import fill
from tests.databases import DatabasePool


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A library with sixty books, on a database of each kind in turn. Nothing is written there."""
    if request.param == "sqlite":
        engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('library') / 'library.db'}")
        fill(engine)
        yield engine
        engine.dispose()
        return
    pool: DatabasePool = request.getfixturevalue("postgres_databases")
    with pool.database() as url:
        engine = create_engine(url)
        fill(engine)
        yield engine
        engine.dispose()
