"""Events that cannot be taken: retried, then the model stops there, or the stream is put aside; others go on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text, update
from sqlalchemy.orm import Session

from sa_eventsource import EventReplayer, ReadModelError, ReadModelManager
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.projections.parked_streams import drop_stream, parked_streams, resume, retry_stream
from sa_eventsource.workers import Pace, Worker
from tests.committing import changing_events
from tests.projections import bank
from tests.projections.bank import Balance, Base, DeclaredParking, Parking, Stopping, deposit, totals
from tests.waiting import wait_until

AT_ONCE = RetryPolicy(attempts=3, first_pause=0)
TABLES = tables_on(Base.metadata)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def bank_engine(engine: Engine) -> Iterator[Engine]:
    bank._Refusing.mended = False
    yield engine
    bank._Refusing.mended = False


def checkpoint(engine: Engine, name: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text("SELECT * FROM projection_positions WHERE projection_name = :name"), {"name": name}).one()


def checkpoint_row(engine: Engine, name: str) -> Any:
    """The row with its values as the column types give them."""
    positions = TABLES.projection_positions
    with engine.connect() as connection:
        return connection.execute(positions.select().where(positions.c.projection_name == name)).one()


def run(engine: Engine, model: type[Any], retries: RetryPolicy = AT_ONCE) -> int:
    return Worker(engine, Base, only=[model.__read_model_definition__.name], retries=retries).run_once()


def test_it_is_retried_with_pauses_then_the_model_stops_there(bank_engine: Engine) -> None:
    deposit(bank_engine, "a", 1, 2)
    deposit(bank_engine, "b", -5)
    deposit(bank_engine, "c", 4)
    retries = RetryPolicy(attempts=3, first_pause=60, factor=2)
    assert run(bank_engine, Stopping, retries) == 2
    first = checkpoint(bank_engine, "stopping")
    assert (first.status, first.failed_position, first.attempts) == ("running", 3, 1)
    assert run(bank_engine, Stopping, retries) == 0
    assert checkpoint(bank_engine, "stopping").attempts == 1
    for attempts, pause in ((2, 60), (3, 120)):
        row = checkpoint_row(bank_engine, "stopping")
        assert pause - 10 < (row.retry_at - datetime.now(UTC)).total_seconds() <= pause
        with bank_engine.begin() as connection:
            connection.execute(update(TABLES.projection_positions).values(retry_at=datetime.now(UTC)))
        run(bank_engine, Stopping, retries)
        assert checkpoint(bank_engine, "stopping").attempts == attempts
    last = checkpoint(bank_engine, "stopping")
    assert (last.status, last.retry_at) == ("stopped", None)
    assert "ValueError: negative: -5" in last.error
    assert "_deposited" in last.error
    assert run(bank_engine, Stopping, retries) == 0
    assert totals(bank_engine, Stopping) == {"a": 3}
    assert Worker(bank_engine, Base, only=["balance"]).run_once() == 4


def test_a_running_worker_retries_when_the_time_has_come(postgres_engine: Engine) -> None:
    deposit(postgres_engine, "a", 1)
    deposit(postgres_engine, "b", -5)
    retries = RetryPolicy(attempts=50, first_pause=0.05, factor=1)
    try:
        with Worker(postgres_engine, Base, only=["stopping"], retries=retries, pace=Pace(every_follower=1000)):
            wait_until(
                lambda: totals(postgres_engine, Stopping) == {"a": 1} and checkpoint(postgres_engine, "stopping").attempts >= 3
            )
            bank._Refusing.mended = True
            wait_until(lambda: totals(postgres_engine, Stopping) == {"a": 1, "b": -5})
    finally:
        bank._Refusing.mended = False
    row = checkpoint(postgres_engine, "stopping")
    assert (row.status, row.failed_position, row.attempts, row.retry_at, row.error) == ("running", None, 0, None, None)


def test_resumed_when_it_is_mended_it_goes_on(bank_engine: Engine) -> None:
    deposit(bank_engine, "a", 1)
    deposit(bank_engine, "b", -5, 7)
    run(bank_engine, Stopping)
    assert checkpoint(bank_engine, "stopping").status == "stopped"
    bank._Refusing.mended = True
    assert run(bank_engine, Stopping) == 0
    with Session(bank_engine) as session:
        assert resume(session, Stopping.__read_model_definition__)
        assert not resume(session, Stopping.__read_model_definition__)
    assert run(bank_engine, Stopping) == 2
    assert totals(bank_engine, Stopping) == {"a": 1, "b": 2}


def test_resumed_behind_the_event_it_leaves_it_out(bank_engine: Engine) -> None:
    deposit(bank_engine, "a", 1)
    deposit(bank_engine, "b", -5, 7)
    run(bank_engine, Stopping, RetryPolicy(attempts=1))
    with Session(bank_engine) as session:
        assert resume(session, Stopping.__read_model_definition__, skip=True)
    assert totals(bank_engine, Stopping) == {"a": 1}
    assert run(bank_engine, Stopping) == 1
    assert totals(bank_engine, Stopping) == {"a": 1, "b": 7}


def test_catching_up_by_hand_tries_at_once_and_raises(bank_engine: Engine) -> None:
    deposit(bank_engine, "b", -5)
    run(bank_engine, Stopping)
    with pytest.raises(ReadModelError, match="negative"):
        ReadModelManager(bank_engine, Base).catch_up(Stopping)
    bank._Refusing.mended = True
    assert ReadModelManager(bank_engine, Base).catch_up(Stopping) == 1
    assert checkpoint(bank_engine, "stopping").status == "running"


def test_a_parking_model_puts_the_stream_aside_and_goes_on(bank_engine: Engine) -> None:
    deposit(bank_engine, "a", 1)
    deposit(bank_engine, "b", 2, -5, 3)
    deposit(bank_engine, "a", 1)
    run(bank_engine, Parking)
    assert totals(bank_engine, Parking) == {"a": 2, "b": 2}
    deposit(bank_engine, "b", 4)
    deposit(bank_engine, "c", 6)
    run(bank_engine, Parking)
    assert totals(bank_engine, Parking) == {"a": 2, "b": 2, "c": 6}
    assert checkpoint(bank_engine, "parking").status == "running"
    with Session(bank_engine) as session:
        (stream,) = parked_streams(session, Parking.__read_model_definition__)
    assert (stream.name, stream.aggregate_type, stream.aggregate_id) == ("parking", "bank.Account", "b")
    assert (stream.position, stream.events) == (3, 3)
    assert stream.error is not None
    assert "negative: -5" in stream.error


def test_a_parked_stream_is_retried_in_order_and_goes_on(bank_engine: Engine) -> None:
    deposit(bank_engine, "b", 2, -5, 3)
    run(bank_engine, Parking)
    definition = Parking.__read_model_definition__
    with Session(bank_engine) as session:
        (stream,) = parked_streams(session, definition)
        with pytest.raises(ReadModelError, match="negative"):
            retry_stream(session, definition, stream)
        (again,) = parked_streams(session, definition)
        assert (again.event_id, again.events) == (stream.event_id, 2)
        assert (stream.attempts, again.attempts) == (AT_ONCE.attempts, AT_ONCE.attempts + 1)
        assert "retry_stream" in str(again.error)
        bank._Refusing.mended = True
        assert retry_stream(session, definition, stream) == 2
        assert parked_streams(session, definition) == []
    assert totals(bank_engine, Parking) == {"b": 0}
    deposit(bank_engine, "b", 10)
    assert run(bank_engine, Parking) == 1
    assert totals(bank_engine, Parking) == {"b": 10}


def test_a_dropped_stream_goes_on_without_what_was_put_aside(bank_engine: Engine) -> None:
    deposit(bank_engine, "b", 2, -5, 3)
    run(bank_engine, Parking)
    definition = Parking.__read_model_definition__
    with Session(bank_engine) as session:
        (stream,) = parked_streams(session, definition)
        assert drop_stream(session, definition, stream) == 2
    deposit(bank_engine, "b", 10)
    run(bank_engine, Parking)
    assert totals(bank_engine, Parking) == {"b": 12}


def break_event(engine: Engine, position: int, payload: dict[str, Any]) -> None:
    """Let a stored payload be one that the declaration does not fit."""
    with changing_events(engine, Base) as connection:
        connection.execute(update(TABLES.events).where(TABLES.events.c.position == position).values(event_data=payload))


def test_the_bad_event_of_a_set_based_batch_is_found(bank_engine: Engine) -> None:
    """PostgreSQL does not say which of the batch's events it cannot take; the worker narrows it down."""
    for number in range(40):
        deposit(bank_engine, f"a-{number}", number)
    break_event(bank_engine, 24, {"amount": "many", "branch": "main"})
    run(bank_engine, DeclaredParking)
    with Session(bank_engine) as session:
        (stream,) = parked_streams(session, DeclaredParking.__read_model_definition__)
        assert (stream.position, stream.aggregate_id) == (24, "a-23")
        assert len(session.query(DeclaredParking).all()) == 39
    break_event(bank_engine, 24, {"amount": 23, "branch": "main"})
    with Session(bank_engine) as session:
        assert retry_stream(session, DeclaredParking.__read_model_definition__, stream) == 1
        assert {row.latest for row in session.query(DeclaredParking)} == set(range(40))


def test_a_rebuild_leaves_aside_what_was_put_aside(bank_engine: Engine) -> None:
    deposit(bank_engine, "a", 1)
    deposit(bank_engine, "b", 2, -5, 3)
    run(bank_engine, Parking)
    assert EventReplayer(bank_engine, Base).rebuild(Parking) == 4
    assert totals(bank_engine, Parking) == {"a": 1, "b": 2}


def test_a_model_of_another_declaration_is_left_alone(bank_engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    deposit(bank_engine, "a", 1)
    run(bank_engine, Balance)
    with bank_engine.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET declaration = 'old'"))
    deposit(bank_engine, "a", 1)
    assert Worker(bank_engine, Base, only=["balance", "stopping"]).run_once() == 2
    assert totals(bank_engine, Balance) == {"a": 1}
    assert "balance does not follow" in caplog.text


@pytest.mark.parametrize("policy", [RetryPolicy(attempts=10_000), RetryPolicy(attempts=50), RetryPolicy(attempts=9, factor=1e200)])
def test_a_policy_with_many_attempts_has_pauses_that_a_date_can_hold(policy: RetryPolicy) -> None:
    pauses = [policy.pause(number) for number in range(1, policy.attempts + 1)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == timedelta(days=365)
