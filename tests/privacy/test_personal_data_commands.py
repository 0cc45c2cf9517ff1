"""``sa-eventsource forget`` and ``rotate-master-key``, and what ``show`` shows of personal data."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DomainEvent, EnvironmentKeys, EventSourceOptions, Personal, applies
from tests.cli.commands import call, succeed
from tests.privacy.keys import written

VARIABLE = "SA_EVENTSOURCE_TEST_KEYS_OF_COMMANDS"
BASE = "tests.privacy.test_personal_data_commands:Base"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=EnvironmentKeys(VARIABLE))


class Named(DomainEvent):
    __event_type__ = "personal_data_commands.Named"

    name: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]


class Person(AggregateRoot, Base):
    __aggregate_type__ = "personal_data_commands.Person"

    name: str = ""

    @applies(Named)
    def _named(self, event: Named) -> None:
        self.name = event.name


def test_someone_is_forgotten_by_a_command(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, written("2025", b"a"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        person = Person(id="p-1")
        person.apply_event(Named(name="Annabelle"))
        session.add(person)
        session.commit()
    monkeypatch.setenv(VARIABLE, f"{written('2026', b'b')},{written('2025', b'a')}")
    assert "1 keys were wrapped anew" in succeed("rotate-master-key", BASE, engine=engine).stderr
    shown = json.loads(succeed("show", BASE, "personal_data_commands.Person", "p-1", "--json", engine=engine).stdout)
    assert shown["state"]["name"] == "Annabelle"
    assert "Annabelle" not in json.dumps(shown["events"][0]["event_data"]), "that is as it is stored"
    assert "Annabelle" not in succeed("export", BASE, engine=engine).stdout
    assert call("forget", BASE, "p-1", engine=engine).exit_code == 2, "a reason is needed"
    said = succeed("forget", BASE, "p-1", "--reason", "asked", "--user", "officer-1", "--yes", engine=engine).stderr
    assert said == "p-1 is forgotten\n"
    again = succeed("forget", BASE, "p-1", "--reason", "asked again", "--yes", engine=engine).stderr
    assert again.startswith("p-1 was forgotten already, on ")
    assert again.endswith(": asked\n")
    shown = json.loads(succeed("show", BASE, "personal_data_commands.Person", "p-1", "--json", engine=engine).stdout)
    assert shown["state"]["name"] == "(forgotten)"
    with engine.connect() as connection:
        assert "officer-1" in str(connection.execute(text("SELECT metadata FROM forgotten_subjects")).scalar())
