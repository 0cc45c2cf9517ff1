"""Master keys wrap the keys of subjects: from the environment, a file or a service; several by id; kept for some minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import EventSourceOptions
from sa_eventsource.exceptions import MasterKeyError, SealedValueError
from sa_eventsource.privacy import EnvironmentKeys, FileKeys, ServiceKeys
from sa_eventsource.privacy.unwrapped_keys import UnwrappedKeys
from tests.clinic import AnyPatient
from tests.privacy.keys import Service, written

VARIABLE = "SA_EVENTSOURCE_TEST_ROTATED_KEYS"
SERVICE = Service()


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(
        master_keys=EnvironmentKeys(VARIABLE), subject_keys="rotated_keys", forgotten_subjects="rotated_forgotten"
    )


class ServiceBase(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=ServiceKeys(SERVICE.wrap, SERVICE.unwrap))


class Patient(AnyPatient, Base):
    __aggregate_type__ = "master_keys.Patient"
    __snapshot_frequency__ = None


class Served(AnyPatient, ServiceBase):
    __aggregate_type__ = "master_keys.Served"
    __snapshot_frequency__ = None


@pytest.fixture
def session(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv(VARIABLE, written("2025", b"a"))
    # What other tests have unwrapped, this one is to unwrap itself.
    monkeypatch.setattr("sa_eventsource.privacy.subject_keys._unwrapped", UnwrappedKeys())
    Base.metadata.create_all(engine)
    ServiceBase.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def named(session: Session, name: str, kind: type[Patient | Served] = Patient) -> str:
    person = kind.admit(uuid4().hex, name)
    session.add(person)
    session.commit()
    return person.id


def forget_unwrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa_eventsource.privacy.subject_keys._unwrapped", UnwrappedKeys())


def test_the_first_master_key_wraps_and_all_unwrap(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    first = named(session, "Ann")
    monkeypatch.setenv(VARIABLE, f"{written('2026', b'b')},{written('2025', b'a')}")
    second = named(session, "Bob")
    forget_unwrapped(monkeypatch)
    assert [session.get_one(Patient, each).name for each in (first, second)] == ["Ann", "Bob"]
    used = session.execute(text("SELECT subject, master_key FROM rotated_keys")).all()
    assert dict(map(tuple, used)) == {first: "2025", second: "2026"}


def test_a_missing_or_other_master_key_is_an_error_that_blames_no_event(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    person_id = named(session, "Ann")
    forget_unwrapped(monkeypatch)
    for keys, said in (
        (written("2026", b"b"), "has 2026"),
        (written("2025", b"b"), "another one than that which wrapped it"),
        ("", "has none"),
        ("2025:c2hvcnQ=", "key 1 of the environment variable"),
        (f"{written('2025', b'a')} {written('2025', b'a')}", "key 2 of"),
    ):
        monkeypatch.setenv(VARIABLE, keys)
        session.expire_all()
        with pytest.raises(MasterKeyError, match=said) as caught:
            session.get(Patient, person_id)
        assert not isinstance(caught.value, SealedValueError)
        assert "c2hvcnQ" not in str(caught.value), "what may be a key is not shown"
        session.rollback()


def test_a_key_that_is_not_in_the_table_is_an_error_and_no_placeholder(session: Session) -> None:
    person_id = named(session, "Ann")
    session.execute(text("DELETE FROM rotated_keys"))
    session.expire_all()
    with pytest.raises(SealedValueError, match="is not in the table of keys") as caught:
        session.get(Patient, person_id)
    assert caught.value.fields == ("name",)
    assert str(caught.value.key_id) in str(caught.value)


def test_keys_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = FileKeys(path)
    with pytest.raises(MasterKeyError, match="cannot be read"):
        keys.wrap(b"x" * 32)
    path.write_text(f"{written('b', b'2')}\n{written('a', b'1')}\n")
    name, wrapped = keys.wrap(b"x" * 32)
    assert name == "b"
    assert wrapped != b"x" * 32
    assert keys.unwrap(name, wrapped) == b"x" * 32
    assert FileKeys(path) == keys


def test_a_service_is_asked_once_for_a_key_and_again_when_it_is_old(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    SERVICE.asked.clear()
    person_id = named(session, "Ann", Served)
    assert SERVICE.asked == ["wrap"]
    for _ in range(3):
        session.expire_all()
        assert session.get_one(Served, person_id).name == "Ann"
    assert SERVICE.asked == ["wrap"], "what it wrapped is kept"
    now = [1_000_000_000.0]
    monkeypatch.setattr("sa_eventsource.privacy.unwrapped_keys.time.monotonic", lambda: now[0])
    for wait, asked in ((0, 1), (299, 1), (2, 2)):
        now[0] += wait
        session.expire_all()
        _ = session.get_one(Served, person_id).name
        assert SERVICE.asked.count("unwrap") == asked


def test_so_many_unwrapped_keys_are_kept_and_no_more() -> None:
    kept = UnwrappedKeys(most=3)
    for _ in range(10):
        kept.keep("m", uuid4().bytes, b"k" * 32)
    assert len(kept) == 3
