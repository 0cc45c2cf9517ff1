"""``sa-eventsource forget`` and ``rotate-master-key``, and what ``show`` shows of personal data."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import EnvironmentKeys, EventSourceOptions
from tests.cli.commands import call, fail, succeed
from tests.clinic import AnyPatient
from tests.privacy.keys import written

VARIABLE = "SA_EVENTSOURCE_TEST_KEYS_OF_COMMANDS"
BASE = "tests.privacy.test_personal_data_commands:Base"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=EnvironmentKeys(VARIABLE))


class Patient(AnyPatient, Base):
    __aggregate_type__ = "personal_data_commands.Patient"
    __snapshot_frequency__ = None


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_someone_is_forgotten_by_a_command(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, written("2025", b"a"))
    with Session(engine) as session:
        session.add(Patient.admit("p-1", "Annabelle"))
        session.commit()
    monkeypatch.setenv(VARIABLE, f"{written('2026', b'b')},{written('2025', b'a')}")
    assert "1 key was wrapped with the current master key" in succeed("rotate-master-key", BASE, engine=engine).stderr
    shown = json.loads(succeed("show", BASE, "personal_data_commands.Patient", "p-1", "--json", engine=engine).stdout)
    assert shown["state"]["name"] == "Annabelle"
    assert "Annabelle" not in json.dumps(shown["events"][0]["event_data"]), "that is as it is stored"
    assert "Annabelle" not in succeed("export", BASE, engine=engine).stdout
    assert call("forget", BASE, "p-1", engine=engine).exit_code == 2, "a reason is needed"
    said = succeed("forget", BASE, "p-1", "--reason", "asked", "--user", "officer-1", "--yes", engine=engine).stderr
    assert said == "p-1 is forgotten\n"
    again = succeed("forget", BASE, "p-1", "--reason", "asked again", "--yes", engine=engine).stderr
    assert again.startswith("p-1 was forgotten already, on ")
    assert again.endswith(": asked\n")
    shown = json.loads(succeed("show", BASE, "personal_data_commands.Patient", "p-1", "--json", engine=engine).stdout)
    assert shown["state"]["name"] == "(forgotten)"
    with engine.connect() as connection:
        assert "officer-1" in str(connection.execute(text("SELECT metadata FROM forgotten_subjects")).scalar())


def test_a_person_about_whom_nothing_is_encrypted_is_forgotten_with_a_hint(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, written("2025", b"a"))
    with Session(engine) as session:
        session.add(Patient.admit("p-1", "Annabelle"))
        session.commit()
    said = succeed("forget", BASE, "p-11", "--reason", "asked", "--yes", engine=engine).stderr
    hint = "There was no key of that name, so nothing encrypted was about them; check the spelling"
    assert said == f"p-11 is forgotten. {hint}\n"


def test_an_argument_that_the_library_refuses_is_a_wrong_call(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, written("2025", b"a"))
    assert "write a text" in fail("forget", BASE, "p-1", "--reason", "", "--yes", engine=engine, status=2)
    for command in ("forget", "--reason", "asked", "--yes"), ("personal-data",):
        assert "a subject is a text" in fail(command[0], BASE, "", *command[1:], engine=engine, status=2)


def test_who_cannot_forget_is_told_before_being_asked(engine: Engine) -> None:
    message = fail("forget", "tests.orders:Base", "p-1", "--reason", "asked", engine=engine, status=1, stdin="y\n")
    assert "has no master keys" in message
