"""Two writers of one aggregate: who wins, what the loser is told, what is left."""

from __future__ import annotations

import gc
import threading
import weakref
from functools import partial
from traceback import clear_frames

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import OperationalError, PendingRollbackError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from sa_eventsource import ConcurrencyError, EventSourcedRepository, EventSourceError
from sa_eventsource.session.retry import is_conflict
from tests.databases import number_waiting
from tests.orders import Account, Customer, Order
from tests.session.helpers import note_elsewhere, place_order, stored_events, stored_types
from tests.shop import NoteAdded, OrderStatus
from tests.threads import in_thread, together
from tests.waiting import wait_until

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


@pytest.mark.parametrize("level", LEVELS)
def test_the_loser_learns_both_versions_and_can_go_on(postgres: Engine, level: str) -> None:
    order_id = place_order(postgres)
    with Session(postgres.execution_options(isolation_level=level)) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        note_elsewhere(postgres, order_id)
        order.pay()
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        error = caught.value
        assert (error.aggregate_type, error.aggregate_id) == ("Order", order_id)
        assert (error.expected_version, error.actual_version) == (1, 3)
        session.rollback()
        assert (order.version, order.status) == (3, OrderStatus.PLACED)
        order.pay()
        session.commit()
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded", "NoteAdded", "OrderPaid"]


def test_the_error_of_a_conflict_holds_no_aggregate(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        order = Order.place(order_id="o-1")
        session.add(order)
        left = weakref.ref(order)
        del order
        with pytest.raises(ConcurrencyError) as caught:
            session.flush()
        error: BaseException | None = caught.value
        while error is not None:
            clear_frames(error.__traceback__)
            error = error.__cause__ or error.__context__
        gc.collect()
        assert left() is None


def test_a_session_that_goes_on_without_a_rollback_says_what_happened(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        session.add(Order.place("late", order_id=order_id))
        with pytest.raises(ConcurrencyError):
            session.commit()
        with pytest.raises(PendingRollbackError, match=f"Original exception was: no event was written to Order '{order_id}'"):
            session.get(Order, order_id)


def test_of_many_streams_that_were_not_written_three_are_named(database: Engine) -> None:
    with Session(database) as session:
        for number in range(5):
            place_order(database, f"o-{number}")
            session.add(Order.place("late", order_id=f"o-{number}"))
        with pytest.raises(ConcurrencyError):
            session.commit()
        with pytest.raises(PendingRollbackError, match="Order 'o-0', Order 'o-1', Order 'o-2' and 2 more: another transaction"):
            session.get(Order, "o-0")


@pytest.mark.parametrize("level", LEVELS)
def test_two_new_aggregates_with_one_id(postgres: Engine, level: str) -> None:
    with Session(postgres.execution_options(isolation_level=level)) as session:
        session.execute(text("SELECT 1"))
        place_order(postgres, "o-1", notes=1)
        session.add(Order.place("late", order_id="o-1"))
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        assert (caught.value.expected_version, caught.value.actual_version) == (0, 2)
        session.rollback()
        assert session.get_one(Order, "o-1").customer_id == "c-1"
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_writer_that_waited_for_the_winner_loses(postgres: Engine, level: str) -> None:
    order_id = place_order(postgres)
    loaded = threading.Barrier(2, timeout=60)
    flushed = threading.Event()

    def lose() -> None:
        with Session(postgres.execution_options(isolation_level=level)) as session:
            order = session.get_one(Order, order_id)
            loaded.wait()
            assert flushed.wait(60)
            order.pay("loser")
            session.commit()

    thread, errors = in_thread(lose)
    with Session(postgres.execution_options(isolation_level=level)) as session:
        order = session.get_one(Order, order_id)
        loaded.wait()
        order.pay("winner")
        session.flush()
        flushed.set()
        wait_until(lambda: number_waiting(postgres), "the loser does not wait for the winner")
        session.commit()
    thread.join(60)
    (error,) = errors
    assert isinstance(error, ConcurrencyError)
    assert (error.expected_version, error.actual_version) == (1, 2)
    assert stored_types(postgres) == ["OrderPlaced", "OrderPaid"]


def test_a_writer_that_waited_for_a_transaction_that_was_rolled_back_wins(postgres: Engine) -> None:
    order_id = place_order(postgres)

    def write() -> None:
        with Session(postgres) as session:
            session.get_one(Order, order_id).pay()
            session.commit()

    with Session(postgres) as session:
        session.get_one(Order, order_id).note("undone")
        session.flush()
        thread, errors = in_thread(write)
        wait_until(lambda: number_waiting(postgres), "the writer does not wait")
        session.rollback()
    thread.join(60)
    assert errors == []
    assert stored_types(postgres) == ["OrderPlaced", "OrderPaid"]


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_of_the_transaction_is_written(postgres: Engine, level: str) -> None:
    order_id = place_order(postgres)
    with Session(postgres.execution_options(isolation_level=level)) as session:
        order = session.get_one(Order, order_id)
        session.add(Customer(id="c-9", email="ann@example.com"))
        session.flush()
        note_elsewhere(postgres, order_id)
        order.pay()
        session.add_all([Order.place(), Account.open()])
        with pytest.raises(ConcurrencyError):
            session.commit()
        session.rollback()
        assert session.scalars(select(Customer)).all() == []
        session.commit()
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded"]


def test_a_session_that_met_a_conflict_insists_on_a_rollback(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        order.pay()
        with pytest.raises(ConcurrencyError):
            session.flush()
        with pytest.raises(Exception, match="rollback"):
            session.execute(text("SELECT 1"))
        with pytest.raises(Exception, match="rollback"):
            session.commit()
        session.rollback()
        assert session.scalar(text("SELECT 1")) == 1
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded"]


def test_a_conflict_found_by_autoflush_is_the_same_error(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        order.pay()
        with pytest.raises(ConcurrencyError):
            session.scalars(select(Customer)).all()


@pytest.mark.parametrize("level", LEVELS)
def test_within_a_savepoint_only_the_savepoint_is_undone(postgres: Engine, level: str) -> None:
    order_id = place_order(postgres)
    with Session(postgres.execution_options(isolation_level=level)) as session:
        session.add_all([Customer(id="c-1", email="ann@example.com"), Order.place("kept", order_id="kept")])
        session.flush()
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        with pytest.raises(ConcurrencyError) as caught, session.begin_nested():
            session.add(Customer(id="c-2", email="ben@example.com"))
            order.pay()
        # Above READ COMMITTED the transaction goes on seeing the stream as it was when it began.
        assert (caught.value.expected_version, caught.value.actual_version) == (1, 2 if level == "READ COMMITTED" else None)
        session.commit()
        assert [customer.id for customer in session.scalars(select(Customer))] == ["c-1"]
    assert sorted(stored_types(postgres)) == ["NoteAdded", "OrderPlaced", "OrderPlaced"]


def test_the_first_of_several_conflicts_is_named(postgres: Engine) -> None:
    ids = sorted(place_order(postgres) for _ in range(3))
    with Session(postgres) as session:
        orders = [session.get_one(Order, order_id) for order_id in ids]
        note_elsewhere(postgres, ids[1])
        for order in orders:
            order.pay()
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        assert caught.value.aggregate_id == ids[1]
    assert len(stored_events(postgres)) == 4


def test_the_error_is_a_stale_data_error(postgres: Engine) -> None:
    assert issubclass(ConcurrencyError, StaleDataError)
    assert issubclass(ConcurrencyError, EventSourceError)
    place_order(postgres, "o-1")
    with Session(postgres) as session:
        session.add(Order.place(order_id="o-1"))
        with pytest.raises(StaleDataError, match=r"Order 'o-1' is at version 1.*version 0.*retry_on_conflict"):
            session.commit()


def test_a_conflict_on_sqlite(sqlite_engine: Engine) -> None:
    order_id = place_order(sqlite_engine)
    with Session(sqlite_engine, expire_on_commit=False) as session:
        order = session.get_one(Order, order_id)
        session.commit()
        note_elsewhere(sqlite_engine, order_id)
        order.pay()
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        assert (caught.value.expected_version, caught.value.actual_version) == (1, 2)
        session.rollback()
        assert order.version == 2
    assert stored_types(sqlite_engine) == ["OrderPlaced", "NoteAdded"]


def test_many_writers_of_one_aggregate_leave_no_gap(postgres: Engine) -> None:
    order_id = place_order(postgres)
    acknowledged, lost = [], []

    def write(number: int) -> None:
        for turn in range(5):
            with Session(postgres) as session:
                order = session.get_one(Order, order_id)
                order.note(f"{number}/{turn}")
                try:
                    session.commit()
                except ConcurrencyError:
                    lost.append(1)
                else:
                    acknowledged.append(f"{number}/{turn}")

    together(*(partial(write, number) for number in range(6)))
    with Session(postgres) as session:
        assert sorted(session.get_one(Order, order_id).notes) == sorted(acknowledged)
    assert [version for _, _, version, _ in stored_events(postgres)] == list(range(1, len(acknowledged) + 2))
    assert len(acknowledged) + len(lost) == 30


@pytest.mark.parametrize("level", LEVELS)
def test_a_conflict_of_one_among_several_in_a_savepoint_undoes_it_and_can_be_retried(postgres: Engine, level: str) -> None:
    first, second = place_order(postgres), place_order(postgres)
    with Session(postgres.execution_options(isolation_level=level)) as session:
        orders = [session.get_one(Order, each) for each in (first, second)]
        note_elsewhere(postgres, second)
        expected = EventSourceError if level == "READ COMMITTED" else (EventSourceError, OperationalError)
        with pytest.raises(expected) as caught, session.begin_nested():
            for order in orders:
                order.pay()
        assert is_conflict(caught.value)
        assert orders[0].status is OrderStatus.PLACED
        orders[0].ship()
        session.commit()
    assert sorted(stored_types(postgres)) == ["NoteAdded", "OrderPlaced", "OrderPlaced", "OrderShipped"]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_events_behind_a_version_that_is_not_stored_leave_no_hole(database: Engine, number: int) -> None:
    place_order(database, "o-1")
    notes = [NoteAdded(text=f"note {each}") for each in range(number)]
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        with pytest.raises(ConcurrencyError) as caught:
            repository.append("o-1", notes, expected_version=3)
        assert (caught.value.expected_version, caught.value.actual_version) == (3, 1)
        with pytest.raises(ConcurrencyError):
            repository.append("o-2", notes, expected_version=1)
        session.commit()
    assert [version for _, _, version, _ in stored_events(database)] == [1]


def test_a_conflict_is_told_where_a_hook_does_not_set_up_the_connection_that_asks(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        order.pay()

        @event.listens_for(session, "after_begin")
        def refuse(*_: object) -> None:
            raise LookupError("no tenant")

        with pytest.raises(ConcurrencyError) as caught:
            session.flush()
    assert (caught.value.expected_version, caught.value.actual_version) == (1, None)
