"""An event that cannot be taken is found among many and named, whoever finds out: the driver that reads it, or the database."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from sa_eventsource import EventDecodeError, EventReplayer, EventStore, ReadModelError, ReadModelManager
from sa_eventsource.projections import RetryPolicy, resume
from sa_eventsource.workers import Worker
from tests.committing import changing_events
from tests.projections import hindrances
from tests.projections.hindrances import Base, Declared, Handled, Order, ids, parked, write

NOTES = {f"n{number:02}": "x" for number in range(30)}
BAD = "n17"
AT_ONCE = RetryPolicy(attempts=1)
turns: Any = importlib.import_module("sa_eventsource.workers.turns")
parked_streams: Any = importlib.import_module(
    "sa_eventsource.projections.parked_streams"
)  # the package has a function of that name


@pytest.fixture
def notes(engine: Engine) -> Iterator[Engine]:
    Base.metadata.create_all(engine)
    write(engine, **NOTES)
    yield engine
    hindrances.called.clear()


def make_unreadable(engine: Engine) -> str:
    """Give one event a time that Python has no value for; return the event's id."""
    moment = "20000-01-01 00:00:00+00" if engine.dialect.name == "postgresql" else "soon"
    with changing_events(engine, Base) as connection:
        connection.execute(
            text("UPDATE events SET occurred_at = :moment WHERE aggregate_id = :bad"), {"moment": moment, "bad": BAD}
        )
        found = connection.execute(text("SELECT event_id FROM events WHERE aggregate_id = :bad"), {"bad": BAD}).scalar_one()
    return str(found).replace("-", "")


def event_id_in(error: EventDecodeError) -> str:
    return "" if error.event_id is None else error.event_id.hex


@pytest.mark.parametrize("name", ["handled", "archive"])
def test_one_that_cannot_be_read_is_parked_and_named(notes: Engine, name: str) -> None:
    event_id = make_unreadable(notes)
    with notes.begin() as connection:
        connection.execute(text("CREATE TABLE archive (id varchar(5) PRIMARY KEY)"))
    worker = Worker(notes, Base, only=[name], retries=AT_ONCE)
    worker.run_once()
    worker.run_once()
    assert parked(notes) == [(name, BAD)]
    taken = ids(notes, Handled) if name == "handled" else sorted(set(hindrances.called))
    assert taken == [each for each in NOTES if each != BAD]
    with notes.connect() as connection:
        error = connection.scalar(text("SELECT error FROM parked_events"))
    assert error is not None
    assert "EventDecodeError: event " in error
    assert event_id in error.replace("-", "")


def test_by_hand_it_is_named_too_and_what_lies_before_it_is_taken_by_who_asks_for_less(notes: Engine) -> None:
    event_id = make_unreadable(notes)
    manager = ReadModelManager(notes, Base)
    with pytest.raises(EventDecodeError) as caught:
        manager.catch_up(Handled)
    assert event_id_in(caught.value) == event_id
    with pytest.raises(EventDecodeError) as caught:
        EventReplayer(notes, Base).rebuild(Handled)
    assert event_id_in(caught.value) == event_id
    with Session(notes) as session, pytest.raises(EventDecodeError) as caught:
        EventStore(session, Base).follow("blaming_reader", batch=20)
    assert event_id_in(caught.value) == event_id
    with pytest.raises(EventDecodeError):
        manager.catch_up(Handled, batch_size=1)
    assert len(ids(notes, Handled)) == 17


@pytest.mark.parametrize("attempts", [1, 3])
def test_one_that_a_statement_for_many_does_not_take_is_named(postgres_engine: Engine, attempts: int) -> None:
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(text("ALTER TABLE hindered_declared ADD CHECK (text <> 'no')"))
    write(postgres_engine, **{**NOTES, BAD: "no"})
    retries = RetryPolicy(attempts=attempts, first_pause=0)
    with pytest.raises(ReadModelError, match=f"shop.NoteAdded .*{BAD}"):
        ReadModelManager(postgres_engine, Base).catch_up(Declared)
    assert len(ids(postgres_engine, Declared)) == 17
    Worker(postgres_engine, Base, only=["declared"], retries=retries).run_once()
    assert parked(postgres_engine) == [("declared", BAD)]
    with postgres_engine.connect() as connection:
        assert f"hindrances.Order '{BAD}'" in (connection.scalar(text("SELECT error FROM parked_events")) or "")


def test_where_others_fail_as_well_none_is_named(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(text("ALTER TABLE hindered_declared DROP COLUMN text"))
    write(postgres_engine, a="x", b="y")
    with pytest.raises(ReadModelError, match="cannot take a batch of events: UndefinedColumn") as caught:
        ReadModelManager(postgres_engine, Base).catch_up(Declared)
    assert caught.value.event_ids == ()
    Worker(postgres_engine, Base, only=["declared"], retries=AT_ONCE).run_once()
    (problem,) = [each for each in ReadModelManager(postgres_engine, Base).problems() if each.startswith("declared")]
    assert problem.startswith("declared is waiting: ReadModelError: read model 'declared' cannot take a batch of events: Undef")


def _late_and_bad(engine: Engine) -> Session:
    """Write a note that is committed later, and behind it one that the declared model does not take."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE hindered_declared ADD CHECK (text <> 'no')"))
    write(engine, first="x")
    Worker(engine, Base, only=["declared"]).run_once()
    late = Session(engine)
    late.add(order := Order(id="late"))
    order.note("x")
    late.flush()
    write(engine, bad="no")
    return late


def test_an_event_that_comes_late_is_not_blamed_for_the_one_behind_it(
    postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes visible when the batch has failed, and before anybody has written down at which event."""
    late = _late_and_bad(postgres_engine)
    record = turns.record_failure

    def commit_and_record(*arguments: Any, **options: Any) -> Any:
        late.commit()
        return record(*arguments, **options)

    monkeypatch.setattr(turns, "record_failure", commit_and_record)
    Worker(postgres_engine, Base, only=["declared"], retries=AT_ONCE).run_once()
    assert parked(postgres_engine) == [("declared", "bad")]
    assert ids(postgres_engine, Declared) == ["first", "late"]
    late.close()


def test_an_event_that_comes_late_is_not_skipped_instead_of_the_one_behind_it(
    postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Declared.__read_model_definition__, "on_error", "stop")
    late = _late_and_bad(postgres_engine)
    Worker(postgres_engine, Base, only=["declared"], retries=AT_ONCE).run_once()
    take = parked_streams.take_before_failure

    def take_and_commit(*arguments: Any) -> int:
        taken: int = take(*arguments)
        late.commit()
        return taken

    monkeypatch.setattr(parked_streams, "take_before_failure", take_and_commit)
    with Session(postgres_engine) as session:
        assert resume(session, Declared.__read_model_definition__, skip=True)
    Worker(postgres_engine, Base, only=["declared"], retries=AT_ONCE).run_once()
    assert ids(postgres_engine, Declared) == ["first", "late"]
    (status,) = ReadModelManager(postgres_engine, Base).status(Declared)
    assert (status.state, status.lag_events) == ("running", 0)
    late.close()
