"""Anonymising in tables that tenants share: one tenant's events, and nobody else's, under a name that others may use too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    ReadModel,
    anonymise,
    applies,
    create_roles,
    map_from_event,
)
from tests.roles.clinic import drop_roles
from tests.shared_tables.hotel import OWN, ROLES, engine_as, session_of


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(tenants=True, roles=ROLES, anonymisations="anonymisations")


class Stayed(DomainEvent):
    __event_type__ = "anonymising_tenants.Stayed"

    guest: str


class Stay(AggregateRoot, Base):
    __aggregate_type__ = "anonymising_tenants.Stay"
    __snapshot_frequency__ = 1

    guest: str = ""

    @applies(Stayed)
    def _stayed(self, event: Stayed) -> None:
        self.guest = event.guest


class Stays(ReadModel, Base):
    __tablename__ = "anonymising_tenants_stays"
    __projection_name__ = "anonymising_tenants.stays"
    __consistency__ = "strong"

    guest: Mapped[str] = map_from_event(Stayed)


@pytest.fixture
def officer(postgres_engine: Engine) -> Iterator[Engine]:
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
        for name in ROLES.names():
            connection.execute(text(f"ALTER ROLE {name} LOGIN PASSWORD '{OWN}'"))
    app = engine_as(postgres_engine, ROLES.app)
    for tenant, guest in (("alpha", "Ann"), ("beta", "Bob")):
        with session_of(app, tenant) as session:
            stay = Stay(id="s-1")
            stay.apply_event(Stayed(guest=guest))
            session.add(stay)
            session.commit()
    app.dispose()
    engine = engine_as(postgres_engine, ROLES.privacy_officer)
    yield engine
    engine.dispose()
    drop_roles(postgres_engine, *ROLES.names())


def guests(engine: Engine, tenant: str) -> tuple[str, list[str]]:
    with session_of(engine, tenant) as session:
        return session.get_one(Stay, "s-1").guest, list(session.scalars(select(Stays.guest)))


def test_a_tenant_is_anonymised_alone(officer: Engine) -> None:
    for tenant, others in (("alpha", ("Bob", ["Bob"])), ("beta", ("-", ["-"]))):
        assert anonymise_all(officer, tenant) == 1
        assert guests(officer, tenant) == ("-", ["-"])
        assert guests(officer, "beta") == others


def anonymise_all(engine: Engine, tenant: str) -> int:
    while True:
        with session_of(engine, tenant) as session:
            events: Any = EventStore(session, Base).events
            done = anonymise(events, ["guest"], lambda _field: "-", name="all", reason="retention")
            session.commit()
        if done.is_finished:
            return done.events
