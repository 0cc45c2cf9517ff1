"""What the pages of events read: of each payload its beginning, and of sealed ones no more is opened than is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import DomainEvent, EventSourceOptions, Personal, event_context
from sa_eventsource.browser import Access, listed_events
from sa_eventsource.browser.listed_events import MOST_OPENED, PREVIEW, select_listed
from sa_eventsource.browser.shown_json import LONGEST
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


def page_of(engine: Engine, event: DomainEvent) -> tuple[str, str]:
    """Store an event, and read its page, and all of its payload."""
    Base.metadata.create_all(engine)
    commit_events(engine, Patient, "p-1", event)
    with engine.connect() as connection:
        event_id = connection.execute(select(EVENTS.c.event_id)).scalar_one()
    browser = browser_of(Base, engine, authorize=lambda _request: Access(personal_data=True))
    return words_of(visit(browser, f"/events/{event_id}")), visit(browser, f"/events/{event_id}/payload").text


def test_of_a_long_payload_the_page_of_its_event_reads_what_it_shows(engine: Engine, opened: list[str]) -> None:
    letter = LetterWritten(text="long ago " * 200_000, patient="p-1", signature="Wilhelmina")
    page, whole = page_of(engine, letter)
    assert ("long ago" in page, "Wilhelmina" in page, "The first 20 000 characters." in page) == (True, False, True)
    assert "bytes as stored" in page
    assert LetterWritten.model_validate_json(whole) == letter
    assert opened == []
    with engine.connect() as connection:
        (row,) = connection.execute(select_listed(connection, EVENTS, longest=LONGEST)).all()
    assert len(row.event_data) <= LONGEST + 2


def test_of_a_large_sealed_value_the_page_of_its_event_shows_what_is_before_it(engine: Engine, opened: list[str]) -> None:
    letter = LetterWritten(text="long ago", patient="p-1", signature="w" * 2_000_000)
    page, whole = page_of(engine, letter)
    assert ("long ago" in page, "www" in page, "sealed" in page, "as text" in page) == (True, False, False, True)
    assert "The payload is large; this is what comes before its first personal data." in page
    assert LetterWritten.model_validate_json(whole) == letter
    assert opened == []


def test_of_a_payload_of_usual_length_the_page_of_its_event_shows_all(engine: Engine, opened: list[str]) -> None:
    letter = LetterWritten(text="long ago " * 2_000, patient="p-1", signature="Wilhelmina")
    page, whole = page_of(engine, letter)
    assert ("Wilhelmina" in page, "characters." in page) == (True, False)
    assert f"{len(whole.encode()):_} bytes · as text".replace("_", " ") in page
    assert opened == ["listed.LetterWritten"]
