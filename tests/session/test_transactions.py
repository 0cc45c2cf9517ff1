"""commit, rollback, savepoints, autoflush, expire_on_commit."""

from __future__ import annotations

import gc
import sys
import weakref
from itertools import count
from typing import TYPE_CHECKING, ClassVar

import pytest
from pydantic import Field
from sqlalchemy import Engine, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import ObjectDeletedError

from sa_eventsource import ConcurrencyError, EventSourcedRepository
from tests.bank import AnyAccount, Deposited
from tests.orders import Base, Customer, Order
from tests.session.helpers import kinds_of_statements, note_elsewhere, place_order, stored_events, stored_types
from tests.shop import NoteAdded, OrderPaid, OrderPlaced, OrderStatus

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_rollback_before_a_flush_leaves_a_new_aggregate_to_be_added_again(database: Engine) -> None:
    order = Order.place()
    with Session(database) as session:
        session.add(order)
        session.rollback()
        assert inspect(order).transient
        assert [type(event) for event in order.pending_events] == [OrderPlaced]
        session.add(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_rollback_after_flushes_makes_a_new_aggregate_transient_with_all_its_events(database: Engine) -> None:
    order = Order.place()
    order_id = order.id
    with Session(database) as session:
        session.add(order)
        session.flush()
        order.pay()
        session.flush()
        order.note("not flushed")
        session.rollback()
        assert inspect(order).transient
        assert [type(event) for event in order.pending_events] == [OrderPlaced, OrderPaid, NoteAdded]
        assert (order.id, order.version, order.status, order.notes) == (order_id, 3, OrderStatus.PAID, ["not flushed"])
    assert stored_events(database) == []
    with Session(database) as session:
        session.add(order)
        session.commit()
    assert stored_events(database) == [
        ("Order", order_id, 1, "OrderPlaced"),
        ("Order", order_id, 2, "OrderPaid"),
        ("Order", order_id, 3, "NoteAdded"),
    ]


@pytest.mark.parametrize("within", ["the transaction", "a released savepoint", "a savepoint rolled back"])
def test_what_was_appended_between_its_own_flushes_stays_with_a_new_aggregate(database: Engine, within: str) -> None:
    order = Order.place(order_id="o-1")
    with Session(database) as session:
        session.add(order)
        session.flush()
        savepoint = session.begin_nested() if "savepoint" in within else None
        EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="appended")], expected_version=1)
        order.note("applied")
        session.flush()
        if savepoint is not None:
            (savepoint.rollback if "rolled back" in within else savepoint.commit)()
        session.rollback()
    kept = [] if "rolled back" in within else ["appended", "applied"]
    assert (order.version, order.notes) == (1 + len(kept), kept)
    with Session(database) as session:
        session.add(order)
        session.commit()
    with Session(database) as session:
        stored = session.get_one(Order, "o-1")
        assert (stored.version, stored.notes, stored.status) == (1 + len(kept), kept, OrderStatus.PLACED)


def test_events_keep_their_ids_and_times_through_a_rollback(database: Engine) -> None:
    order = Order.place()
    with Session(database) as session:
        session.add(order)
        session.flush()
        before = session.connection().exec_driver_sql("SELECT event_id, occurred_at FROM events").all()
        session.rollback()
        session.add(order)
        session.commit()
        assert session.connection().exec_driver_sql("SELECT event_id, occurred_at FROM events").all() == before


def test_rollback_reloads_a_persistent_aggregate(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        session.flush()
        order.ship()
        assert order.version == 3
        session.rollback()
        assert order.pending_events == ()
        assert (order.status, order.version) == (OrderStatus.PLACED, 1)
        order.note("after all")
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_closing_a_session_discards_what_was_not_committed(database: Engine) -> None:
    with Session(database) as session:
        session.add(Order.place())
        session.flush()
    assert stored_events(database) == []


def test_a_released_savepoint_is_part_of_the_transaction(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        with session.begin_nested():
            order.pay()
        assert (order.status, order.version) == (OrderStatus.PAID, 2)
        order.ship()
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid", "OrderShipped"]


def test_a_savepoint_rolled_back_undoes_only_what_happened_in_it(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.note("outside")
        nested = session.begin_nested()
        order.pay()
        session.flush()
        nested.rollback()
        assert (order.status, order.version, order.notes) == (OrderStatus.PLACED, 2, ["outside"])
        order.ship()
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "OrderShipped"]


@pytest.mark.parametrize("is_new", [False, True])
def test_what_a_savepoint_wrote_is_read_again_by_an_instance_that_was_loaded_since(database: Engine, *, is_new: bool) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        outer, nested = session.begin_nested(), session.begin_nested()
        if is_new:
            session.add(Order.place(order_id="o-2"))
        else:
            session.get_one(Order, "o-1").note("undone")
        nested.commit()
        gc.collect()
        order = session.get_one(Order, "o-2" if is_new else "o-1")
        order.note("undone, too, and not written")
        outer.rollback()
        if is_new:
            with pytest.raises(ObjectDeletedError):
                _ = order.version
        else:
            assert (order.version, order.notes) == (1, [])
            order.pay()
        session.commit()
    assert stored_types(database) == ["OrderPlaced"] if is_new else ["OrderPlaced", "OrderPaid"]


def test_a_new_aggregate_of_a_savepoint_rolled_back_keeps_what_was_not_written(database: Engine) -> None:
    with Session(database) as session:
        with session.begin_nested() as nested:
            order = Order.place(order_id="o-1")
            session.add(order)
            session.flush()
            order.note("not written")
            nested.rollback()
        assert [type(each) for each in order.pending_events] == [OrderPlaced, NoteAdded]


def test_a_new_aggregate_of_a_savepoint_rolled_back_is_transient_with_its_events(database: Engine) -> None:
    with Session(database) as session:
        kept = Order.place("kept")
        session.add(kept)
        nested = session.begin_nested()
        order = Order.place("undone")
        session.add(order)
        session.flush()
        order.pay()
        session.flush()
        nested.rollback()
        assert inspect(order).transient
        assert [type(event) for event in order.pending_events] == [OrderPlaced, OrderPaid]
        assert inspect(kept).persistent
        session.add(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPlaced", "OrderPaid"]


def test_a_new_aggregate_changed_in_a_savepoint_rolled_back_keeps_its_first_events(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.flush()
        nested = session.begin_nested()
        order.pay()
        session.flush()
        nested.rollback()
        assert (order.version, order.status) == (1, OrderStatus.PLACED)
        session.rollback()
        assert inspect(order).transient
        assert [type(event) for event in order.pending_events] == [OrderPlaced]
        assert (order.version, order.status) == (1, OrderStatus.PLACED)
        session.add(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_a_new_aggregate_changed_in_a_released_savepoint_keeps_all_events_when_all_is_rolled_back(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.flush()
        with session.begin_nested():
            order.pay()
        with session.begin_nested(), session.begin_nested():
            order.note("two levels down")
        session.rollback()
        assert [type(event) for event in order.pending_events] == [OrderPlaced, OrderPaid, NoteAdded]
        assert (order.version, order.status, order.notes) == (3, OrderStatus.PAID, ["two levels down"])
        session.add(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid", "NoteAdded"]


def _calls(work: Callable[[], object]) -> int:
    """Count the functions that are called, Python's and C's: unlike the time, the same on every machine."""
    calls = count()
    sys.setprofile(lambda _frame, what, _argument: next(calls) if what in {"call", "c_call"} else None)
    try:
        work()
    finally:
        sys.setprofile(None)
    return next(calls)


@pytest.mark.parametrize("within", ["transaction", "savepoint"])
def test_a_savepoint_costs_the_same_however_many_came_before(sqlite_engine: Engine, within: str) -> None:
    held: list[Order] = []

    def savepoint(session: Session) -> None:
        with session.begin_nested():
            held.append(Order.place())
            session.add(held[-1])

    with Session(sqlite_engine) as session:
        if within == "savepoint":
            session.begin_nested()
        for _ in range(3):
            savepoint(session)
        before = min(_calls(lambda: savepoint(session)) for _ in range(3))
        for _ in range(300):
            savepoint(session)
        after = min(_calls(lambda: savepoint(session)) for _ in range(3))
    assert after <= 1.1 * before


@pytest.mark.parametrize("within", ["transaction", "savepoint"])
def test_a_released_savepoint_is_let_go_though_a_new_aggregate_has_events_of_it(sqlite_engine: Engine, within: str) -> None:
    with Session(sqlite_engine) as session:
        order = Order.place()
        session.add(order)
        session.flush()
        outer = session.begin_nested() if within == "savepoint" else None
        with session.begin_nested() as savepoint:
            order.note("within")
        gone = weakref.ref(savepoint)
        del savepoint
        gc.collect()
        assert gone() is None
        assert outer is None or outer.is_active


def test_a_released_savepoint_within_one_rolled_back_is_undone(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        outer = session.begin_nested()
        with session.begin_nested():
            order.pay()
        outer.rollback()
        assert (order.version, order.status) == (1, OrderStatus.PLACED)
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


@pytest.mark.parametrize("ending", ["the one around it is rolled back", "it is closed"])
def test_what_an_open_savepoint_has_written_is_undone_with_it(database: Engine, ending: str) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        outer = session.begin_nested()
        inner = session.begin_nested()
        order.pay()
        session.flush()
        if ending == "it is closed":
            inner.close()
        else:
            outer.rollback()
        assert (order.status, order.version) == (OrderStatus.PLACED, 1)
        order.note("after all")
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_a_new_aggregate_changed_in_an_open_savepoint_that_is_undone_keeps_its_first_events(database: Engine) -> None:
    order = Order.place()
    with Session(database) as session:
        session.add(order)
        session.flush()
        outer = session.begin_nested()
        session.begin_nested()
        order.pay()
        session.flush()
        outer.rollback()
        session.rollback()
        assert [type(event) for event in order.pending_events] == [OrderPlaced]


def test_a_conflict_in_a_savepoint_undoes_only_the_savepoint(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        other = Order.place("kept")
        session.add(other)
        session.flush()
        note_elsewhere(postgres, order_id)
        with pytest.raises(ConcurrencyError), session.begin_nested():
            order.pay()
        assert (order.version, order.notes) == (2, ["from elsewhere"])
        with session.begin_nested():
            order.pay()
        session.commit()
    assert stored_types(postgres) == ["OrderPlaced", "OrderPlaced", "NoteAdded", "OrderPaid"]


def test_a_query_flushes_pending_events_first(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        assert session.scalars(select(Order)).all() == [order]
        assert order.pending_events == ()
        order.pay()
        assert session.execute(select(Order.version)).scalar_one() == 2


def test_without_autoflush_a_query_does_not_see_pending_events(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session, session.no_autoflush:
        session.get_one(Order, order_id).pay()
        assert session.execute(select(Order.version)).scalar_one() == 1
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


def test_expire_on_commit_reloads_after_commit(postgres: Engine) -> None:
    with Session(postgres) as session:
        order = Order.place()
        order_id = order.id
        session.add(order)
        session.commit()
        assert "status" not in vars(order)
        note_elsewhere(postgres, order_id)
        assert (order.version, order.notes) == (2, ["from elsewhere"])


def test_without_expire_on_commit_the_state_stays_and_nothing_is_read(database: Engine) -> None:
    with Session(database, expire_on_commit=False) as session:
        order = Order.place()
        session.add(order)
        session.commit()
        with kinds_of_statements(database) as kinds:
            assert (order.status, order.version, order.notes) == (OrderStatus.PLACED, 1, [])
            order.pay()
        assert kinds == []
        session.commit()
        assert (order.status, order.version) == (OrderStatus.PAID, 2)
    assert order.status is OrderStatus.PAID
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


def test_without_expire_on_commit_a_stale_aggregate_meets_the_version_check(postgres: Engine) -> None:
    with Session(postgres, expire_on_commit=False) as session:
        order = Order.place()
        session.add(order)
        session.commit()
        note_elsewhere(postgres, order.id)
        order.pay()
        with pytest.raises(ConcurrencyError):
            session.commit()
        session.rollback()
        order.pay()
        session.commit()
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded", "OrderPaid"]


def test_rows_of_the_application_and_events_are_one_transaction(database: Engine) -> None:
    with Session(database) as session:
        session.add(Customer(id="c-1", email="ann@example.com"))
        session.add(Order.place("c-1"))
        session.rollback()
        assert session.scalars(select(Customer)).all() == []
        session.add(Customer(id="c-1", email="ann@example.com"))
        session.add(Order.place("c-1"))
        session.commit()
        assert len(session.scalars(select(Customer)).all()) == 1
    assert stored_types(database) == ["OrderPlaced"]


def test_a_failing_row_of_the_application_undoes_the_events(database: Engine) -> None:
    with Session(database) as session:
        session.add(Customer(id="c-1", email="ann@example.com"))
        session.commit()
        order = Order.place("c-2")
        session.add_all([order, Customer(id="c-2", email="ann@example.com")])
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert inspect(order).transient
        assert stored_events(database) == []
        session.add_all([order, Customer(id="c-2", email="ben@example.com")])
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_session_begin_commits_at_the_end_of_the_block(database: Engine) -> None:
    with Session(database) as session, session.begin():
        session.add(Order.place())
    assert stored_types(database) == ["OrderPlaced"]


class Flaky(AnyAccount, Base):
    """Its methods and its defaults work for as long as nothing is broken."""

    broken: ClassVar[list[str]] = []
    label: str = Field(default_factory=lambda: Flaky.check("default") or "new")

    @classmethod
    def check(cls, what: str) -> None:
        """Raise if that is broken."""
        if what in cls.broken:
            raise LookupError(what)

    def _deposited(self, event: Deposited) -> None:
        self.check("method")
        super()._deposited(event)


@pytest.fixture
def broken() -> Iterator[list[str]]:
    """What is broken for the time of a test."""
    yield Flaky.broken
    Flaky.broken.clear()


@pytest.mark.parametrize("what", ["method", "default"])
@pytest.mark.parametrize("expired", [False, True], ids=["loaded", "expired"])
@pytest.mark.parametrize("of", ["transaction", "savepoint"])
def test_a_rollback_is_not_disturbed_by_what_code_of_an_aggregate_raises(
    database: Engine, broken: list[str], what: str, of: str, *, expired: bool
) -> None:
    class OwnError(Exception):
        """The application's own."""

    flaky = Flaky(id="f-1")
    flaky.deposit()
    with Session(database) as session:
        if of == "savepoint":
            session.connection()
        with pytest.raises(OwnError), session.begin_nested() if of == "savepoint" else session.begin():
            session.add(flaky)
            session.flush()
            if expired:
                session.expire(flaky)
            broken.append(what)
            raise OwnError
        assert session.in_transaction() == (of == "savepoint")
        assert flaky not in session
        session.add(Order.place())
        session.commit()
        with pytest.raises(LookupError, match=what):
            _ = flaky.balance
        broken.clear()
        assert (flaky.version, flaky.balance, flaky.label) == (1, 1, "new")
        session.add(flaky)
        session.commit()
        assert flaky.balance == 1
    assert stored_types(database) == ["OrderPlaced", "bank.Deposited"]


@pytest.mark.parametrize("of", ["transaction", "savepoint"])
def test_the_state_is_there_after_a_rollback_and_stays_when_it_is_added_again(database: Engine, of: str) -> None:
    flaky = Flaky(id="f-1")
    flaky.deposit()
    with Session(database, expire_on_commit=False) as session:
        session.connection()
        savepoint = session.begin_nested()
        session.add(flaky)
        session.flush()
        (session if of == "transaction" else savepoint).rollback()
        session.add(flaky)
        session.commit()
    assert inspect(flaky).detached
    assert (flaky.version, flaky.balance, flaky.label) == (1, 1, "new")  # nothing had to be read for it
