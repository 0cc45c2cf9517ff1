"""A database with the clinic's tables and its roles."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import Session

from sa_eventsource import ReadModelManager
from tests.roles.hospital import Base, Patient


@pytest.fixture
def tables() -> MetaData:
    """The clinic's tables, with the roles, are there from the beginning."""
    return Base.metadata


@pytest.fixture
def clinic(postgres_engine: Engine) -> Engine:
    """An engine of the owner; one patient is there, and one more of whom the eventual models do not know yet."""
    with Session(postgres_engine) as session:
        session.add(Patient.admit("p-1", "Ann"))
        session.commit()
    ReadModelManager(postgres_engine, Base).catch_up()
    with Session(postgres_engine) as session:
        session.add(Patient.admit("p-2", "Bea"))
        session.commit()
    return postgres_engine
