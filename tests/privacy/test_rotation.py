"""Rotating keys: rows of the table of keys are written again, and events are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, EventStore, applies
from sa_eventsource.events import Personal
from sa_eventsource.exceptions import MasterKeyError, SubjectForgottenError
from sa_eventsource.privacy import EnvironmentKeys, forget, rotate_master_key, rotate_subject_key
from sa_eventsource.privacy.unwrapped_keys import UnwrappedKeys
from tests.privacy.keys import written

VARIABLE = "SA_EVENTSOURCE_TEST_KEYS_TO_ROTATE"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=EnvironmentKeys(VARIABLE))


class Named(DomainEvent):
    __event_type__ = "rotation.Named"

    name: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]


class Person(AggregateRoot, Base):
    __aggregate_type__ = "rotation.Person"

    name: str = ""

    @applies(Named)
    def _named(self, event: Named) -> None:
        self.name = event.name


@pytest.fixture
def session(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv(VARIABLE, written("2025", b"a"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def name(session: Session, subject: str, text: str) -> None:
    person = session.get(Person, subject) or Person(id=subject)
    person.apply_event(Named(name=text))
    session.add(person)
    session.commit()


def names(session: Session) -> list[str]:
    """Read all names, with keys that nobody has unwrapped before."""
    return [each.event.name for each in EventStore(session, Person).events.of_type(Named)]


def test_a_master_key_is_rotated_step_by_step(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        name(session, f"p-{number}", f"name {number}")
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
    name(session, "p", "Ann")
    monkeypatch.setenv(VARIABLE, written("2026", b"b"))
    with pytest.raises(MasterKeyError, match="2025"):
        rotate_master_key(session, base=Base)
    session.rollback()
    monkeypatch.setenv(VARIABLE, written("2025", b"a"))
    assert names(session) == ["Ann"]


def test_a_subject_gets_a_new_key_for_what_comes_and_both_go_together(session: Session) -> None:
    name(session, "p", "Ann")
    rotate_subject_key(session, "p", base=Base)
    session.commit()
    name(session, "p", "Anna")
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
