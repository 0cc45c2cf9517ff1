"""Clinics that share tables, each a tenant: models of each kind."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import EventSourceOptions, Inbox, ReadModel, RecordedEvent, command_handler, handles, map_from_event
from sa_eventsource.read_models import count
from tests.clinic import Admitted, AnyPatient, Discharged
from tests.database_roles import PLAIN_ROLES, grant_with_tables
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(
        tenants=True, roles=PLAIN_ROLES, commands="commands", master_keys=MASTER_KEYS, anonymisations="anonymisations"
    )


class Patient(AnyPatient, Base):
    __aggregate_type__ = "shared.Patient"


class Beds(ReadModel, Base):
    """Strong, in a table of its own, with a unique value beside the key."""

    __tablename__ = "beds"
    __projection_name__ = "shared.beds"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
    bed: Mapped[int] = map_from_event(Admitted, unique=True)


class PerBed(ReadModel, Base):
    """Eventual, in the shared table: a row takes events of many streams."""

    __projection_name__ = "shared.per_bed"

    bed: Mapped[int] = map_from_event(Admitted, key=True)
    patients: Mapped[int] = map_from_event(Admitted, reduce=count())


class Names(ReadModel, Base):
    """Eventual, in clear, in a table of its own."""

    __tablename__ = "names"
    __projection_name__ = "shared.names"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(Admitted)


class Discharges(ReadModel, Base):
    """Written by a handler."""

    __tablename__ = "discharges"
    __projection_name__ = "shared.discharges"

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")

    @classmethod
    @handles(Discharged)
    def _discharged(cls, recorded: RecordedEvent[Discharged], session: Session) -> None:
        session.merge(cls(id=recorded.aggregate_id))


class Admit(BaseModel):
    __command_type__ = "shared.Admit"

    patient_id: str
    name: str
    bed: int = 1


@command_handler(Admit)
def admit(command: Admit, session: Session) -> None:
    session.add(Patient.admit(command.patient_id, command.name, bed=command.bed))


inbox = Inbox(Base)

grant_with_tables(Base)
