"""An event id that is stored already: the same event is "already appended", another one a conflict."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from sa_eventsource import (
    ConcurrencyError,
    DuplicateAggregateError,
    EventAlreadyAppendedError,
    EventIdConflictError,
    EventPayloadError,
    EventSourcedRepository,
    ExpectedVersion,
    UnhandledEventError,
    event_context,
)
from sa_eventsource.session.retry import retry_on_conflict
from sa_eventsource.time_ordered_ids import uuid7
from tests import PARTITIONS
from tests.orders import Order
from tests.session.helpers import kinds_of_statements, place_order, stored_events, stored_types
from tests.shop import NoteAdded, OrderPaid, ParcelScanned
from tests.threads import together

MOMENT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
EVENT_ID = UUID("01952f00-0000-7000-8000-000000000001")


def _note(order_id: str, text: str = "same", *, event_id: UUID = EVENT_ID, occurred_at: datetime = MOMENT) -> Order:
    order = Order(id=order_id)
    order.apply_event(NoteAdded(text=text), event_id=event_id, occurred_at=occurred_at)
    return order


def _store(engine: Engine, order: Order) -> None:
    with Session(engine) as session:
        session.add(order)
        session.commit()


def test_the_same_event_again_is_already_appended(database: Engine) -> None:
    _store(database, _note("o-1"))
    with Session(database) as session:
        session.add(_note("o-1"))
        with pytest.raises(EventAlreadyAppendedError) as caught:
            session.commit()
        assert caught.value.event_ids == (EVENT_ID,)
        assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("Order", "o-1")
        session.rollback()
        assert session.get_one(Order, "o-1").notes == ["same"]
    assert len(stored_events(database)) == 1


def test_the_same_moment_in_another_time_zone_is_the_same_content(database: Engine) -> None:
    _store(database, _note("o-1"))
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    with Session(database) as session:
        session.add(_note("o-1", occurred_at=elsewhere))
        with pytest.raises(EventAlreadyAppendedError):
            session.commit()


@pytest.mark.parametrize(
    ("order", "differences"),
    [
        (lambda: _note("o-1", "other"), ("event_data",)),
        (lambda: _note("o-2"), ("aggregate_id",)),
        (lambda: _note("o-1", occurred_at=MOMENT + timedelta(microseconds=1)), ("occurred_at",)),
        (lambda: _note("o-3", "other"), ("aggregate_id", "event_data")),
    ],
)
def test_another_event_under_the_id_is_a_conflict_that_names_the_columns(
    database: Engine, order: Any, differences: tuple[str, ...]
) -> None:
    _store(database, _note("o-1"))
    with Session(database) as session:
        session.add(order())
        with pytest.raises(EventIdConflictError) as caught:
            session.commit()
        error = caught.value
        assert error.event_id == EVENT_ID
        assert (error.aggregate_type, error.aggregate_id, error.version) == ("Order", "o-1", 1)
        assert error.differences == differences
        session.rollback()
    assert len(stored_events(database)) == 1


def test_other_metadata_and_type_are_named_too(database: Engine) -> None:
    _store(database, _note("o-1"))
    with event_context(user="ann"):
        order = Order(id="o-1")
        order.apply_event(OrderPaid(payment_id="p"), event_id=EVENT_ID, occurred_at=MOMENT)
    with Session(database) as session:
        session.add(order)
        with pytest.raises(EventIdConflictError) as caught:
            session.commit()
        assert caught.value.differences == ("event_type", "event_data", "metadata")


def test_the_same_event_behind_another_one_is_at_another_place(database: Engine) -> None:
    _store(database, _note("o-1"))
    with Session(database) as session:
        order = session.get_one(Order, "o-1")
        order.apply_event(NoteAdded(text="same"), event_id=EVENT_ID, occurred_at=MOMENT)
        with pytest.raises(EventIdConflictError) as caught:
            session.commit()
        assert caught.value.differences == ("version",)
    assert len(stored_events(database)) == 1


def test_a_batch_that_is_partly_stored_is_never_written_in_part(database: Engine) -> None:
    _store(database, _note("o-1"))
    with Session(database) as session:
        order = _note("o-1")
        order.apply_event(NoteAdded(text="new"))
        session.add_all([order, Order.place(order_id="o-2")])
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        assert (caught.value.expected_version, caught.value.actual_version) == (0, 1)
        session.rollback()
    assert [row[1:3] for row in stored_events(database)] == [("o-1", 1)]


def test_a_stored_stream_beside_a_new_one_is_reported_and_the_new_one_not_written(database: Engine) -> None:
    _store(database, _note("o-1"))
    new = Order.place(order_id="o-2")
    with Session(database) as session:
        session.add_all([_note("o-1"), new])
        with pytest.raises(EventAlreadyAppendedError) as caught:
            session.commit()
        assert caught.value.aggregate_id == "o-1"
        session.rollback()
        session.add(new)
        session.commit()
    assert [row[1:3] for row in stored_events(database)] == [("o-1", 1), ("o-2", 1)]


def test_one_id_twice_in_a_flush_is_refused(database: Engine) -> None:
    with Session(database) as session:
        session.add_all([_note("o-1"), _note("o-2")])
        with pytest.raises(EventIdConflictError) as caught:
            session.commit()
        assert (caught.value.event_id, caught.value.is_stored) == (EVENT_ID, False)
        assert "given to two events" in str(caught.value)
        session.rollback()
    assert stored_events(database) == []


def test_one_id_twice_in_an_append_is_not_said_to_be_stored(database: Engine) -> None:
    with Session(database) as session:
        events = [NoteAdded(text="a"), NoteAdded(text="a")]
        with pytest.raises(EventIdConflictError, match=r"given to two events .* version 1 of Order 'o-1'") as caught:
            EventSourcedRepository(session, Order).append("o-1", events, event_ids=[EVENT_ID, EVENT_ID], expected_version=0)
        assert not caught.value.is_stored
    assert stored_events(database) == []


def test_two_instances_of_one_aggregate_in_a_flush_are_refused_and_not_tried_again(database: Engine) -> None:
    attempts = []

    @retry_on_conflict()
    def place_twice() -> None:
        attempts.append(1)
        with Session(database) as session:
            session.add_all([Order.place("first", order_id="o-1"), Order.place("second", order_id="o-1")])
            session.commit()

    with pytest.raises(DuplicateAggregateError, match="two instances of Order 'o-1'") as caught:
        place_twice()
    assert (caught.value.aggregate_type, caught.value.aggregate_id, len(attempts)) == ("Order", "o-1", 1)
    assert stored_events(database) == []


def test_a_new_instance_beside_the_loaded_one_is_refused(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        session.get_one(Order, order_id).apply_event(NoteAdded(text="a"))
        session.add(Order.place("second", order_id=order_id))
        with pytest.raises(DuplicateAggregateError):
            session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_append_with_an_exact_version(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        order = repository.get(order_id)
        assert repository.append(order_id, [NoteAdded(text="a"), NoteAdded(text="b")], expected_version=1) == 3
        assert (order.version, order.notes) == (3, ["a", "b"])
        session.commit()
        with pytest.raises(ConcurrencyError) as caught:
            repository.append(order_id, [NoteAdded(text="c")], expected_version=1)
        assert (caught.value.expected_version, caught.value.actual_version) == (1, 3)
        with pytest.raises(ConcurrencyError) as caught:
            repository.append(order_id, [NoteAdded(text="c")], expected_version=7)
        assert (caught.value.expected_version, caught.value.actual_version) == (7, 3)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "NoteAdded"]


@pytest.mark.parametrize("expected", [0, ExpectedVersion.NO_STREAM])
def test_append_to_a_stream_that_must_not_exist(database: Engine, expected: Any) -> None:
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        assert repository.append("o-1", [NoteAdded(text="a")], expected_version=expected) == 1
        session.commit()
        with pytest.raises(ConcurrencyError) as caught:
            repository.append("o-1", [NoteAdded(text="b")], expected_version=expected)
        assert (caught.value.expected_version, caught.value.actual_version) == (0, 1)
        session.commit()
    assert stored_types(database) == ["NoteAdded"]


@pytest.mark.parametrize("expected", [1, ExpectedVersion.ANY])
def test_a_repeated_append_is_already_appended(database: Engine, expected: Any) -> None:
    order_id = place_order(database)
    ids = [uuid7(), uuid7()]
    events = [NoteAdded(text="a"), NoteAdded(text="b")]
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        for _ in range(2):
            try:
                repository.append(order_id, events, expected_version=expected, event_ids=ids, occurred_at=MOMENT)
            except EventAlreadyAppendedError as error:
                assert error.event_ids == tuple(ids)
                break
        else:
            pytest.fail("the second append was taken")
        with pytest.raises(EventIdConflictError) as caught:
            repository.append(order_id, events[::-1], expected_version=expected, event_ids=ids, occurred_at=MOMENT)
        assert caught.value.differences == ("event_data",)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "NoteAdded"]


def test_append_of_a_batch_that_is_partly_stored_writes_nothing(database: Engine) -> None:
    order_id = place_order(database)
    first, second = uuid7(), uuid7()
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        repository.append(order_id, [NoteAdded(text="a")], expected_version=1, event_ids=[first], occurred_at=MOMENT)
        session.commit()
        for expected in (1, ExpectedVersion.ANY):
            with pytest.raises(ConcurrencyError):
                repository.append(
                    order_id,
                    [NoteAdded(text="a"), NoteAdded(text="b")],
                    expected_version=expected,
                    event_ids=[first, second],
                    occurred_at=MOMENT,
                )
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_a_refused_append_is_undone_alone(database: Engine) -> None:
    order_id = place_order(database)
    first = uuid7()
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        repository.append(order_id, [NoteAdded(text="a")], expected_version=1, event_ids=[first], occurred_at=MOMENT)
        session.commit()
        repository.append("kept", [NoteAdded(text="a")], expected_version=0)
        with kinds_of_statements(database) as kinds, pytest.raises(ConcurrencyError):
            repository.append(
                order_id,
                [NoteAdded(text="a"), NoteAdded(text="b")],
                expected_version=1,
                event_ids=[first, uuid7()],
                occurred_at=MOMENT,
            )
        written = [kind for kind in kinds if kind != "SELECT"]
        assert (written[0], written[-1]) == ("SAVEPOINT", "ROLLBACK TO SAVEPOINT")
        if PARTITIONS is None:  # else the ids are looked for first
            assert written[1:-1] == ["INSERT"]
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "NoteAdded"]


def test_append_never_leaves_a_hole(database: Engine) -> None:
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        with pytest.raises(ConcurrencyError) as caught:
            repository.append("o-1", [NoteAdded(text="a")], expected_version=1)
        assert (caught.value.expected_version, caught.value.actual_version) == (1, 0)
        with pytest.raises(ValueError, match="versions count from 1"):
            repository.append("o-1", [NoteAdded(text="a")], expected_version=-1)
        session.commit()
    assert stored_events(database) == []


def test_append_checks_its_arguments_and_writes_nothing(database: Engine) -> None:
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        with pytest.raises(ValueError, match="at least one event"):
            repository.append("o-1", [], expected_version=0)
        with pytest.raises(ValueError, match="one for each event"):
            repository.append("o-1", [NoteAdded(text="a")], expected_version=0, event_ids=[])
        with pytest.raises(ValueError, match="time zone"):
            repository.append("o-1", [NoteAdded(text="a")], expected_version=0, occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001
        with pytest.raises(UnhandledEventError):
            repository.append("o-1", [ParcelScanned(place="hub")], expected_version=0)
        with pytest.raises(EventPayloadError):
            repository.append("o-1", [NoteAdded(text="a"), NoteAdded(text="\x00")], expected_version=0)
        session.commit()
    assert stored_events(database) == []


def test_append_behind_whatever_is_there_from_many_threads(postgres: Engine) -> None:
    order_id = place_order(postgres)
    versions: list[int] = []

    def work(number: int) -> None:
        for turn in range(5):
            with Session(postgres) as session:
                note = NoteAdded(text=f"{number}/{turn}")
                repository = EventSourcedRepository(session, Order)
                versions.append(repository.append(order_id, [note], expected_version=ExpectedVersion.ANY))
                session.commit()

    together(*(partial(work, number) for number in range(4)))
    assert sorted(versions) == list(range(2, 22))
    assert [version for _, _, version, _ in stored_events(postgres)] == list(range(1, 22))


def test_a_repetition_is_recognised_when_no_time_was_given(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order.place(order_id="o-9"))
        session.commit()
        repository = EventSourcedRepository(session, Order)
        ids = [uuid4()]
        assert repository.append("o-9", [NoteAdded(text="a")], expected_version=1, event_ids=ids) == 2
        session.commit()
        for expected in (1, ExpectedVersion.ANY):
            with pytest.raises(EventAlreadyAppendedError):
                repository.append("o-9", [NoteAdded(text="a")], expected_version=expected, event_ids=ids)
    with Session(engine) as session:
        order = session.get_one(Order, "o-9")
        order.apply_event(NoteAdded(text="b"), event_id=ids[0])
        with pytest.raises(EventIdConflictError):
            session.commit()


@pytest.mark.parametrize("value", [("a", "b"), [("x",)], {"k": ({"n": 1},)}, 1e23, [1e16, -0.0, 2.5], 10**25, True])
def test_metadata_that_json_writes_otherwise_is_the_same_content(database: Engine, value: Any) -> None:
    for expected in (None, EventAlreadyAppendedError):
        with event_context(value=value):
            order = _note("o-1")
        if expected is None:
            _store(database, order)
        else:
            with pytest.raises(expected):
                _store(database, order)
    assert len(stored_events(database)) == 1


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(-timedelta(hours=12))),
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        datetime(2026, 1, 1),  # noqa: DTZ001 - the point
    ],
)
def test_a_moment_that_no_database_gives_back_is_refused_where_it_is_given(database: Engine, moment: datetime) -> None:
    order = Order(id="o-1")
    with pytest.raises(ValueError, match="occurred_at"):
        order.apply_event(NoteAdded(text="x"), occurred_at=moment)
    assert order.version == 0
    with Session(database) as session, pytest.raises(ValueError, match="occurred_at"):
        EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="x")], expected_version=0, occurred_at=moment)


def test_the_earliest_and_the_latest_moment_come_back(database: Engine) -> None:
    order = Order(id="o-1")
    for moment in (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, 23, 59, tzinfo=UTC)):
        order.apply_event(NoteAdded(text="x"), occurred_at=moment)
    _store(database, order)
    assert len(stored_events(database)) == 2


@pytest.mark.parametrize("event_id", ["not-a-uuid", str(EVENT_ID), 7, EVENT_ID.bytes])
def test_an_event_id_that_is_no_uuid_is_refused_where_it_is_given(database: Engine, event_id: Any) -> None:
    order = Order(id="o-1")
    with pytest.raises(TypeError, match="event_id must be a UUID"):
        order.apply_event(NoteAdded(text="x"), event_id=event_id)
    assert order.version == 0
    with Session(database) as session, pytest.raises(TypeError, match="event_ids must be a UUID"):
        EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="x")], expected_version=0, event_ids=[event_id])


@pytest.mark.parametrize("moment", ["2026-01-01", 7, MOMENT.date()])
def test_a_time_that_is_no_datetime_is_refused(moment: Any) -> None:
    with pytest.raises(TypeError, match="occurred_at must be a datetime"):
        Order(id="o-1").apply_event(NoteAdded(text="x"), occurred_at=moment)


@pytest.mark.parametrize("expected", [1, ExpectedVersion.ANY])
def test_append_behind_an_instance_that_was_added_and_not_flushed(database: Engine, expected: Any) -> None:
    with Session(database) as session:
        order = Order.place(order_id="o-1")
        session.add(order)
        assert EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="x")], expected_version=expected) == 2
        assert (order.version, order.notes) == (2, ["x"])
        order.note("y")
        session.commit()
        assert order.notes == ["x", "y"]
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "NoteAdded"]


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "loaded"])
def test_append_behind_an_instance_that_a_hook_of_its_flush_brings(database: Engine, *, is_new: bool) -> None:
    if not is_new:
        place_order(database, "o-1")
    held: list[Order] = []
    with Session(database) as session:

        def bring(*_: Any) -> None:
            if not held:
                held.append(Order.place(order_id="o-1") if is_new else session.get_one(Order, "o-1"))
                session.add_all(held)

        event.listen(session, "before_flush", bring)
        session.add(Order.place(order_id="o-2"))
        EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="x")], expected_version=1)
        assert (held[0].version, held[0].notes) == (2, ["x"])
        held[0].note("y")
        session.commit()
    assert sorted(stored_types(database)) == ["NoteAdded", "NoteAdded", "OrderPlaced", "OrderPlaced"]
