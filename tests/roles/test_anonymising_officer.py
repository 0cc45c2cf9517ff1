"""Who may anonymise: the officer, with the rights that the declaration gives, and neither the app nor the worker."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import EventSourceOptions, EventStore, ReadModel, ReadModelManager, map_from_event, verify
from tests.anonymising import anonymise_all
from tests.clinic import Admitted, AnyPatient
from tests.database_roles import ROLES, connected_as, grant_with_tables
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    """Not the hospital's: with the table of anonymisations, the officer has more rights."""

    __eventsource__ = EventSourceOptions(roles=ROLES, anonymisations="anonymisations", master_keys=MASTER_KEYS)


class Patient(AnyPatient, Base):
    __aggregate_type__ = "anonymising_officer.Patient"


class Wards(ReadModel, Base):
    __projection_name__ = "anonymising_officer.wards"

    ward: Mapped[str] = map_from_event(Admitted)


class StrongWards(ReadModel, Base):
    __tablename__ = "strong_wards"
    __projection_name__ = "anonymising_officer.strong_wards"
    __consistency__ = "strong"

    ward: Mapped[str] = map_from_event(Admitted)


grant_with_tables(Base)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def isolated(postgres_engine: Engine) -> Engine:
    """A patient is in a ward that nobody is to know of."""
    with Session(postgres_engine) as session:
        session.add(Patient.admit("p-1", "Cleo", ward="isolation"))
        session.commit()
    ReadModelManager(postgres_engine, Base).catch_up()
    return postgres_engine


def anonymise_in(engine: Engine) -> None:
    with Session(engine) as session:
        anonymise_all(session, EventStore(session, Base).events.of_type(Admitted), "ward", "-")


def test_the_officer_anonymises_and_nobody_else(isolated: Engine) -> None:
    for role in (ROLES.app, ROLES.worker, ROLES.reader):
        with connected_as(isolated, role) as engine, pytest.raises(DBAPIError, match="permission denied"):
            anonymise_in(engine)
    with connected_as(isolated, ROLES.privacy_officer) as engine:
        anonymise_in(engine)
    with Session(isolated) as session:
        assert session.get_one(Patient, "p-1").ward == "-"
        assert session.scalars(select(Wards.ward)).all() == session.scalars(select(StrongWards.ward)).all() == ["-"]
        assert "isolation" not in str(session.execute(text("SELECT * FROM events")).all())
    assert verify(isolated, Base, only=["roles"]).findings == ()
