"""Appends of subjects whose keys are known: one statement, which makes sure that they have these keys still."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any

import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, ConcurrencyError, DomainEvent, EventSourceOptions, applies, verify
from sa_eventsource.events import Personal
from sa_eventsource.exceptions import SubjectForgottenError
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.privacy import forget, rotate_master_key, rotate_subject_key
from sa_eventsource.privacy.known_keys import KnownKey, KnownKeys
from sa_eventsource.privacy.unwrapped_keys import UnwrappedKeys
from tests.databases import WAITING
from tests.privacy.keys import MASTER_KEYS, VARIABLE, written
from tests.round_trips import round_trips
from tests.waiting import wait_until


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Called(DomainEvent):
    __event_type__ = "known_keys.Called"

    caller: str
    number: Annotated[str, Personal(subject="caller", placeholder="-")]


class Line(AggregateRoot, Base):
    __aggregate_type__ = "known_keys.Line"

    last: str = ""
    calls: int = 0

    @applies(Called)
    def _called(self, event: Called) -> None:
        self.last = event.number
        self.calls += 1


def called(engine: Engine, *callers: str, line: str | None = None) -> str:
    """Commit a call of each, on a new line or on one that is there."""
    with Session(engine) as session:
        found = Line() if line is None else session.get_one(Line, line)
        for caller in callers:
            found.apply_event(Called(caller=caller, number=f"555 {caller}"))
        session.add(found)
        line_id = found.id
        session.commit()
        return line_id


def key_ids(engine: Engine) -> list[str]:
    """Ids of the keys that the log's values are sealed with, in the order of the log."""
    with engine.connect() as connection:
        sealed = connection.scalars(text("SELECT event_data -> 'number' ->> '$sealed' FROM events ORDER BY position"))
        return [each.partition(".")[0] for each in sealed]


@pytest.fixture
def elsewhere(postgres_engine: Engine) -> Iterator[Engine]:
    """The engine of another process, which shares nothing that is known."""
    engine = create_engine(postgres_engine.url)
    yield engine
    engine.dispose()


@pytest.fixture
def here(postgres_engine: Engine) -> Iterator[Engine]:
    """An engine of one connection that nobody listens to."""
    Base.metadata.create_all(postgres_engine)
    engine = create_engine(postgres_engine.url, pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


Append = Callable[[Engine], str]


def _one(engine: Engine) -> str:
    return called(engine, "ann")


def _many(engine: Engine) -> str:
    return called(engine, "ann", "bob", "ann")


def _behind_another_statement(engine: Engine) -> str:
    with Session(engine) as session:
        session.execute(select(1))
        line = Line()
        line.apply_event(Called(caller="ann", number="555 ann"))
        session.add(line)
        line_id = line.id
        session.commit()
        return line_id


appends = pytest.mark.parametrize("append", [_one, _many, _behind_another_statement], ids=["one", "many", "in a transaction"])


def test_the_first_append_asks_for_keys_and_the_next_takes_one_round_trip(here: Engine) -> None:
    line = _many(here)
    with round_trips(here) as sent:
        _one(here)
    assert len(sent) == 1
    with round_trips(here) as sent:
        _many(here)
    assert len(sent) == 1
    with Session(here) as session:
        found = session.get_one(Line, line)
        assert (found.last, found.calls) == ("555 ann", 3)


@appends
def test_who_was_forgotten_meanwhile_is_refused_and_nothing_is_written(here: Engine, elsewhere: Engine, append: Append) -> None:
    _many(here)
    with Session(elsewhere) as session:
        forget(session, "ann", reason="asked", base=Base)
        session.commit()
    with pytest.raises(SubjectForgottenError) as caught:
        append(here)
    assert caught.value.subjects == ("ann",)
    assert len(key_ids(here)) == 3
    called(here, "bob")


@appends
def test_a_rotated_key_is_taken_by_the_next_append(here: Engine, elsewhere: Engine, append: Append) -> None:
    _many(here)
    with Session(elsewhere) as session:
        rotate_subject_key(session, "ann", base=Base)
        session.commit()
    before = key_ids(here)
    line = append(here)
    assert key_ids(here)[3] not in before
    with Session(here) as session:
        assert session.get_one(Line, line).last == "555 ann"
    with round_trips(here) as sent:
        _one(here)
    assert len(sent) == 1, "the new one is known now"


def test_a_key_that_was_wrapped_again_is_the_same_key(here: Engine, elsewhere: Engine) -> None:
    _many(here)
    with Session(elsewhere) as session:
        rotate_master_key(session, base=Base)
        session.commit()
    with round_trips(here) as sent:
        _one(here)
    assert len(sent) == 1
    assert verify(here, Base).findings == ()


def test_a_key_whose_master_key_is_gone_is_asked_for_again(
    here: Engine, elsewhere: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, written("old", b"o"))
    _many(here)
    monkeypatch.setenv(VARIABLE, ",".join([written("new", b"n"), written("old", b"o")]))
    with Session(elsewhere) as session:
        while rotate_master_key(session, base=Base):
            session.commit()
    monkeypatch.setenv(VARIABLE, written("new", b"n"))
    monkeypatch.setattr("sa_eventsource.privacy.subject_keys._unwrapped", UnwrappedKeys())  # as after five minutes
    line = _many(here)
    with Session(here) as session:
        assert session.get_one(Line, line).last == "555 ann"


@appends
def test_a_key_that_was_rolled_back_is_made_again(here: Engine, append: Append) -> None:
    with Session(here) as session:
        line = Line()
        line.apply_event(Called(caller="ann", number="1"))
        session.add(line)
        session.flush()
        session.rollback()
    line_id = append(here)
    with Session(here) as session:
        assert session.get_one(Line, line_id).last == "555 ann"


def test_a_conflict_is_a_conflict(here: Engine, elsewhere: Engine) -> None:
    line = _many(here)
    with Session(here) as session:
        found = session.get_one(Line, line)
        called(elsewhere, "bob", line=line)
        found.apply_event(Called(caller="ann", number="late"))
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        assert (caught.value.expected_version, caught.value.actual_version) == (3, 4)


def test_of_two_databases_each_has_keys_of_its_own(here: Engine, postgres_databases: Any) -> None:
    with postgres_databases.database() as url:
        there = create_engine(url)
        Base.metadata.create_all(there)
        for engine in (here, there, here, there):
            with Session(engine) as session:
                assert session.get_one(Line, _many(engine)).last == "555 ann"
        assert not set(key_ids(here)) & set(key_ids(there))
        there.dispose()


def test_a_known_key_that_is_being_destroyed_is_waited_for(here: Engine, elsewhere: Engine) -> None:
    _one(here)
    errors: list[BaseException] = []

    def append() -> None:
        try:
            _one(here)
        except BaseException as error:
            errors.append(error)

    with Session(elsewhere) as session:
        forget(session, "ann", reason="asked", base=Base)
        thread = threading.Thread(target=append)
        thread.start()
        with elsewhere.connect() as connection:
            waits = text(WAITING)
            wait_until(lambda: bool(connection.execute(waits).scalar()))
        session.commit()
    thread.join(60)
    assert [type(each) for each in errors] == [SubjectForgottenError]
    assert len(key_ids(here)) == 1


def test_an_append_with_a_known_key_keeps_forgetting_waiting(here: Engine, elsewhere: Engine) -> None:
    _one(here)

    def forget_it() -> None:
        with Session(elsewhere) as session:
            forget(session, "ann", reason="asked", base=Base)
            session.commit()

    with Session(here) as session:
        session.execute(select(1))
        line = Line()
        line.apply_event(Called(caller="ann", number="555 ann"))
        session.add(line)
        session.flush()
        thread = threading.Thread(target=forget_it)
        thread.start()
        with elsewhere.connect() as connection:
            waits = text(WAITING)
            wait_until(lambda: bool(connection.execute(waits).scalar()))
        session.commit()
        thread.join(60)
        assert session.get_one(Line, line.id).last == "-"


def test_in_other_schemas_keys_are_asked_for(
    here: Engine, elsewhere: Engine, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    with here.begin() as connection:
        connection.execute(text("CREATE SCHEMA other"))
    engine = elsewhere.execution_options(schema_translate_map={None: "other"})
    Base.metadata.create_all(engine)
    _one(elsewhere)
    with statements(elsewhere) as log:
        _one(engine)
        _one(engine)
    assert len([each for each in log if " other.subject_keys" in each and each.startswith("SELECT")]) == 2


def test_so_many_are_known_and_for_so_long(here: Engine) -> None:
    table: Any = tables_of_base("test", Base).subject_keys
    keys = {str(number): KnownKey(str(number), "m", b"") for number in range(5)}
    with here.connect() as connection:
        known = KnownKeys(most=3)
        known.keep(connection, table, keys)
        assert [each for each in keys if known.get(connection, table, [each])] == ["2", "3", "4"]
        known.drop(connection, table, ["3"])
        assert known.get(connection, table, ["2", "3"]) is None
        known = KnownKeys(seconds=0)
        known.keep(connection, table, keys)
        assert known.get(connection, table, ["1"]) is None
