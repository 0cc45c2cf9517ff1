"""The clinic on a base with master keys."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import EventSourceOptions
from tests.clinic import AnyPatient
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Patient(AnyPatient, Base):
    """A patient of whom no snapshots are taken."""

    __aggregate_type__ = "privacy.Patient"
    __snapshot_frequency__ = None


class FollowedPatient(AnyPatient, Base):
    """A patient with a snapshot every two events."""

    __aggregate_type__ = "privacy.FollowedPatient"
    __snapshot_frequency__ = 2
