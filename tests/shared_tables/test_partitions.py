"""A log that tenants share may have partitions, and be moved into them and out again with its policies."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, Roles, applies, create_roles, event_record, verify
from sa_eventsource.migrations.repartition import repartition
from tests.roles.clinic import drop_roles
from tests.shared_tables.hotel import OWN as PASSWORD
from tests.shared_tables.hotel import engine_as, for_tenant, session_of

OWN = uuid4().hex[:8]
ROLES = Roles(app=f"tp_app_{OWN}", worker=f"tp_worker_{OWN}", reader=f"tp_reader_{OWN}", privacy_officer=f"tp_officer_{OWN}")


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(tenants=True, roles=ROLES, partitions=2)


class Counted(DomainEvent):
    __event_type__ = "shared_partitions.Counted"


class Counter(AggregateRoot, Base):
    __aggregate_type__ = "shared_partitions.Counter"

    number: int = 0

    @applies(Counted)
    def _counted(self, _event: Counted) -> None:
        self.number += 1


@pytest.fixture
def owner(postgres_engine: Engine) -> Iterator[Engine]:
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
        for name in (ROLES.app, ROLES.worker):
            connection.exec_driver_sql(f"ALTER ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    yield postgres_engine
    drop_roles(postgres_engine, *ROLES.names())


def test_partitions_keep_tenants_apart_and_so_does_a_move(owner: Engine) -> None:
    app, worker = engine_as(owner, ROLES.app), engine_as(owner, ROLES.worker)
    for times, tenant in enumerate(("alpha", "beta"), 1):
        with session_of(app, tenant) as session:
            counter = Counter(id="1")
            for _ in range(times):
                counter.apply_event(Counted())
            session.add(counter)
            session.commit()
    events = event_record(Base).__table__
    for partitions in (2, None, 3, 2):
        if partitions != 2 or _partitions(owner) != partitions:
            with owner.begin() as connection:
                repartition(connection, events, partitions)
        for times, tenant in enumerate(("alpha", "beta"), 1):
            with session_of(app, tenant) as session:
                assert session.get_one(Counter, "1").number == times
        with app.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM events")) == 0
    assert verify(for_tenant(worker, "alpha"), Base).findings == ()
    for engine in (app, worker):
        engine.dispose()


def _partitions(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")) or 0
