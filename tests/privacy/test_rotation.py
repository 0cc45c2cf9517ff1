"""Rotating keys: rows of the table of keys are written again, and events are not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import EventSourceOptions, EventStore
from sa_eventsource.exceptions import MasterKeyError, SubjectForgottenError
from sa_eventsource.privacy import EnvironmentKeys, forget, rotate_master_key, rotate_subject_key
from sa_eventsource.privacy.unwrapped_keys import UnwrappedKeys
from tests.clinic import Admitted, AnyPatient
from tests.privacy.keys import written

VARIABLE = "SA_EVENTSOURCE_TEST_KEYS_TO_ROTATE"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=EnvironmentKeys(VARIABLE))


class Patient(AnyPatient, Base):
    __aggregate_type__ = "rotation.Patient"
    __snapshot_frequency__ = None


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def session(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv(VARIABLE, written("2025", b"a"))
    with Session(engine) as session:
        yield session


def admit(session: Session, patient_id: str, name: str) -> None:
    patient = session.get(Patient, patient_id) or Patient(id=patient_id)
    patient.apply_event(Admitted(name=name, person_id=patient_id))
    session.add(patient)
    session.commit()


def names(session: Session) -> list[str]:
    """Read all names, with keys that nobody has unwrapped before."""
    return [each.event.name for each in EventStore(session, Patient).events.of_type(Admitted)]


def test_a_master_key_is_rotated_step_by_step(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        admit(session, f"p-{number}", f"name {number}")
    forget(session, "p-0", reason="asked", base=Base)
    session.commit()
    log = session.execute(text("SELECT event_id, CAST(event_data AS TEXT) FROM events")).all()
    monkeypatch.setenv(VARIABLE, f"{written('2026', b'b')},{written('2025', b'a')}")
    done: list[int] = []
    while not done or done[-1]:
        done.append(rotate_master_key(session, base=Base, at_most=3))
        session.commit()
    assert done == [3, 1, 0]
    monkeypatch.setenv(VARIABLE, written("2026", b"b"))
    monkeypatch.setattr("sa_eventsource.privacy.subject_keys._unwrapped", UnwrappedKeys())
    assert names(session) == ["(forgotten)", "name 1", "name 2", "name 3", "name 4"]
    assert session.execute(text("SELECT event_id, CAST(event_data AS TEXT) FROM events")).all() == log


def test_a_master_key_that_is_lost_before_is_an_error_and_nothing_is_changed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit(session, "p", "Ann")
    monkeypatch.setenv(VARIABLE, written("2026", b"b"))
    with pytest.raises(MasterKeyError, match="2025"):
        rotate_master_key(session, base=Base)
    session.rollback()
    monkeypatch.setenv(VARIABLE, written("2025", b"a"))
    assert names(session) == ["Ann"]


def test_a_subject_gets_a_new_key_for_what_comes_and_both_go_together(session: Session) -> None:
    admit(session, "p", "Ann")
    rotate_subject_key(session, "p", base=Base)
    session.commit()
    admit(session, "p", "Anna")
    keys = session.execute(text("SELECT generation FROM subject_keys ORDER BY generation")).scalars().all()
    assert keys == [1, 2]
    used = session.execute(text("SELECT CAST(event_data AS TEXT) FROM events ORDER BY version")).scalars().all()
    assert len({each.split('"$sealed"')[1].split(".")[0] for each in used}) == 2
    assert names(session) == ["Ann", "Anna"]
    forget(session, "p", reason="asked", base=Base)
    session.commit()
    assert names(session) == ["(forgotten)", "(forgotten)"]
    with pytest.raises(SubjectForgottenError):
        rotate_subject_key(session, "p", base=Base)
