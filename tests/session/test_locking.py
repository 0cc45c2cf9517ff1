"""lock_aggregate, and FOR UPDATE, which has no row to lock."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import Engine, event, inspect, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from sa_eventsource import AggregateIdError, UnitOfWorkBypassError, lock_aggregate
from tests.databases import number_waiting
from tests.orders import Account, Order
from tests.session.helpers import kinds_of_statements, note_elsewhere, place_order, stored_types
from tests.shop import OrderStatus
from tests.threads import in_thread
from tests.waiting import wait_until


def test_for_update_is_refused_with_advice(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        with pytest.raises(UnitOfWorkBypassError, match=r"lock_aggregate\(session, Order, id\)"):
            session.get(Order, order_id, with_for_update=True)
        with pytest.raises(UnitOfWorkBypassError, match="lock_aggregate"):
            session.scalars(select(Order).with_for_update()).all()
        with pytest.raises(UnitOfWorkBypassError, match="lock_aggregate"):
            session.scalars(select(Order).with_for_update(read=True, skip_locked=True)).all()
        order = session.get_one(Order, order_id)
        with pytest.raises(UnitOfWorkBypassError, match="lock_aggregate"):
            session.refresh(order, with_for_update=True)
        assert order.status is OrderStatus.PLACED


def test_a_second_transaction_waits_for_the_lock_and_sees_what_the_first_committed(postgres: Engine) -> None:
    order_id = place_order(postgres)
    seen: list[int] = []

    def second() -> None:
        with Session(postgres) as session:
            lock_aggregate(session, Order, order_id)
            order = session.get_one(Order, order_id)
            seen.append(order.version)
            order.note("second")
            session.commit()

    with Session(postgres) as session:
        lock_aggregate(session, Order, order_id)
        thread, errors = in_thread(second)
        wait_until(lambda: number_waiting(postgres), "nobody waits for the lock")
        session.get_one(Order, order_id).note("first")
        session.commit()
        thread.join(60)
    assert (seen, errors) == ([2], [])
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded", "NoteAdded"]


def test_locks_of_other_aggregates_are_independent(postgres: Engine) -> None:
    first_id, second_id = place_order(postgres), place_order(postgres)
    with Session(postgres) as one, Session(postgres) as other:
        other.execute(text("SET LOCAL lock_timeout = '2s'"))
        lock_aggregate(one, Order, first_id)
        lock_aggregate(other, Order, second_id)
        lock_aggregate(other, Account, uuid4())


def test_a_lock_timeout_is_the_databases_own_error(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as one, Session(postgres) as other:
        lock_aggregate(one, Order, order_id)
        other.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            lock_aggregate(other, Order, order_id)
        other.rollback()
        one.rollback()
        lock_aggregate(other, Order, order_id)


def test_an_aggregate_that_does_not_exist_yet_can_be_locked(postgres: Engine) -> None:
    with Session(postgres) as one, Session(postgres) as other:
        lock_aggregate(one, Order, "not-yet")
        other.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(OperationalError):
            lock_aggregate(other, Order, "not-yet")


def test_locking_refreshes_the_instance_that_the_session_has(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        lock_aggregate(session, Order, order_id)
        assert (order.version, order.notes) == (2, ["from elsewhere"])


def test_locking_keeps_pending_events_by_writing_them(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        lock_aggregate(session, Order, order_id)
        assert (order.version, order.status) == (2, OrderStatus.PAID)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


@pytest.mark.parametrize("autoflush", [True, False])
def test_locking_writes_what_the_session_has_of_the_aggregate_under_the_lock(database: Engine, *, autoflush: bool) -> None:
    order_id = place_order(database)
    with Session(database, autoflush=autoflush) as session:
        new = Order.place(order_id="new")
        session.add(new)
        order = session.get_one(Order, order_id)
        order.pay()
        with kinds_of_statements(database) as kinds:
            lock_aggregate(session, Order, order_id)
        assert kinds[-1] == "INSERT"
        assert [each for each in (order, new) if "version" in vars(each)] == [new]
        lock_aggregate(session, Order, "new")
        assert (new.version, new.status) == (1, OrderStatus.PLACED)
        session.commit()
    assert sorted(stored_types(database)) == ["OrderPaid", "OrderPlaced", "OrderPlaced"]


def test_locking_expires_an_instance_that_its_flush_makes_persistent(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place(order_id="o-1")
        session.add(order)
        lock_aggregate(session, Order, "o-1")
        assert inspect(order).persistent
        assert "version" not in vars(order)
        order.pay()
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


def test_locking_expires_an_instance_that_a_hook_of_its_flush_brings(database: Engine) -> None:
    order_id = place_order(database)
    held: list[Order] = []
    with Session(database) as session:
        event.listen(session, "before_flush", lambda *_: held.append(session.get_one(Order, order_id)))
        session.add(Order.place())
        lock_aggregate(session, Order, order_id)
        assert "version" not in vars(held[0])
        assert held[0].version == 1


@pytest.mark.parametrize("hook", ["after_flush", "after_flush_postexec"])
def test_locking_keeps_what_a_hook_of_its_flush_applies(database: Engine, hook: str) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        event.listen(session, hook, lambda *_: order.note("in a hook"), once=True)
        order.pay()
        lock_aggregate(session, Order, order_id)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid", "NoteAdded"]


def test_a_writer_that_does_not_ask_for_the_lock_is_not_held_up(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        lock_aggregate(session, Order, order_id)
        note_elsewhere(postgres, order_id)
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded"]


def test_locking_checks_the_id(database: Engine) -> None:
    with Session(database) as session, pytest.raises(AggregateIdError):
        lock_aggregate(session, Order, 3)
