"""A database that two tenants share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData

from tests.database_roles import PLAIN_ROLES, engine_as, session_of
from tests.shared_tables.clinics import Base, Patient


@pytest.fixture
def tables() -> MetaData | None:
    """Those of the clinics; the roles come with them."""
    return Base.metadata


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """An empty one: SQLite has no tables that tenants share."""
    return tmp_path / "test.db"


@pytest.fixture
def owner(postgres_engine: Engine) -> Engine:
    """An engine of the owner, who is a superuser in tests."""
    return postgres_engine


@pytest.fixture
def app(owner: Engine) -> Iterator[Engine]:
    """An engine as the application has it: with a pool, as the role of the application; each tenant has a patient "1"."""
    engine = engine_as(owner, PLAIN_ROLES.app)
    for tenant, name in (("alpha", "Ann"), ("beta", "Bob")):
        with session_of(engine, tenant) as session:
            session.add(Patient.admit("1", name, person_id="g-1"))
            session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def worker(owner: Engine, app: Engine) -> Iterator[Engine]:
    """An engine as the worker has it."""
    engine = engine_as(owner, PLAIN_ROLES.worker)
    yield engine
    engine.dispose()
