"""What a list of events reads: of each payload its beginning, and of sealed ones no more is opened than is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import DomainEvent, EventSourceOptions, Personal, event_context
from sa_eventsource.browser import Access, listed_events
from sa_eventsource.browser.listed_events import MOST_OPENED, PREVIEW, select_listed
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.store import clear_payloads
from tests.browser.visiting import browser_of, visit, words_of
from tests.clinic import Admitted, AnyPatient
from tests.committing import commit_events
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    """A base whose events have personal data."""

    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class LetterWritten(DomainEvent):
    """A patient wrote a letter, whose text is stored before who wrote it."""

    __event_type__ = "listed.LetterWritten"
    text: str
    patient: str
    signature: Annotated[str, Personal(subject="patient", placeholder="(forgotten)")]


class Patient(AnyPatient, Base):
    """A patient who writes letters."""

    __aggregate_type__ = "listed.Patient"
    __ignored_events__ = (LetterWritten,)


EVENTS = tables_of_base("test", Base).events


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The types of events whose payloads a page opens."""
    types: list[str] = []

    def recorded(connection: Any, events: Any, rows: Sequence[Any]) -> Sequence[str]:
        types.extend(row.event_type for row in rows)
        return clear_payloads(connection, events, rows)

    monkeypatch.setattr(listed_events, "clear_payloads", recorded)
    return types


def log_of(engine: Engine, event: DomainEvent) -> str:
    """Store an event, and read the log."""
    Base.metadata.create_all(engine)
    with event_context(note="m" * 5_000):
        commit_events(engine, Patient, "p-1", event)
    with engine.connect() as connection:
        (row,) = connection.execute(select_listed(connection, EVENTS)).all()
    assert len(row.event_data) <= max(PREVIEW + 2, MOST_OPENED)
    assert len(row.event_metadata) <= PREVIEW + 1
    return words_of(visit(browser_of(Base, engine, authorize=lambda _request: Access(personal_data=True)), "/log"))


def test_a_sealed_value_that_is_shown_is_opened(engine: Engine, opened: list[str]) -> None:
    assert '"Wilhelmina"' in log_of(engine, Admitted(person_id="p-1", name="Wilhelmina"))
    assert opened == ["clinic.Admitted"]


def test_of_a_large_payload_that_is_sealed_what_is_before_that_is_shown(engine: Engine, opened: list[str]) -> None:
    log = log_of(engine, LetterWritten(text="long ago", patient="p-1", signature="w" * MOST_OPENED))
    assert ("long ago" in log, "www" in log, "sealed" in log, "…" in log) == (True, False, False, True)
    assert opened == []


def test_what_is_sealed_further_on_than_is_shown_is_not_opened(engine: Engine, opened: list[str]) -> None:
    log = log_of(engine, LetterWritten(text="long ago " * 300, patient="p-1", signature="Wilhelmina"))
    assert ("long ago" in log, "Wilhelmina" in log) == (True, False)
    assert opened == []


def test_a_payload_that_is_stored_in_few_bytes_and_is_a_long_text_is_not_opened(engine: Engine, opened: list[str]) -> None:
    log = log_of(engine, LetterWritten(text="long ago " * (4 * MOST_OPENED), patient="p-1", signature="Wilhelmina"))
    assert ("long ago" in log, "Wilhelmina" in log) == (True, False)
    assert opened == []
