"""A database that two tenants share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from sa_eventsource import create_roles
from tests.roles.clinic import drop_roles
from tests.shared_tables.hotel import OWN, ROLES, Base, Room, engine_as, session_of


@pytest.fixture
def owner(postgres_engine: Engine) -> Iterator[Engine]:
    """An engine of the owner, who is a superuser in tests; the tables and the roles are there."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
        for name in ROLES.names():
            connection.exec_driver_sql(f"ALTER ROLE {name} LOGIN PASSWORD '{OWN}'")
    yield postgres_engine
    drop_roles(postgres_engine, *ROLES.names())


@pytest.fixture
def app(owner: Engine) -> Iterator[Engine]:
    """An engine as the application has it: with a pool, as the role of the application; each tenant has a room "1"."""
    engine = engine_as(owner, ROLES.app)
    for tenant, guest in (("alpha", "Ann"), ("beta", "Bob")):
        with session_of(engine, tenant) as session:
            session.add(Room.book("1", guest))
            session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def worker(owner: Engine, app: Engine) -> Iterator[Engine]:
    """An engine as the worker has it."""
    engine = engine_as(owner, ROLES.worker)
    yield engine
    engine.dispose()
