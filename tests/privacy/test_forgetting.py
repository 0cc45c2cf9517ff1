"""Forgetting someone: the values are gone for all who read, and nobody writes them again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import DeclarationError, EventSourcedRepository, EventSourceOptions, EventStore, event_context, verify
from sa_eventsource.exceptions import ForgettingError, SubjectForgottenError
from sa_eventsource.privacy import async_forget, forget
from tests.clinic import Admitted, AnyPatient, Moved, Visited
from tests.databases import number_waiting
from tests.privacy.forgetting import forget_person
from tests.privacy.keys import MASTER_KEYS
from tests.privacy.patients import Base
from tests.privacy.patients import FollowedPatient as Patient
from tests.privacy.searching import places, spellings
from tests.processes import start
from tests.threads import in_thread
from tests.waiting import wait_until

NAME = "Zoë Überhöltz-Ünlü"
VISITOR = "Márton Kovács-Őri"


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def admitted(session: Session, person: str, *, visitor: str | None = None, moves: int = 0) -> Patient:
    patient = admission(person)
    if visitor is not None:
        patient.apply_event(Visited(visitor=VISITOR, visitor_id=visitor))
    session.add(patient)
    session.commit()
    for number in range(moves):
        patient.apply_event(Moved(ward=f"ward {number}"))
        session.commit()
    return patient


def admission(person: str) -> Patient:
    return Patient.admit(uuid4().hex, NAME, person_id=person)


def test_what_is_forgotten_is_read_as_its_placeholder(engine: Engine, session: Session) -> None:
    patient = admitted(session, "z", visitor="m", moves=3)
    patient_id = patient.id
    assert patient.name == NAME
    with event_context(user="officer-1"):
        done = forget(session, "z", reason="request 17", base=Base)
    assert (done.subject, done.reason, done.metadata, done.is_repeated) == ("z", "request 17", {"user": "officer-1"}, False)
    assert patient.name == "(forgotten)", "an instance in the session is read again"
    session.commit()
    with Session(engine) as other:
        found = other.get_one(Patient, patient_id)
        assert (found.name, found.visitor, found.ward, found.version) == ("(forgotten)", VISITOR, "ward 2", 5)
        assert EventSourcedRepository(other, Patient).load_at_version(patient_id, 1).name == "(forgotten)"
        events = EventStore(other, Patient).events
        assert [each.event.name for each in events.of_type(Admitted)] == ["(forgotten)"]
        assert [each.event.visitor for each in events.of_type(Visited)] == [VISITOR]
    assert verify(engine, Base).findings == ()
    record = session.execute(text("SELECT subject, reason FROM forgotten_subjects")).all()
    assert [tuple(each) for each in record] == [("z", "request 17")]


def test_the_second_says_that_it_was_done(session: Session) -> None:
    admitted(session, "z")
    first = forget(session, "z", reason="first", base=Base)
    session.commit()
    second = forget(session, "z", reason="second", base=Base)
    assert second.is_repeated
    assert (second.reason, second.forgotten_at) == (first.reason, first.forgotten_at)


def test_a_rollback_forgets_nobody(session: Session) -> None:
    patient = admitted(session, "z")
    forget(session, "z", reason="by mistake", base=Base)
    session.rollback()
    assert patient.name == NAME


def test_nobody_appends_personal_data_of_someone_who_is_forgotten(session: Session) -> None:
    admitted(session, "z")
    for subject in ("z", "never seen"):
        forget(session, subject, reason="asked", base=Base)
    session.commit()
    for subject in ("z", "never seen"):
        with pytest.raises(SubjectForgottenError) as caught:
            admitted(session, subject)
        assert caught.value.subjects == (subject,)
        session.rollback()


def test_pending_events_are_written_before_and_forgotten_with_the_rest(session: Session) -> None:
    session.add(patient := admission("z"))
    forget(session, "z", reason="asked", base=Base)
    session.commit()
    assert patient.name == "(forgotten)"


def test_snapshots_hold_nothing_in_clear_and_are_gone_with_one_of_their_keys(engine: Engine, session: Session) -> None:
    both = admitted(session, "z", visitor="m")
    own = admitted(session, "o", moves=1)
    count = text("SELECT count(*) FROM snapshots")
    assert session.execute(count).scalar() == 2
    assert places(engine, NAME) == places(engine, VISITOR) == []
    forget(session, "m", reason="asked", base=Base)
    session.commit()
    assert session.execute(select(text("aggregate_id")).select_from(text("snapshots"))).scalars().all() == [own.id]
    assert (both.name, both.visitor) == (NAME, None)
    for ward in ("B", "C"):
        both.apply_event(Moved(ward=ward))
        session.commit()
    assert session.execute(count).scalar() == 2
    session.expire_all()
    assert (both.name, both.visitor, both.ward, both.version) == (NAME, None, "C", 4)
    assert verify(engine, Base).findings == ()


def test_a_sealed_snapshot_saves_reading_the_events_before_it(
    engine: Engine, session: Session, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    patient = admitted(session, "z", moves=5)
    session.execute(text("DELETE FROM snapshots WHERE version < 6"))
    session.expire_all()
    with statements(engine) as log:
        assert (patient.name, patient.ward) == (NAME, "ward 4")
    assert len([each for each in log if each.startswith(("SELECT", "(SELECT"))]) == 2, "events with the snapshot, and keys"
    patient_id = patient.id
    session.commit()
    with Session(engine.execution_options(personal_data="masked")) as masked:
        found = masked.get_one(Patient, patient_id)
        assert (found.name, found.ward) == ("(forgotten)", "ward 4")
        found.apply_event(Moved(ward="B"))
        found.apply_event(Moved(ward="C"))
        masked.commit()
    assert verify(engine.execution_options(personal_data="masked"), Base).findings == ()
    assert (patient.name, patient.ward, patient.version) == (NAME, "C", 8), "who sees placeholders writes no snapshot of them"


def test_nothing_is_left_in_any_table(engine: Engine, session: Session) -> None:
    admitted(session, "z", visitor="m", moves=2)
    forget(session, "z", reason="asked", base=Base)
    session.commit()
    assert places(engine, NAME) == []


def test_the_search_finds_what_is_there(engine: Engine, session: Session) -> None:
    admitted(session, NAME)
    assert places(engine, NAME) == ["events", "subject_keys"], "the subject itself is no personal field"


def test_a_dump_holds_no_name_and_after_forgetting_no_key(
    postgres_engine: Engine, postgres_database_url: str, tmp_path: Path
) -> None:
    with Session(postgres_engine) as session:
        admitted(session, "z", visitor="m", moves=2)
        wrapped = session.execute(text("SELECT encode(wrapped_key, 'hex') FROM subject_keys WHERE subject = 'z'")).scalar_one()
        assert wrapped.encode() in _dump(postgres_engine)
        forget(session, "z", reason="asked", base=Base)
        session.commit()
    dump = _dump(postgres_engine)
    assert wrapped.encode() not in dump
    for name in (NAME, VISITOR):
        assert [each for each in spellings(name) if each in dump] == []


def _dump(engine: Engine) -> bytes:
    """Dump all tables as text, as ``pg_dump`` does by COPY; a log with partitions by way of them."""
    dump = b""
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        for table in ("events", "snapshots", "projections", "subject_keys", "forgotten_subjects"):
            with cursor.copy(f"COPY (SELECT * FROM {table}) TO STDOUT") as rows:
                dump += b"".join(map(bytes, rows))
    return dump


def test_a_transaction_that_sees_one_state_forgets_nobody(postgres_engine: Engine) -> None:
    engine = postgres_engine.execution_options(isolation_level="REPEATABLE READ")
    with Session(engine) as session, pytest.raises(ForgettingError, match="READ COMMITTED"):
        forget(session, "z", reason="asked", base=Base)


def test_arguments_are_checked(session: Session) -> None:
    class Bare(DeclarativeBase):
        pass

    class Further(DeclarativeBase):
        __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)

    class PatientElsewhere(AnyPatient, Further):  # so that who says no base may mean either
        __aggregate_type__ = "forgetting.PatientElsewhere"

    wrong: Any
    for wrong, error in (
        ({"subject": ""}, ValueError),
        ({"subject": 1.5}, ValueError),
        ({"reason": " "}, ValueError),
        ({"reason": 5}, TypeError),
        ({"base": Bare}, DeclarationError),
        ({"base": None}, DeclarationError),
    ):
        with pytest.raises(error):
            forget(session, **{"subject": "z", "reason": "asked", "base": Base, **wrong})
    assert forget(session, uuid4(), reason="asked", base=Base).is_repeated is False


async def test_an_async_session_forgets(async_engine: AsyncEngine) -> None:
    async with AsyncSession(async_engine) as session:
        session.add(patient := admission("z"))
        patient_id = patient.id
        await session.commit()
        done = await async_forget(session, "z", reason="asked", base=Base)
        await session.commit()
        assert not done.is_repeated
        found = await session.get_one(Patient, patient_id)
        assert found.name == "(forgotten)"


@pytest.mark.parametrize("is_new", [False, True])
def test_forgetting_waits_for_an_append_and_takes_it_along(postgres_engine: Engine, is_new: bool) -> None:
    with Session(postgres_engine) as session:
        if not is_new:
            admitted(session, "z")
        session.add(patient := admission("z"))
        session.flush()
        thread, errors = in_thread(lambda: forget_person(postgres_engine, "z", Base))
        wait_until(lambda: number_waiting(postgres_engine))
        session.commit()
        thread.join(60)
        assert errors == []
        session.expire_all()
        assert patient.name == "(forgotten)"


@pytest.mark.parametrize("is_new", [False, True])
def test_an_append_waits_for_forgetting_and_is_refused(postgres_engine: Engine, is_new: bool) -> None:

    def append() -> None:
        with Session(postgres_engine) as session:
            admitted(session, "z")

    with Session(postgres_engine) as session:
        if not is_new:
            admitted(session, "z")
        forget(session, "z", reason="asked", base=Base)
        thread, errors = in_thread(append)
        wait_until(lambda: number_waiting(postgres_engine))
        session.commit()
        thread.join(60)
    assert [type(each) for each in errors] == [SubjectForgottenError]


def test_two_who_forget_at_once_write_one_record(postgres_engine: Engine) -> None:
    results: list[bool] = []

    def forget_it() -> None:
        with Session(postgres_engine) as other:
            results.append(forget(other, "z", reason="second", base=Base).is_repeated)
            other.commit()

    with Session(postgres_engine) as session:
        results.append(forget(session, "z", reason="first", base=Base).is_repeated)
        thread, errors = in_thread(forget_it)
        wait_until(lambda: number_waiting(postgres_engine))
        session.commit()
        thread.join(60)
    assert (errors, results) == ([], [False, True])


def test_two_who_make_the_first_key_at_once_have_one(postgres_engine: Engine) -> None:
    ids: list[Any] = []

    def append() -> None:
        with Session(postgres_engine) as other:
            ids.append(admitted(other, "z").id)

    with Session(postgres_engine) as session:
        session.add(admission("z"))
        session.flush()
        thread, errors = in_thread(append)
        wait_until(lambda: number_waiting(postgres_engine))
        session.commit()
        thread.join(60)
        assert errors == []
        assert session.execute(text("SELECT count(*) FROM subject_keys")).scalar() == 1
        assert session.get_one(Patient, ids[0]).name == NAME


@pytest.mark.parametrize("is_forgotten_first", [False, True])
def test_a_snapshot_that_is_written_meanwhile_is_none(postgres_engine: Engine, is_forgotten_first: bool) -> None:
    with Session(postgres_engine) as session:
        patient = admitted(session, "z")
        patient_id = patient.id
        if is_forgotten_first:
            forget_person(postgres_engine, "z", Base)
        patient.apply_event(Moved(ward="B"))
        session.flush()  # writes the snapshot, and locks no key
        if not is_forgotten_first:
            forget_person(postgres_engine, "z", Base)
        session.commit()
    with Session(postgres_engine) as session:
        found = session.get_one(Patient, patient_id)
        assert (found.name, found.ward) == ("(forgotten)", "B")
    assert places(postgres_engine, NAME) == []


_READER = """
import sys
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from tests.privacy.patients import FollowedPatient

engine = create_engine(sys.argv[1])
for _ in sys.stdin:
    with Session(engine) as session:
        print(session.get_one(FollowedPatient, sys.argv[2]).name, flush=True)
"""


def test_another_process_that_has_the_key_reads_the_placeholder(postgres_engine: Engine, postgres_database_url: str) -> None:
    with Session(postgres_engine) as session:
        patient_id = admitted(session, "z").id
        reader = start(
            [sys.executable, "-c", _READER, postgres_database_url, patient_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert [_asked(reader), _asked(reader)] == [NAME, NAME]
        forget(session, "z", reason="asked", base=Base)
        session.commit()
        assert _asked(reader) == "(forgotten)"
        reader.communicate()


def _asked(reader: subprocess.Popen[str]) -> str:
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write("\n")
    reader.stdin.flush()
    return reader.stdout.readline().strip()
