"""A flush or an append meets what its own transaction has written: no other writer is involved, another try has the same end."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, make_transient

from sa_eventsource import (
    ConcurrencyError,
    DuplicateAggregateError,
    EventAlreadyAppendedError,
    EventIdConflictError,
    EventSourcedRepository,
    ExpectedVersion,
)
from sa_eventsource.session.retry import retry_on_conflict
from tests import PARTITIONS
from tests.orders import Account, Order
from tests.session.helpers import kinds_of_statements, note_elsewhere, place_order, stored_events, stored_types
from tests.shop import NoteAdded

EVENT_ID = UUID("01952f00-0000-7000-8000-000000000002")


def _note(order_id: str, note: str = "same", *, event_id: UUID = EVENT_ID) -> Order:
    order = Order(id=order_id)
    order.apply_event(NoteAdded(text=note), event_id=event_id)
    return order


def _copy_of_loaded(session: Session) -> tuple[Order, Order]:
    order = session.get_one(Order, "stored")
    order.note("a")
    other: Order = pickle.loads(pickle.dumps(order))
    session.flush()
    session.expunge(order)
    return order, other


TWICE: dict[str, Callable[[Session], tuple[Order, Order]]] = {
    "one event twice": lambda _: (_note("o-1"), _note("o-1")),
    "two events": lambda _: (_note("o-1"), _note("o-1", event_id=uuid4())),
    "a copy of a loaded one": _copy_of_loaded,
}


@pytest.mark.parametrize("twice", TWICE.values(), ids=TWICE)
def test_two_instances_of_one_aggregate_in_two_flushes_are_refused_and_not_tried_again(
    database: Engine, twice: Callable[[Session], tuple[Order, Order]]
) -> None:
    place_order(database, "stored")
    attempts = []

    @retry_on_conflict()
    def write_twice() -> None:
        attempts.append(1)
        with Session(database) as session:
            first, second = twice(session)
            for order in (first, second):
                session.add(order)
                session.flush()
                session.expunge(order)

    with pytest.raises(DuplicateAggregateError, match="new events in one transaction") as caught:
        write_twice()
    assert (caught.value.aggregate_type, len(attempts)) == ("Order", 1)
    assert caught.value.aggregate_id in {"o-1", "stored"}
    assert stored_types(database) == ["OrderPlaced"]


@pytest.mark.parametrize(
    ("order_id", "note", "differences"),
    [("o-1", "same", ("version",)), ("o-2", "same", ("aggregate_id",)), ("o-2", "other", ("aggregate_id", "event_data"))],
)
def test_an_event_id_of_an_earlier_flush_is_refused_with_the_event_that_has_it(
    database: Engine, order_id: str, note: str, differences: tuple[str, ...]
) -> None:
    with Session(database) as session:
        order = _note("o-1")
        session.add(order)
        session.flush()
        if order_id == "o-1":
            order.apply_event(NoteAdded(text=note), event_id=EVENT_ID)
        else:
            session.add(_note(order_id, note))
        with pytest.raises(EventIdConflictError, match="given to two events of one transaction") as caught:
            session.commit()
    error = caught.value
    assert (error.event_id, error.is_stored, error.differences) == (EVENT_ID, False, differences)
    assert (error.aggregate_type, error.aggregate_id, error.version) == ("Order", "o-1", 1)
    assert stored_events(database) == []


@pytest.mark.parametrize("others", [0, 1, 300])
def test_what_goes_in_beside_what_is_refused_is_not_taken_for_written_before(database: Engine, others: int) -> None:
    place_order(database, "moved")
    with Session(database) as session:
        moved = session.get_one(Order, "moved")
        session.add(_note("o-1"))
        session.flush()
        session.add_all([Order.place(order_id=f"a-{number}") for number in range(others)])
        if session.bind is not None and session.bind.dialect.name == "postgresql":
            note_elsewhere(database, "moved")
            moved.note("too late")
            expected: Any = ConcurrencyError
        else:
            session.add(_note("o-1", "other", event_id=uuid4()))
            expected = DuplicateAggregateError
        session.add(Account.open())
        with pytest.raises(expected) as caught:
            session.flush()
        assert caught.value.aggregate_id == ("moved" if expected is ConcurrencyError else "o-1")


def test_the_savepoint_that_is_refused_says_what_the_transaction_has_and_keeps(database: Engine) -> None:
    with Session(database) as session:
        session.add(_note("o-1"))
        session.flush()
        for other, expected in (
            (_note("o-1"), EventAlreadyAppendedError),
            (_note("o-2"), EventIdConflictError),
            (_note("o-1", event_id=uuid4()), DuplicateAggregateError),
        ):
            with pytest.raises(expected), session.begin_nested():
                session.expunge_all()
                session.add(other)
        session.commit()
    assert [row[1:3] for row in stored_events(database)] == [("o-1", 1)]


def test_what_a_released_savepoint_has_written_is_the_transaction_s(database: Engine) -> None:
    with Session(database) as session:
        with session.begin_nested():
            session.add(_note("o-1"))
        session.expunge_all()
        session.add(_note("o-1", event_id=uuid4()))
        with pytest.raises(DuplicateAggregateError):
            session.flush()
    with Session(database) as session:
        savepoint = session.begin_nested()
        session.add(_note("o-1"))
        session.flush()
        savepoint.rollback()
        session.expunge_all()
        session.add(_note("o-1", event_id=uuid4()))
        session.commit()
    assert [row[1:3] for row in stored_events(database)] == [("o-1", 1)]


def test_a_conflict_of_a_transaction_that_has_written_nothing_costs_no_question_before_the_rollback(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        session.add(_note("o-1"))
        with kinds_of_statements(database) as kinds, pytest.raises(ConcurrencyError):
            session.flush()
        before = kinds[: kinds.index("ROLLBACK")]
        assert before[before.index("INSERT") :] == ["INSERT"]
        if PARTITIONS is None:  # else an id that is given is looked for in all of them first
            assert before == ["BEGIN", "INSERT"]


def test_a_connection_that_is_lost_before_it_can_be_asked_fails_the_flush(postgres: Engine) -> None:
    with Session(postgres) as session:
        session.add(_note("o-1"))
        session.flush()
        session.expunge_all()
        session.add(_note("o-1", event_id=uuid4()))

        def end(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "beginning" in statement:
                with postgres.connect() as other:
                    process = connection.connection.driver_connection.info.backend_pid
                    other.execute(text("SELECT pg_terminate_backend(:process, 5000)"), {"process": process})

        event.listen(postgres, "before_cursor_execute", end)
        try:
            with pytest.raises(DBAPIError):
                session.flush()
        finally:
            event.remove(postgres, "before_cursor_execute", end)
        assert not session.is_active
        session.rollback()
        session.add(_note("o-2"))
        session.commit()
    assert [row[1:3] for row in stored_events(postgres)] == [("o-2", 1)]


@pytest.mark.parametrize("expected", [1, ExpectedVersion.ANY])
def test_a_batch_that_the_transaction_has_written_in_part_is_refused_and_not_tried_again(database: Engine, expected: Any) -> None:
    place_order(database, "o-1")
    attempts, events = [], [NoteAdded(text="same"), NoteAdded(text="more")]

    @retry_on_conflict()
    def append_twice() -> None:
        attempts.append(1)
        with Session(database) as session:
            repository = EventSourcedRepository(session, Order)
            repository.append("o-1", events[:1], expected_version=expected, event_ids=[EVENT_ID])
            repository.append("o-1", events, expected_version=expected, event_ids=[EVENT_ID, uuid4()])

    with pytest.raises(DuplicateAggregateError) as caught:
        append_twice()
    assert (caught.value.expected_version, len(attempts)) == (1, 1)


@pytest.mark.parametrize("by_instance", [False, True])
def test_an_append_behind_a_version_that_the_transaction_has_left_is_refused_and_not_tried_again(
    database: Engine, *, by_instance: bool
) -> None:
    place_order(database, "o-1")
    attempts = []

    @retry_on_conflict()
    def append_twice() -> None:
        attempts.append(1)
        with Session(database) as session:
            repository = EventSourcedRepository(session, Order)
            if by_instance:
                session.get_one(Order, "o-1").note("a")
            else:
                repository.append("o-1", [NoteAdded(text="a")], expected_version=1)
            try:
                repository.append("o-1", [NoteAdded(text="b")], expected_version=1)
            finally:
                session.commit()

    with pytest.raises(DuplicateAggregateError, match="cannot follow version 1 of Order 'o-1': the same transaction") as caught:
        append_twice()
    assert (caught.value.aggregate_type, caught.value.aggregate_id, caught.value.expected_version) == ("Order", "o-1", 1)
    assert len(attempts) == 1
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]  # the append was undone alone


def test_an_append_behind_a_version_that_others_have_left_is_tried_again_whatever_the_transaction_wrote(database: Engine) -> None:
    place_order(database, "o-1")
    note_elsewhere(database, "o-1")
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        repository.append("o-1", [NoteAdded(text="mine")], expected_version=2)
        with pytest.raises(ConcurrencyError) as caught:
            repository.append("o-1", [NoteAdded(text="x")], expected_version=1)
    assert (caught.value.expected_version, caught.value.actual_version) == (1, 3)


def test_an_append_that_fails_first_in_its_transaction_costs_no_question_before_the_rollback(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        with kinds_of_statements(database) as kinds, pytest.raises(ConcurrencyError):
            repository.append("o-1", [NoteAdded(text="x")], expected_version=0)
    before = kinds[: kinds.index("ROLLBACK TO SAVEPOINT")]
    assert [each for each in before if each != "BEGIN"] == ["SAVEPOINT", "INSERT"]


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("loaded", ["loaded", "expired"])
def test_a_transient_copy_does_not_replace_the_session_s_instance(database: Engine, loaded: str, *, heard: bool) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        copy = session.get_one(Order, "o-1")
    make_transient(copy)
    copy.note("by the copy")
    with Session(database) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        order = session.get_one(Order, "o-1")
        if loaded == "expired":
            session.expire(order)
        session.add(copy)
        with pytest.raises(DuplicateAggregateError) as caught:
            session.flush()
        assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("Order", "o-1")
        session.rollback()
        assert order in session
        order.note("by the session's")
        session.commit()
    assert stored_events(database)[-1][2:] == (2, "NoteAdded")


def test_a_transient_copy_continues_a_stream_that_the_session_has_not_loaded(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        copy = session.get_one(Order, "o-1")
        make_transient(copy)
        copy.note("by the copy")
        session.add(copy)
        session.commit()
        assert session.get(Order, "o-1") is copy
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]
