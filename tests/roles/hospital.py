"""The clinic with roles that have rights on its tables: one of each kind."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import EventSourceOptions, Inbox, ReadModel, command_handler, map_from_event
from tests.clinic import Admitted, AnyPatient
from tests.database_roles import ROLES, grant_with_tables
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS, commands="commands", roles=ROLES)


class Patient(AnyPatient, Base):
    __aggregate_type__ = "roles.Patient"


class Beds(ReadModel, Base):
    __tablename__ = "beds"
    __projection_name__ = "roles.beds"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
    ward: Mapped[str] = map_from_event(Admitted)


class Wards(ReadModel, Base):
    __projection_name__ = "roles.wards"

    id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
    ward: Mapped[str] = map_from_event(Admitted)


class Names(ReadModel, Base):
    __tablename__ = "names"
    __projection_name__ = "roles.names"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(Admitted)


inbox = Inbox(Base)


class Admit(BaseModel):
    __command_type__ = "roles.Admit"

    patient_id: str


@command_handler(Admit)
def admit(command: Admit, session: Session) -> None:
    session.add(Patient.admit(command.patient_id, "Cleo"))


grant_with_tables(Base)
