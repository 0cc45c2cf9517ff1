"""A log that is moved stays sealed; with the keys it is read, without them it is an error."""

from __future__ import annotations

from typing import Annotated

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, applies, export_events, import_events
from sa_eventsource.events import Personal
from sa_eventsource.exceptions import SealedValueError
from tests.databases import DatabasePool
from tests.privacy.keys import MASTER_KEYS
from tests.privacy.searching import spellings


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Named(DomainEvent):
    __event_type__ = "moving_sealed_logs.Named"

    name: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]


class Person(AggregateRoot, Base):
    __aggregate_type__ = "moving_sealed_logs.Person"

    name: str = ""

    @applies(Named)
    def _named(self, event: Named) -> None:
        self.name = event.name


def test_an_export_is_sealed_and_needs_the_keys(postgres_engine: Engine, postgres_databases: DatabasePool) -> None:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        person = Person(id="p")
        person.apply_event(Named(name="Zoë Überhöltz"))
        session.add(person)
        session.commit()
    with postgres_engine.connect() as connection:
        lines = list(export_events(connection, Base.metadata.tables["events"]))
        keys = connection.execute(text("SELECT * FROM subject_keys")).mappings().all()
    exported = "\n".join(lines).encode()
    assert [each for each in spellings("Zoë Überhöltz") if each in exported] == []
    with postgres_databases.database() as url:
        other = create_engine(url)
        Base.metadata.create_all(other)
        with other.begin() as connection:
            assert import_events(connection, Base.metadata.tables["events"], lines).added == 1
        with Session(other) as session:
            with pytest.raises(SealedValueError, match="is not in the table of keys"):
                session.get(Person, "p")
            session.rollback()
            session.execute(Base.metadata.tables["subject_keys"].insert(), [dict(each) for each in keys])
            assert session.get_one(Person, "p").name == "Zoë Überhöltz"
        other.dispose()
