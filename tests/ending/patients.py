"""Streams with personal data that are archived: patients of the clinic who have gone home."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import EventSourceOptions, ReadModel, StoredField, archive, map_from_event, unarchive
from tests.clinic import Admitted, AnyPatient, Visited
from tests.privacy.keys import MASTER_KEYS

BASE = "tests.ending.patients:Base"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(archives="archives", master_keys=MASTER_KEYS, anonymisations="anonymisations")


class Patient(AnyPatient, Base):
    """A patient of whom no snapshots are taken."""

    __aggregate_type__ = "ending.Patient"
    __snapshot_frequency__ = None


class Patients(ReadModel, Base):
    """Who was where; names in clear."""

    __tablename__ = "ending_patients"
    __projection_name__ = "ending_patients"
    __consistency__ = "strong"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(Admitted)
    ward: Mapped[str] = map_from_event(Admitted)


def stay(engine: Engine, patient_id: str, *wards: str) -> None:
    """Commit a patient who was admitted to some wards, one after the other, was visited, and went home: the stream is closed."""
    with Session(engine) as session:
        patient = Patient(id=patient_id)
        for ward in wards or ("A",):
            patient.apply_event(Admitted(name=f"Annabelle of {patient_id}", person_id=patient_id, ward=ward))
        patient.apply_event(Visited(visitor="Bea", visitor_id=f"visitor of {patient_id}"))
        patient.close_stream("went home")
        session.add(patient)
        session.commit()


def put_away(engine: Engine, patient_id: str, **options: Any) -> Any:
    """Archive a patient's stream."""
    with Session(engine) as session:
        done = archive(session, Patient, patient_id, reason="r", **options)
        session.commit()
        return done


def bring_back(engine: Engine, patient_id: str, **options: Any) -> Any:
    """Bring a patient's stream back."""
    with Session(engine) as session:
        done = unarchive(session, Patient, patient_id, reason="r", **options)
        session.commit()
        return done


def hide(_field: StoredField) -> Any:
    """Anonymise what a field holds."""
    return "(gone)"
