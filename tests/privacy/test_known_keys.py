"""Appends of subjects whose keys are known: one statement, which makes sure that they have these keys still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, select, text
from sqlalchemy.orm import Session

from sa_eventsource import ConcurrencyError, verify
from sa_eventsource.exceptions import SubjectForgottenError
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.privacy import forget, rotate_master_key, rotate_subject_key
from sa_eventsource.privacy.known_keys import KnownKey, KnownKeys
from sa_eventsource.privacy.unwrapped_keys import UnwrappedKeys
from tests.clinic import Visited
from tests.databases import number_waiting
from tests.privacy.forgetting import forget_person
from tests.privacy.keys import VARIABLE, written
from tests.privacy.patients import Base, Patient
from tests.round_trips import round_trips
from tests.threads import in_thread
from tests.waiting import wait_until


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def visited(engine: Engine, *visitors: str, patient_id: str | None = None) -> str:
    """Commit a visit of each, to a new patient or to one who is there."""
    with Session(engine) as session:
        patient = Patient() if patient_id is None else session.get_one(Patient, patient_id)
        visit(patient, *visitors)
        session.add(patient)
        patient_id = patient.id  # which would be asked for after the commit
        session.commit()
        return patient_id


def visit(patient: Patient, *visitors: str) -> None:
    for each in visitors:
        patient.apply_event(Visited(visitor=each.title(), visitor_id=each))


def visitor_of(engine: Engine, patient_id: str) -> str | None:
    with Session(engine) as session:
        return session.get_one(Patient, patient_id).visitor


def key_ids(engine: Engine) -> list[str]:
    """Ids of the keys that the log's values are sealed with, in the order of the log."""
    with engine.connect() as connection:
        sealed = connection.scalars(text("SELECT event_data -> 'visitor' ->> '$sealed' FROM events ORDER BY position"))
        return [each.partition(".")[0] for each in sealed]


@pytest.fixture
def elsewhere(postgres_engine: Engine) -> Iterator[Engine]:
    """The engine of another process, which shares nothing that is known."""
    engine = create_engine(postgres_engine.url)
    yield engine
    engine.dispose()


@pytest.fixture
def here(postgres_engine: Engine) -> Iterator[Engine]:
    """An engine of one connection that nobody listens to."""
    engine = create_engine(postgres_engine.url, pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


Append = Callable[[Engine], str]


def _one(engine: Engine) -> str:
    return visited(engine, "ann")


def _many(engine: Engine) -> str:
    return visited(engine, "ann", "bob", "ann")


def _behind_another_statement(engine: Engine) -> str:
    with Session(engine) as session:
        session.execute(select(1))
        patient = Patient()
        visit(patient, "ann")
        session.add(patient)
        patient_id = patient.id  # which would be asked for after the commit
        session.commit()
        return patient_id


appends = pytest.mark.parametrize("append", [_one, _many, _behind_another_statement], ids=["one", "many", "in a transaction"])


def test_the_first_append_asks_for_keys_and_the_next_takes_one_round_trip(here: Engine) -> None:
    patient_id = _many(here)
    with round_trips(here) as sent:
        _one(here)
    assert len(sent) == 1
    with round_trips(here) as sent:
        _many(here)
    assert len(sent) == 1
    with Session(here) as session:
        found = session.get_one(Patient, patient_id)
        assert (found.visitor, found.version) == ("Ann", 3)


@appends
def test_who_was_forgotten_meanwhile_is_refused_and_nothing_is_written(here: Engine, elsewhere: Engine, append: Append) -> None:
    _many(here)
    forget_person(elsewhere, "ann", Base)
    with pytest.raises(SubjectForgottenError) as caught:
        append(here)
    assert caught.value.subjects == ("ann",)
    assert len(key_ids(here)) == 3
    visited(here, "bob")


@appends
def test_a_rotated_key_is_taken_by_the_next_append(here: Engine, elsewhere: Engine, append: Append) -> None:
    _many(here)
    with Session(elsewhere) as session:
        rotate_subject_key(session, "ann", base=Base)
        session.commit()
    before = key_ids(here)
    patient_id = append(here)
    assert key_ids(here)[3] not in before
    assert visitor_of(here, patient_id) == "Ann"
    with round_trips(here) as sent:
        _one(here)
    assert len(sent) == 1, "the new one is known now"


def test_a_key_that_was_wrapped_again_is_the_same_key(here: Engine, elsewhere: Engine) -> None:
    _many(here)
    with Session(elsewhere) as session:
        rotate_master_key(session, base=Base)
        session.commit()
    with round_trips(here) as sent:
        _one(here)
    assert len(sent) == 1
    assert verify(here, Base).findings == ()


def test_a_key_whose_master_key_is_gone_is_asked_for_again(
    here: Engine, elsewhere: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, written("old", b"o"))
    _many(here)
    monkeypatch.setenv(VARIABLE, ",".join([written("new", b"n"), written("old", b"o")]))
    with Session(elsewhere) as session:
        while rotate_master_key(session, base=Base):
            session.commit()
    monkeypatch.setenv(VARIABLE, written("new", b"n"))
    monkeypatch.setattr("sa_eventsource.privacy.subject_keys._unwrapped", UnwrappedKeys())  # as after five minutes
    assert visitor_of(here, _many(here)) == "Ann"


@appends
def test_a_key_that_was_rolled_back_is_made_again(here: Engine, append: Append) -> None:
    with Session(here) as session:
        patient = Patient()
        visit(patient, "ann")
        session.add(patient)
        session.flush()
        session.rollback()
    assert visitor_of(here, append(here)) == "Ann"


def test_a_conflict_is_a_conflict(here: Engine, elsewhere: Engine) -> None:
    patient_id = _many(here)
    with Session(here) as session:
        patient = session.get_one(Patient, patient_id)
        visited(elsewhere, "bob", patient_id=patient_id)
        visit(patient, "ann")
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        assert (caught.value.expected_version, caught.value.actual_version) == (3, 4)


def test_of_two_databases_each_has_keys_of_its_own(here: Engine, postgres_databases: Any) -> None:
    with postgres_databases.database(Base.metadata) as url:
        there = create_engine(url)
        for engine in (here, there, here, there):
            assert visitor_of(engine, _many(engine)) == "Ann"
        assert not set(key_ids(here)) & set(key_ids(there))
        there.dispose()


def test_a_known_key_that_is_being_destroyed_is_waited_for(here: Engine, elsewhere: Engine) -> None:
    _one(here)
    with Session(elsewhere) as session:
        forget(session, "ann", reason="asked", base=Base)
        thread, errors = in_thread(lambda: _one(here))
        wait_until(lambda: number_waiting(elsewhere))
        session.commit()
    thread.join(60)
    assert [type(each) for each in errors] == [SubjectForgottenError]
    assert len(key_ids(here)) == 1


def test_an_append_with_a_known_key_keeps_forgetting_waiting(here: Engine, elsewhere: Engine) -> None:
    _one(here)
    with Session(here) as session:
        session.execute(select(1))
        patient = Patient()
        visit(patient, "ann")
        session.add(patient)
        session.flush()
        thread, errors = in_thread(lambda: forget_person(elsewhere, "ann", Base))
        wait_until(lambda: number_waiting(elsewhere))
        session.commit()
        thread.join(60)
        assert errors == []
        assert session.get_one(Patient, patient.id).visitor is None


def test_in_other_schemas_keys_are_asked_for(
    here: Engine, elsewhere: Engine, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    with here.begin() as connection:
        connection.execute(text("CREATE SCHEMA other"))
    engine = elsewhere.execution_options(schema_translate_map={None: "other"})
    Base.metadata.create_all(engine)
    _one(elsewhere)
    with statements(elsewhere) as log:
        _one(engine)
        _one(engine)
    assert len([each for each in log if " other.subject_keys" in each and each.startswith("SELECT")]) == 2


def test_so_many_are_known_and_for_so_long(here: Engine) -> None:
    table: Any = tables_of_base("test", Base).subject_keys
    keys = {str(number): KnownKey(str(number), "m", b"") for number in range(5)}
    with here.connect() as connection:
        known = KnownKeys(most=3)
        known.keep(connection, table, keys)
        assert [each for each in keys if known.get(connection, table, [each])] == ["2", "3", "4"]
        known.drop(connection, table, ["3"])
        assert known.get(connection, table, ["2", "3"]) is None
        known = KnownKeys(seconds=0)
        known.keep(connection, table, keys)
        assert known.get(connection, table, ["1"]) is None
