"""Archiving beside those who forget someone or anonymise the log: what was to go is not brought back."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Annotated, Any

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    AnonymisationError,
    ArchiveError,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    Personal,
    ReadModel,
    ReadModelError,
    StoredField,
    anonymise,
    applies,
    archive,
    compact,
    forget,
    map_from_event,
    unarchive,
    verify,
)
from sa_eventsource.aggregates import definition_of
from tests.advisory_locks import OWN_ADVISORY_LOCKS
from tests.cli.commands import fail, succeed
from tests.databases import WAITING
from tests.privacy.keys import MASTER_KEYS
from tests.waiting import wait_until

BASE = "tests.ending.test_archives_and_personal_data:Base"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(archives="archives", master_keys=MASTER_KEYS, anonymisations="anonymisations")


class Joined(DomainEvent):
    __event_type__ = "archives_privacy.Joined"

    email: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]
    city: str | None = None


class Moved(DomainEvent):
    __event_type__ = "archives_privacy.Moved"

    to: str


class Unrelated(DomainEvent):
    """None of a member."""

    __event_type__ = "archives_privacy.Unrelated"

    city: str


class Member(AggregateRoot, Base):
    __aggregate_type__ = "archives_privacy.Member"

    email: str = ""

    @applies(Joined, Moved)
    def _changed(self, event: Joined | Moved) -> None:
        if isinstance(event, Joined):
            self.email = event.email


class Members(ReadModel, Base):
    __tablename__ = "archives_privacy_members"
    __projection_name__ = "archives_privacy_members"
    __consistency__ = "strong"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(Joined, key=True, source="aggregate_id")
    email: Mapped[str] = map_from_event(Joined)


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def join(engine: Engine, member_id: str, *, city: str | None = None, moves: int = 1) -> None:
    with Session(engine) as session:
        member = Member(id=member_id)
        member.apply_event(Joined(email=f"{member_id}@example.org", city=city))
        for number in range(moves):
            member.apply_event(Moved(to=f"town {number}"))
        member.close_stream("left")
        session.add(member)
        session.commit()


def put_away(engine: Engine, member_id: str) -> None:
    with Session(engine) as session:
        archive(session, Member, member_id, reason="r")
        session.commit()


def bring_back(engine: Engine, member_id: str, **options: Any) -> None:
    with Session(engine) as session:
        unarchive(session, Member, member_id, reason="r", **options)
        session.commit()


def hide(field: StoredField) -> Any:
    return "(gone)" if field.value is not None else None


def start_anonymising(session: Session, path: str = "city", name: str = "cities", at_most: int = 500) -> bool:
    found = anonymise(EventStore(session, Base).events, [path], hide, name=name, reason="r", at_most=at_most)
    session.commit()
    return found.is_finished


def anonymise_all(engine: Engine, path: str = "city", name: str = "cities") -> None:
    with Session(engine) as session:
        while not start_anonymising(session, path, name):
            pass


def is_waiting(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text(f"SELECT count(*) FROM {OWN_ADVISORY_LOCKS} AND NOT granted")))


# --- one at a time ---


def test_who_is_forgotten_while_a_stream_comes_back_is_in_no_read_model(postgres_engine: Engine) -> None:
    join(postgres_engine, "m-1")
    put_away(postgres_engine, "m-1")

    def forget_them() -> None:
        with Session(postgres_engine) as session:
            forget(session, "m-1", reason="request", base=Base)
            session.commit()

    forgetting = threading.Thread(target=forget_them)
    with Session(postgres_engine) as session:
        unarchive(session, Member, "m-1", reason="r")
        forgetting.start()
        with postgres_engine.connect() as connection:
            is_blocked = text(WAITING)
            wait_until(lambda: connection.scalar(is_blocked), "forget() waits for nobody")
        session.commit()
    forgetting.join(60)
    with Session(postgres_engine) as session:
        assert session.get_one(Member, "m-1").email == "(forgotten)"
        assert session.scalars(select(Members.email)).all() == ["(forgotten)"]
    assert verify(postgres_engine, Base).findings == ()


def _forgets(session: Session) -> None:
    forget(session, "m-2", reason="r", base=Base)


def _archives(session: Session) -> None:
    archive(session, Member, "m-2", reason="r")


def _brings_back(session: Session) -> None:
    unarchive(session, Member, "m-1", reason="r")


def _anonymises(session: Session) -> None:
    anonymise(EventStore(session, Base).events, ["city"], hide, name="cities", reason="r")


@pytest.mark.parametrize("second", [_forgets, _archives, _brings_back, _anonymises])
@pytest.mark.parametrize("first", [_forgets, _archives, _brings_back, _anonymises])
def test_each_waits_for_the_other_before_it_reads_anything(postgres_engine: Engine, first: Any, second: Any) -> None:
    join(postgres_engine, "m-1")
    join(postgres_engine, "m-2")
    put_away(postgres_engine, "m-1")

    def do_second() -> None:
        with Session(postgres_engine) as session:
            second(session)
            session.rollback()

    waiting = threading.Thread(target=do_second)
    with Session(postgres_engine) as session:
        first(session)
        waiting.start()
        wait_until(lambda: is_waiting(postgres_engine), "it waits for no advisory lock")
        session.rollback()
    waiting.join(60)
    assert not waiting.is_alive()


# --- anonymisations ---


def test_nothing_is_archived_while_an_anonymisation_is_unfinished(engine: Engine) -> None:
    join(engine, "m-1", city="Ulm")
    with Session(engine) as session:
        assert not start_anonymising(session)
    with pytest.raises(ArchiveError, match="'cities' is not finished"):
        put_away(engine, "m-1")
    anonymise_all(engine)
    put_away(engine, "m-1")


@pytest.mark.parametrize("finished", [True, False])
def test_a_stream_that_an_anonymisation_did_not_see_is_not_brought_back(engine: Engine, finished: bool) -> None:
    join(engine, "m-1", city="Ulm")
    join(engine, "m-2", city="Bonn")
    put_away(engine, "m-1")
    with Session(engine) as session:
        start_anonymising(session)
    if finished:
        anonymise_all(engine)
    with pytest.raises(ArchiveError, match=r"'cities' \(city\).*despite_anonymisations=True.*another name") as caught:
        bring_back(engine, "m-1")
    assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("archives_privacy.Member", "m-1")
    bring_back(engine, "m-1", despite_anonymisations=True)
    anonymise_all(engine, name="cities, once more")
    with engine.connect() as connection:
        stored = " ".join(connection.scalars(text("SELECT CAST(event_data AS TEXT) FROM events")))
    assert "Ulm" not in stored
    assert verify(engine, Base).findings == ()


def test_a_dry_run_says_so_too(engine: Engine) -> None:
    join(engine, "m-1", city="Ulm")
    put_away(engine, "m-1")
    join(engine, "m-2")
    anonymise_all(engine)
    with pytest.raises(ArchiveError, match="cities"):
        bring_back(engine, "m-1", dry_run=True)
    bring_back(engine, "m-1", dry_run=True, despite_anonymisations=True)


@pytest.mark.parametrize("path", ["street", "email"])
def test_what_an_anonymisation_would_have_left_alone_comes_back(engine: Engine, path: str) -> None:
    """No event has the field, or what is there is sealed."""
    join(engine, "m-1", city="Ulm")
    put_away(engine, "m-1")
    join(engine, "m-2")
    anonymise_all(engine, path, path)
    bring_back(engine, "m-1")


def test_what_was_anonymised_before_it_was_archived_comes_back(engine: Engine) -> None:
    join(engine, "m-1", city="Ulm")
    anonymise_all(engine)
    put_away(engine, "m-1")
    bring_back(engine, "m-1")


def test_what_was_appended_after_an_anonymisation_began_comes_back(engine: Engine) -> None:
    join(engine, "m-1", city="Ulm")
    put_away(engine, "m-1")
    anonymise_all(engine, "to", "moves")
    join(engine, "m-2", city="Bonn", moves=0)
    put_away(engine, "m-2")
    bring_back(engine, "m-2")


def test_the_command_line_brings_it_back_despite_them(engine: Engine) -> None:
    join(engine, "m-1", city="Ulm")
    put_away(engine, "m-1")
    join(engine, "m-2")
    anonymise_all(engine)
    command = ("unarchive", BASE, "archives_privacy.Member", "m-1", "--reason", "r")
    assert "--despite-anonymisations" in fail(*command, engine=engine, status=1)
    succeed(*command, "--despite-anonymisations", engine=engine)


def anonymised(engine: Engine, query: Any = None, path: str = "city", **options: Any) -> Any:
    with Session(engine) as session:
        events = EventStore(session, Base).events
        while True:
            events_of = events if query is None else query(events)
            done = anonymise(events_of, [path], hide, name="counted", reason="r", **options)
            session.commit()
            if done.is_finished or options:
                return done


def test_an_anonymisation_says_how_many_archived_events_it_does_not_reach(engine: Engine, tmp_path: Path) -> None:
    for each in ("m-1", "m-2", "m-3", "m-4"):
        join(engine, each, city="Ulm", moves=2)
    put_away(engine, "m-1")
    put_away(engine, "m-2")
    asked: dict[str, tuple[Any, int]] = {
        "of a type": (lambda events: events.of_type(Joined), 2),
        "of a stream": (lambda events: events.of(Member, "m-2"), 1),
        "with a condition": (lambda events: events.where(events.table.c.aggregate_id.in_(["m-1", "m-3"])), 1),
        "without the field": (lambda events: events.of_type(Moved), 0),
        "by metadata": (lambda events: events.where(events.table.c["metadata"].is_(None)), 2),
    }
    for query, number in asked.values():
        assert anonymised(engine, query, dry_run=True).archived_events == number
    with Session(engine) as session:
        archive(session, Member, "m-3", reason="r", directory=tmp_path)
        session.commit()
    done = anonymised(engine)
    assert (done.archived_events, done.events, done.has_only_begun) == (2 + 4, 1, False)
    with engine.connect() as connection:
        assert connection.execute(select(Base.metadata.tables["anonymisations"].c.archived_events)).scalar() == 6
    with Session(engine) as session:
        again = anonymise(EventStore(session, Base).events, ["city"], hide, name="more", reason="r")
        assert (again.has_only_begun, again.is_finished, again.events, again.archived_events) == (True, False, 0, 6)


def test_the_command_line_says_so(engine: Engine) -> None:
    join(engine, "m-1", city="Ulm")
    put_away(engine, "m-1")
    join(engine, "m-2", city="Ulm")
    command = (
        "anonymise",
        BASE,
        f"{__name__}:hide",
        "--type",
        "archives_privacy.Joined",
        "--field",
        "city",
        "--reason",
        "r",
        "--yes",
    )
    assert "1 archived event not reached" in succeed(*command, "--name", "one", engine=engine).stderr
    assert json.loads(succeed(*command, "--name", "two", "--json", engine=engine).stdout)["archived_events"] == 1


def test_a_compacted_stream_does_not_go_on_showing_what_is_anonymised(engine: Engine) -> None:
    join(engine, "m-1", city="Ulm")
    join(engine, "m-2", city="Bonn")
    with Session(engine) as session:
        compact(session, Member, "m-1", reason="r")
        session.commit()
    asked: list[dict[str, Any]] = [{}, {"dry_run": True}]
    for options in asked:
        with pytest.raises(AnonymisationError, match=r"compacted streams.*archives_privacy.Member 'm-1'\. Bring these back"):
            anonymised(engine, **options)
    anonymised(engine, lambda events: events.of(Member, "m-2"))
    with Session(engine) as session, pytest.raises(ArchiveError, match="anonymised in the log while they were archived"):
        compact(session, Member, "m-1", reason="r")


def test_nor_does_one_whose_events_are_in_a_file(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition_of(Member), "snapshot_frequency", 1)
    join(engine, "m-1", city="Ulm")
    join(engine, "m-2", city="Bonn")
    with Session(engine) as session:
        compact(session, Member, "m-1", reason="r", directory=tmp_path)
        session.commit()
    asked: list[Any] = [
        lambda events: events,
        lambda events: events.of(Member),
        lambda events: events.of(Member, "m-1").to_version(1),
        lambda events: events.of_type(Joined),
        lambda events: events.where(text("event_type = 'archives_privacy.Joined'")),
        lambda events: events.where(events.table.c.aggregate_id.in_(["m-1", "m-2"])),
    ]
    for query in asked:
        with pytest.raises(AnonymisationError, match=r"archives_privacy.Member 'm-1' \(in a file\)\. Bring these back"):
            anonymised(engine, query, dry_run=True)
    others: list[Any] = [lambda events: events.of(Member, "m-2"), lambda events: events.of_type(Unrelated)]
    for query in others:
        assert anonymised(engine, query, dry_run=True).archived_events == 3


# --- what stands in the way ---


def test_a_row_of_a_read_model_that_stands_in_the_way_is_told(engine: Engine) -> None:
    join(engine, "m-1")
    put_away(engine, "m-1")
    join(engine, "m-2")
    with engine.begin() as connection:
        connection.execute(text("CREATE UNIQUE INDEX one_of_each_domain ON archives_privacy_members (substr(email, 5))"))
    with pytest.raises(ArchiveError, match="one_of_each_domain") as caught:
        bring_back(engine, "m-1")
    assert isinstance(caught.value.__cause__, IntegrityError | ReadModelError)
