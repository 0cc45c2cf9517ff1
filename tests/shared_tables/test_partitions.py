"""A log that tenants share may have partitions, and be moved into them and out again with its policies."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import EventSourceOptions, event_record, verify
from sa_eventsource.migrations.repartition import repartition
from tests.clinic import AnyPatient
from tests.database_roles import PLAIN_ROLES, connected_as, for_tenant, grant_with_tables, session_of
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(tenants=True, roles=PLAIN_ROLES, partitions=2, master_keys=MASTER_KEYS)


class Patient(AnyPatient, Base):
    __aggregate_type__ = "shared_partitions.Patient"


grant_with_tables(Base)


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_partitions_keep_tenants_apart_and_so_does_a_move(postgres_engine: Engine) -> None:
    with connected_as(postgres_engine, PLAIN_ROLES.app) as app:
        for name, tenant in (("Ann", "alpha"), ("Bob", "beta")):
            with session_of(app, tenant) as session:
                session.add(Patient.admit("1", name))
                session.commit()
        events = event_record(Base).__table__
        for partitions in (2, None, 3, 2):
            if partitions != 2 or _partitions(postgres_engine) != partitions:
                with postgres_engine.begin() as connection:
                    repartition(connection, events, partitions)
            for name, tenant in (("Ann", "alpha"), ("Bob", "beta")):
                with session_of(app, tenant) as session:
                    assert session.get_one(Patient, "1").name == name
            with app.connect() as connection:
                assert connection.scalar(text("SELECT count(*) FROM events")) == 0
    with connected_as(postgres_engine, PLAIN_ROLES.worker) as worker:
        assert verify(for_tenant(worker, "alpha"), Base).findings == ()


def _partitions(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")) or 0
