"""Models whose tables roles have rights on: one of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import uuid4

from pydantic import BaseModel
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    Inbox,
    Personal,
    ReadModel,
    Roles,
    applies,
    command_handler,
    map_from_event,
)
from tests.privacy.keys import MASTER_KEYS

OWN = uuid4().hex[:8]
"""Roles belong to a whole cluster, which several test runs may share."""

ROLES = Roles(app=f'app "{OWN}"', worker=f"worker_{OWN}", reader=f"reader_{OWN}", privacy_officer=f"officer_{OWN}")


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS, commands="commands", roles=ROLES)


class PatientAdmitted(DomainEvent):
    __event_type__ = "roles.PatientAdmitted"

    ward: str
    name: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]


class Patient(AggregateRoot, Base):
    __aggregate_type__ = "roles.Patient"
    __snapshot_frequency__ = 1

    name: str = ""

    @applies(PatientAdmitted)
    def _admitted(self, event: PatientAdmitted) -> None:
        self.name = event.name

    @classmethod
    def admit(cls, patient_id: str, name: str) -> Patient:
        patient = cls(id=patient_id)
        patient.apply_event(PatientAdmitted(ward="A", name=name))
        return patient


class Beds(ReadModel, Base):
    __tablename__ = "beds"
    __projection_name__ = "roles.beds"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(PatientAdmitted, key=True, source="aggregate_id")
    ward: Mapped[str] = map_from_event(PatientAdmitted)


class Wards(ReadModel, Base):
    __projection_name__ = "roles.wards"

    id: Mapped[str] = map_from_event(PatientAdmitted, key=True, source="aggregate_id")
    ward: Mapped[str] = map_from_event(PatientAdmitted)


class Names(ReadModel, Base):
    __tablename__ = "names"
    __projection_name__ = "roles.names"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(PatientAdmitted, key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(PatientAdmitted)


inbox = Inbox(Base)


class Admit(BaseModel):
    __command_type__ = "roles.Admit"

    patient_id: str


@command_handler(Admit)
def admit(command: Admit, session: Session) -> None:
    session.add(Patient.admit(command.patient_id, "Cleo"))


@contextmanager
def connected_as(engine: Engine, role: str) -> Iterator[Engine]:
    """Connect to the database of an engine as a role."""
    other = create_engine(engine.url.set(username=role, password=OWN))
    try:
        yield other
    finally:
        other.dispose()


def let_log_in(connection: Connection, *names: str) -> None:
    """Let roles log in."""
    for name in names:
        role = connection.dialect.identifier_preparer.quote_identifier(name)
        connection.exec_driver_sql(f"ALTER ROLE {role} LOGIN PASSWORD '{OWN}'")


def drop_roles(engine: Engine, *names: str) -> None:
    """Take roles, and all their rights in this database, out of the cluster."""
    with engine.begin() as connection:
        preparer = connection.dialect.identifier_preparer
        for name in names:
            if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": name}):
                role = preparer.quote_identifier(name)
                connection.exec_driver_sql(f"DROP OWNED BY {role}")
                connection.exec_driver_sql(f"DROP ROLE {role}")
