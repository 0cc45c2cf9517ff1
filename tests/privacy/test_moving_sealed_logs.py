"""A log that is moved stays sealed; with the keys it is read, without them it is an error."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, create_engine, text
from sqlalchemy.orm import Session

from sa_eventsource import export_events, import_events
from sa_eventsource.exceptions import SealedValueError
from tests.databases import DatabasePool
from tests.privacy.patients import Base, Patient
from tests.privacy.searching import spellings


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_an_export_is_sealed_and_needs_the_keys(postgres_engine: Engine, postgres_databases: DatabasePool) -> None:
    with Session(postgres_engine) as session:
        session.add(Patient.admit("p", "Zoë Überhöltz"))
        session.commit()
    with postgres_engine.connect() as connection:
        lines = list(export_events(connection, Base.metadata.tables["events"]))
        keys = connection.execute(text("SELECT * FROM subject_keys")).mappings().all()
    exported = "\n".join(lines).encode()
    assert [each for each in spellings("Zoë Überhöltz") if each in exported] == []
    with postgres_databases.database(Base.metadata) as url:
        other = create_engine(url)
        with other.begin() as connection:
            assert import_events(connection, Base.metadata.tables["events"], lines).added == 1
        with Session(other) as session:
            with pytest.raises(SealedValueError, match="is not in the table of keys"):
                session.get(Patient, "p")
            session.rollback()
            session.execute(Base.metadata.tables["subject_keys"].insert(), [dict(each) for each in keys])
            assert session.get_one(Patient, "p").name == "Zoë Überhöltz"
        other.dispose()
