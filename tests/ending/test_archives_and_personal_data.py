"""Archiving beside those who forget someone or anonymise the log: what was to go is not brought back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sa_eventsource import (
    AnonymisationError,
    ArchiveError,
    EventStore,
    ReadModelError,
    anonymise,
    archive,
    compact,
    forget,
    unarchive,
    verify,
)
from sa_eventsource.aggregates import definition_of
from tests.advisory_locks import OWN_ADVISORY_LOCKS
from tests.bank import Opened
from tests.cli.commands import fail, succeed
from tests.clinic import Admitted, Visited
from tests.databases import number_waiting
from tests.ending.patients import BASE, Base, Patient, Patients, bring_back, hide, put_away, stay
from tests.privacy.forgetting import forget_person
from tests.threads import in_thread
from tests.waiting import wait_until


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def start_anonymising(session: Session, path: str = "ward", name: str = "wards", at_most: int = 500) -> bool:
    found = anonymise(EventStore(session, Base).events, [path], hide, name=name, reason="r", at_most=at_most)
    session.commit()
    return found.is_finished


def anonymise_all(engine: Engine, path: str = "ward", name: str = "wards") -> None:
    with Session(engine) as session:
        while not start_anonymising(session, path, name):
            pass


def is_waiting(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text(f"SELECT count(*) FROM {OWN_ADVISORY_LOCKS} AND NOT granted")))


# --- one at a time ---


def test_who_is_forgotten_while_a_stream_comes_back_is_in_no_read_model(postgres_engine: Engine) -> None:
    stay(postgres_engine, "p-1")
    put_away(postgres_engine, "p-1")
    with Session(postgres_engine) as session:
        unarchive(session, Patient, "p-1", reason="r")
        forgetting, errors = in_thread(lambda: forget_person(postgres_engine, "p-1", Base))
        wait_until(lambda: number_waiting(postgres_engine), "forget() waits for nobody")
        session.commit()
    forgetting.join(60)
    assert errors == []
    with Session(postgres_engine) as session:
        assert session.get_one(Patient, "p-1").name == "(forgotten)"
        assert session.scalars(select(Patients.name)).all() == ["(forgotten)"]
    assert verify(postgres_engine, Base).findings == ()


def _forgets(session: Session) -> None:
    forget(session, "p-2", reason="r", base=Base)


def _archives(session: Session) -> None:
    archive(session, Patient, "p-2", reason="r")


def _brings_back(session: Session) -> None:
    unarchive(session, Patient, "p-1", reason="r")


def _anonymises(session: Session) -> None:
    anonymise(EventStore(session, Base).events, ["ward"], hide, name="wards", reason="r")


@pytest.mark.parametrize("second", [_forgets, _archives, _brings_back, _anonymises])
@pytest.mark.parametrize("first", [_forgets, _archives, _brings_back, _anonymises])
def test_each_waits_for_the_other_before_it_reads_anything(postgres_engine: Engine, first: Any, second: Any) -> None:
    stay(postgres_engine, "p-1")
    stay(postgres_engine, "p-2")
    put_away(postgres_engine, "p-1")

    def do_second() -> None:
        with Session(postgres_engine) as session:
            second(session)
            session.rollback()

    with Session(postgres_engine) as session:
        first(session)
        waiting, errors = in_thread(do_second)
        wait_until(lambda: is_waiting(postgres_engine), "it waits for no advisory lock")
        session.rollback()
    waiting.join(60)
    assert (waiting.is_alive(), errors) == (False, [])


# --- anonymisations ---


def test_nothing_is_archived_while_an_anonymisation_is_unfinished(engine: Engine) -> None:
    stay(engine, "p-1", "Ulm")
    with Session(engine) as session:
        assert not start_anonymising(session)
    with pytest.raises(ArchiveError, match="'wards' is not finished"):
        put_away(engine, "p-1")
    anonymise_all(engine)
    put_away(engine, "p-1")


@pytest.mark.parametrize("finished", [True, False])
def test_a_stream_that_an_anonymisation_did_not_see_is_not_brought_back(engine: Engine, finished: bool) -> None:
    stay(engine, "p-1", "Ulm")
    stay(engine, "p-2", "Bonn")
    put_away(engine, "p-1")
    with Session(engine) as session:
        start_anonymising(session)
    if finished:
        anonymise_all(engine)
    with pytest.raises(ArchiveError, match=r"'wards' \(ward\).*despite_anonymisations=True.*another name") as caught:
        bring_back(engine, "p-1")
    assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("ending.Patient", "p-1")
    bring_back(engine, "p-1", despite_anonymisations=True)
    anonymise_all(engine, name="wards, once more")
    with engine.connect() as connection:
        stored = " ".join(connection.scalars(text("SELECT CAST(event_data AS TEXT) FROM events")))
    assert "Ulm" not in stored
    assert verify(engine, Base).findings == ()


def test_a_dry_run_says_so_too(engine: Engine) -> None:
    stay(engine, "p-1", "Ulm")
    put_away(engine, "p-1")
    stay(engine, "p-2")
    anonymise_all(engine)
    with pytest.raises(ArchiveError, match="wards"):
        bring_back(engine, "p-1", dry_run=True)
    bring_back(engine, "p-1", dry_run=True, despite_anonymisations=True)


@pytest.mark.parametrize("path", ["street", "name"])
def test_what_an_anonymisation_would_have_left_alone_comes_back(engine: Engine, path: str) -> None:
    """No event has the field, or what is there is sealed."""
    stay(engine, "p-1", "Ulm")
    put_away(engine, "p-1")
    stay(engine, "p-2")
    anonymise_all(engine, path, path)
    bring_back(engine, "p-1")


def test_what_was_anonymised_before_it_was_archived_comes_back(engine: Engine) -> None:
    stay(engine, "p-1", "Ulm")
    anonymise_all(engine)
    put_away(engine, "p-1")
    bring_back(engine, "p-1")


def test_what_was_appended_after_an_anonymisation_began_comes_back(engine: Engine) -> None:
    stay(engine, "p-1", "Ulm")
    put_away(engine, "p-1")
    anonymise_all(engine)
    stay(engine, "p-2", "Bonn")
    put_away(engine, "p-2")
    bring_back(engine, "p-2")


def test_the_command_line_brings_it_back_despite_them(engine: Engine) -> None:
    stay(engine, "p-1", "Ulm")
    put_away(engine, "p-1")
    stay(engine, "p-2")
    anonymise_all(engine)
    command = ("unarchive", BASE, "ending.Patient", "p-1", "--reason", "r")
    assert "--despite-anonymisations" in fail(*command, engine=engine, status=1)
    succeed(*command, "--despite-anonymisations", engine=engine)


def anonymised(engine: Engine, query: Any = None, path: str = "ward", **options: Any) -> Any:
    with Session(engine) as session:
        events = EventStore(session, Base).events
        while True:
            events_of = events if query is None else query(events)
            done = anonymise(events_of, [path], hide, name="counted", reason="r", **options)
            session.commit()
            if done.is_finished or options:
                return done


def test_an_anonymisation_says_how_many_archived_events_it_does_not_reach(engine: Engine, tmp_path: Path) -> None:
    for each in ("p-1", "p-2", "p-3", "p-4"):
        stay(engine, each, "Ulm")
    put_away(engine, "p-1")
    put_away(engine, "p-2")
    asked: dict[str, tuple[Any, int]] = {
        "of a type": (lambda events: events.of_type(Admitted), 2),
        "of a stream": (lambda events: events.of(Patient, "p-2"), 1),
        "with a condition": (lambda events: events.where(events.table.c.aggregate_id.in_(["p-1", "p-3"])), 1),
        "without the field": (lambda events: events.of_type(Visited), 0),
        "by metadata": (lambda events: events.where(events.table.c["metadata"].is_(None)), 2),
    }
    for query, number in asked.values():
        assert anonymised(engine, query, dry_run=True).archived_events == number
    with Session(engine) as session:
        archive(session, Patient, "p-3", reason="r", directory=tmp_path)
        session.commit()
    done = anonymised(engine)
    assert (done.archived_events, done.events, done.has_only_begun) == (2 + 3, 1, False)
    with engine.connect() as connection:
        assert connection.execute(select(Base.metadata.tables["anonymisations"].c.archived_events)).scalar() == 5
    with Session(engine) as session:
        again = anonymise(EventStore(session, Base).events, ["ward"], hide, name="more", reason="r")
        assert (again.has_only_begun, again.is_finished, again.events, again.archived_events) == (True, False, 0, 5)


def test_the_command_line_says_so(engine: Engine) -> None:
    stay(engine, "p-1", "Ulm")
    put_away(engine, "p-1")
    stay(engine, "p-2", "Ulm")
    command = (
        "anonymise",
        BASE,
        "tests.ending.patients:hide",
        "--type",
        "clinic.Admitted",
        "--field",
        "ward",
        "--reason",
        "r",
        "--yes",
    )
    assert "1 archived event not reached" in succeed(*command, "--name", "one", engine=engine).stderr
    assert json.loads(succeed(*command, "--name", "two", "--json", engine=engine).stdout)["archived_events"] == 1


def test_a_compacted_stream_does_not_go_on_showing_what_is_anonymised(engine: Engine) -> None:
    stay(engine, "p-1", "Ulm")
    stay(engine, "p-2", "Bonn")
    with Session(engine) as session:
        compact(session, Patient, "p-1", reason="r")
        session.commit()
    asked: list[dict[str, Any]] = [{}, {"dry_run": True}]
    for options in asked:
        with pytest.raises(AnonymisationError, match=r"compacted streams.*ending.Patient 'p-1'\. Bring these back"):
            anonymised(engine, **options)
    anonymised(engine, lambda events: events.of(Patient, "p-2"))
    with Session(engine) as session, pytest.raises(ArchiveError, match="anonymised in the log while they were archived"):
        compact(session, Patient, "p-1", reason="r")


def test_nor_does_one_whose_events_are_in_a_file(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition_of(Patient), "snapshot_frequency", 1)
    stay(engine, "p-1", "Ulm")
    stay(engine, "p-2", "Bonn")
    with Session(engine) as session:
        compact(session, Patient, "p-1", reason="r", directory=tmp_path)
        session.commit()
    asked: list[Any] = [
        lambda events: events,
        lambda events: events.of(Patient),
        lambda events: events.of(Patient, "p-1").to_version(1),
        lambda events: events.of_type(Admitted),
        lambda events: events.where(text("event_type = 'clinic.Admitted'")),
        lambda events: events.where(events.table.c.aggregate_id.in_(["p-1", "p-2"])),
    ]
    for query in asked:
        with pytest.raises(AnonymisationError, match=r"ending.Patient 'p-1' \(in a file\)\. Bring these back"):
            anonymised(engine, query, dry_run=True)
    others: list[Any] = [lambda events: events.of(Patient, "p-2"), lambda events: events.of_type(Opened)]
    for query in others:
        assert anonymised(engine, query, dry_run=True).archived_events == 3


def test_a_sealed_last_state_is_compared_with_the_sealed_events_of_a_file(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition_of(Patient), "snapshot_frequency", 1)
    stay(engine, "p-1", "Ulm")
    with Session(engine) as session:
        forget(session, "visitor of p-1", reason="request", base=Base)
        compact(session, Patient, "p-1", reason="r", directory=tmp_path)
        session.commit()
    found = verify(engine, Base)
    assert (found.findings, found.snapshots, found.sealed_snapshots) == ((), 1, 0)
    masked = verify(engine.execution_options(personal_data="masked"), Base)
    assert (masked.findings, masked.snapshots, masked.sealed_snapshots) == ((), 0, 1)


# --- what stands in the way ---


def test_a_row_of_a_read_model_that_stands_in_the_way_is_told(engine: Engine) -> None:
    stay(engine, "p-1")
    put_away(engine, "p-1")
    stay(engine, "p-2")
    with engine.begin() as connection:
        connection.execute(text("CREATE UNIQUE INDEX one_of_each_name ON ending_patients (substr(name, 1, 9))"))
    with pytest.raises(ArchiveError, match="one_of_each_name") as caught:
        bring_back(engine, "p-1")
    assert isinstance(caught.value.__cause__, IntegrityError | ReadModelError)
