"""Aggregates that only the session holds, and that the garbage collector may take at any moment."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import InstanceState, Session, make_transient

from tests.orders import Order
from tests.session.helpers import place_order, stored_types

pytestmark = pytest.mark.slow_on_sqlite


class OwnError(Exception):
    """The application's own."""


ENDINGS: dict[str, Callable[[Session], object]] = {
    "rollback": Session.rollback,
    "expire_all": Session.expire_all,
    "expunge_all": Session.expunge_all,
    "close": Session.close,
    "commit": Session.commit,
    "flush": Session.flush,
    "nested": lambda session: session.begin_nested().rollback(),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_session_can_go_on_when_only_it_holds_the_changed_aggregate(database: Engine, ending: str) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        session.get_one(Order, order_id).pay()
        gc.collect()
        ENDINGS[ending](session)
        gc.collect()
        session.get_one(Order, order_id).note("still there")
        session.commit()
    assert stored_types(database)[-1] == "NoteAdded"


@pytest.mark.parametrize("nested", [False, True])
def test_an_application_s_own_error_comes_out_of_the_block(database: Engine, *, nested: bool) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        with pytest.raises(OwnError), session.begin_nested() if nested else session.begin():
            session.get_one(Order, order_id).pay()
            raise OwnError
        session.get_one(Order, order_id).note("afterwards")
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_pending_events_are_kept_though_nobody_holds_the_aggregate(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        session.get_one(Order, order_id).pay()
        gc.collect()
        session.commit()
        session.get_one(Order, order_id).note("one")
        session.flush()
        gc.collect()
        session.get_one(Order, order_id).note("two")
        gc.collect()
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid", "NoteAdded", "NoteAdded"]


def test_an_event_applied_while_a_flush_runs_is_kept_though_nobody_holds_the_aggregate(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        applied: list[bool] = []

        def apply_to_another(*_: object) -> None:
            if not applied:
                applied.append(True)
                session.get_one(Order, "o-1").pay()
                gc.collect()

        event.listen(session, "after_flush", apply_to_another)
        session.add(Order.place(order_id="o-2"))
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPlaced", "OrderPaid"]


@pytest.mark.parametrize("leave", ["expunge", "expunge_all", "close", "commit", "rollback"])
def test_the_session_lets_go_of_what_it_does_not_owe_the_log(database: Engine, leave: str) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        order = session.get_one(Order, "o-1")
        order.note("pending")
        if leave == "expunge":
            session.expunge(order)
        else:
            ENDINGS[leave](session)
        gone = weakref.ref(order)
        del order
        gc.collect()
        assert gone() is None


def test_an_expunged_aggregate_takes_its_pending_events_along(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as first:
        order = first.get_one(Order, "o-1")
        order.note("pending")
        first.expunge(order)
        first.commit()
    assert stored_types(database) == ["OrderPlaced"]
    with Session(database) as second:
        second.add(order)
        gc.collect()
        second.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_listeners_hear_of_a_new_aggregate_that_only_the_session_held(database: Engine) -> None:
    heard: list[str] = []
    with Session(database) as session:
        event.listen(session, "pending_to_transient", lambda _session, order: heard.append(order.id))
        order = Order.place(order_id="o-1")
        session.add(order)
        order.note("more")
        del order
        gc.collect()
        session.rollback()
    assert heard == ["o-1"]


def _flush_and_expunge(session: Session, order: Order) -> None:
    session.flush()
    order.note("more")
    session.expunge(order)


LEAVE: dict[str, Callable[[Session, Order], object]] = {
    "expunge": lambda session, order: session.expunge(order),
    "expunge_all": lambda session, _order: session.expunge_all(),
    "make_transient": lambda _session, order: make_transient(order),
    "flush, expunge": _flush_and_expunge,
}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_what_has_left_the_session_is_let_go_in_the_middle_of_a_transaction(
    database: Engine, leave: Callable[[Session, Order], object]
) -> None:
    heard: list[str] = []
    with Session(database) as session:
        event.listen(session, "pending_to_transient", lambda _session, order: heard.append(order.id))
        session.connection()
        order = Order(id="o-1")
        session.add(order)
        order.note("pending")
        gone = weakref.ref(order)
        leave(session, order)
        del order
        gc.collect()
        assert gone() is None
    assert heard in (["o-1"], [])


def test_an_aggregate_that_only_the_session_held_is_there_for_those_who_hear_that_it_leaves(database: Engine) -> None:
    heard: list[str] = []

    def fail(_session: Session, state: InstanceState[Order]) -> None:
        found = state.obj()
        assert found is not None
        found.note("in the flush")
        del found
        raise OwnError

    with Session(database) as session:
        event.listen(session, "pending_to_persistent", fail, raw=True)
        event.listen(session, "persistent_to_transient", lambda _session, order: heard.append(order.id))
        session.add(Order.place(order_id="o-1"))
        gc.collect()
        with pytest.raises(OwnError):
            session.flush()
    assert heard == ["o-1"]


@pytest.mark.parametrize("listening", [False, True])
def test_an_expired_aggregate_is_refreshed_by_its_version_alone(database: Engine, *, listening: bool) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        order = session.get_one(Order, "o-1")
        if listening:
            event.listen(session, "do_orm_execute", lambda _state: None)
        session.rollback()
        session.refresh(order, ["version"])
        assert (order.id, order.version, order.customer_id) == ("o-1", 1, "c-1")


@pytest.mark.parametrize("listening", [False, True])
def test_pending_events_outlive_the_reload_of_an_expired_id(database: Engine, *, listening: bool) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        if listening:
            event.listen(session, "do_orm_execute", lambda _state: None)
        order = session.get_one(Order, "o-1")
        order.note("pending")
        session.expire(order, ["id"])
        assert order.id == "o-1"
        assert order.notes == ["pending"]
        session.expire(order, ["id"])
        session.flush()
        order.note("more")
        session.expire(order, ["id"])
        session.commit()
        assert (order.id, order.version, order.notes) == ("o-1", 3, ["pending", "more"])
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "NoteAdded"]
