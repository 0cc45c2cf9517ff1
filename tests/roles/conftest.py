"""A database with the clinic's tables and its roles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import Session

from sa_eventsource import ReadModelManager, create_roles
from tests.roles.clinic import ROLES, Base, Patient, drop_roles, let_log_in


@pytest.fixture
def tables() -> MetaData:
    """The clinic's tables are there from the beginning."""
    return Base.metadata


@pytest.fixture
def clinic(postgres_engine: Engine) -> Iterator[Engine]:
    """An engine of the owner; one patient is there, and one more of whom the eventual models do not know yet."""
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
        let_log_in(connection, *ROLES.names())
    with Session(postgres_engine) as session:
        session.add(Patient.admit("p-1", "Ann"))
        session.commit()
    ReadModelManager(postgres_engine, Base).catch_up()
    with Session(postgres_engine) as session:
        session.add(Patient.admit("p-2", "Bea"))
        session.commit()
    yield postgres_engine
    drop_roles(postgres_engine, *ROLES.names())
