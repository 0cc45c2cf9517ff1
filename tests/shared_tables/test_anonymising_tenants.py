"""Anonymising in tables that tenants share: one tenant's events, and nobody else's, under a name that others may use too."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from sa_eventsource import EventStore, anonymise
from tests.clinic import Admitted
from tests.database_roles import PLAIN_ROLES, connected_as, session_of
from tests.shared_tables.clinics import Base, Beds, Patient


def found(engine: Engine, tenant: str) -> tuple[str | None, list[int]]:
    """Give what a snapshot, and a row of a strong model, say of a patient."""
    with session_of(engine, tenant) as session:
        return session.get_one(Patient, "1").ward, list(session.scalars(select(Beds.bed)))


def test_a_tenant_is_anonymised_alone(owner: Engine, app: Engine) -> None:
    with connected_as(owner, PLAIN_ROLES.privacy_officer) as officer:
        for tenant, others in (("alpha", ("A", [1])), ("beta", ("-", [0]))):
            assert anonymise_all(officer, tenant) == 1
            assert found(app, tenant) == ("-", [0])
            assert found(app, "beta") == others


def anonymise_all(engine: Engine, tenant: str) -> int:
    hidden: dict[str, Any] = {"ward": "-", "bed": 0}
    while True:
        with session_of(engine, tenant) as session:
            events = EventStore(session, Base).events.of_type(Admitted)
            done = anonymise(events, list(hidden), lambda field: hidden[field.field], name="all", reason="retention")
            session.commit()
        if done.is_finished:
            return done.events
