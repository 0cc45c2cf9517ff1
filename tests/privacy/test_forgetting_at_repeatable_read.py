"""A transaction that sees the past appends nothing of somebody who was forgotten; run again, it says why."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import Session

from sa_eventsource import EventStore, SubjectForgottenError
from sa_eventsource.session.retry import retry_on_conflict
from tests.clinic import Admitted
from tests.privacy.forgetting import forget_person
from tests.privacy.patients import Base, Patient


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.mark.parametrize("in_savepoint", [False, True])
def test_whoever_is_forgotten_meanwhile_is_said_to_be_when_it_is_run_again(postgres_engine: Engine, in_savepoint: bool) -> None:
    with Session(postgres_engine) as session:
        session.add(Patient.admit("p-1", "Ann"))
        session.commit()
    seen: list[str | None] = []

    @retry_on_conflict(initial_wait=0)
    def write() -> None:
        with Session(postgres_engine.execution_options(isolation_level="REPEATABLE READ")) as session:
            patient = session.get_one(Patient, "p-1")
            seen.append(patient.name)
            if len(seen) == 1:
                forget_person(postgres_engine, "p-1", Base)
            if in_savepoint:
                with session.begin_nested():
                    patient.apply_event(Admitted(name="Anna", person_id="p-1"))
            else:
                patient.apply_event(Admitted(name="Anna", person_id="p-1"))
            session.commit()

    with pytest.raises(SubjectForgottenError):
        write()
    assert seen == ["Ann", "(forgotten)"]
    with Session(postgres_engine) as session:
        assert EventStore(session, Base).events.count() == 1
