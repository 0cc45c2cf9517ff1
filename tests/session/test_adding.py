"""session.add and what a session knows of aggregates: new, dirty, identity, references."""

from __future__ import annotations

import gc
import weakref
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, inspect
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import Session, make_transient, make_transient_to_detached
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError

from sa_eventsource import EmptyAggregateError
from tests.orders import Account, Order, Till
from tests.session.helpers import note_elsewhere, place_order, state_of, stored_events, stored_types
from tests.shop import LINES, OrderPaid, OrderPlaced, OrderStatus

pytestmark = pytest.mark.slow_on_sqlite


@pytest.mark.parametrize("listening", [False, True])
def test_a_new_aggregate_takes_the_place_of_one_that_was_never_committed(database: Engine, *, listening: bool) -> None:
    with Session(database) as session:
        given_up = Order.place(order_id="o-1")
        session.add(given_up)
        session.flush()
    with Session(database) as session:
        if listening:
            event.listen(session, "after_flush", lambda *_: None)
        session.add(given_up)
        new = Order.place(order_id="o-1")
        session.add(new)
        with pytest.warns(SAWarning, match="Identity map already had an identity"):
            session.commit()
        assert new in session
        assert given_up not in session
        assert session.get(Order, "o-1") is new


def test_an_added_aggregate_is_stored_at_commit(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place("c-7")
        order.pay()
        session.add(order)
        assert stored_events(database) == []
        session.commit()
        assert order.pending_events == ()
        order_id = order.id
    assert stored_events(database) == [("Order", order_id, 1, "OrderPlaced"), ("Order", order_id, 2, "OrderPaid")]
    with Session(database) as session:
        loaded = session.get_one(Order, order_id)
        assert (loaded.status, loaded.customer_id, loaded.version) == (OrderStatus.PAID, "c-7", 2)
        assert loaded.lines == LINES
        assert loaded.total == Decimal("43.30")


def test_add_all_stores_aggregates_of_several_classes(database: Engine) -> None:
    till = Till(id=3)
    till.sell("lamp")
    orders = [Order.place() for _ in range(3)]
    account = Account.open()
    with Session(database) as session:
        session.add_all([*orders, account, till])
        session.commit()
        expected = [("Order", order.id, 1, "OrderPlaced") for order in orders] + [
            ("Account", str(account.id), 1, "bank.Opened"),
            ("Till", "3", 1, "Sold"),
        ]
    assert sorted(stored_events(database)) == sorted(expected)


def test_a_new_aggregate_passes_through_the_states_of_any_entity(database: Engine) -> None:
    order = Order.place()
    with Session(database) as session:
        assert inspect(order).transient
        session.add(order)
        assert inspect(order).pending
        assert order in session.new
        session.flush()
        assert inspect(order).persistent
        assert order not in session.new
        assert order not in session.dirty
        session.commit()
        session.expunge(order)
        assert inspect(order).detached


def test_a_loaded_aggregate_is_dirty_only_while_it_has_events_to_write(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        assert not session.dirty
        assert not session.is_modified(order)
        order.pay()
        assert list(session.dirty) == [order]
        assert session.is_modified(order)
        session.flush()
        assert not session.dirty
        assert not session.is_modified(order)
        order.ship()
        assert order in session.dirty
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid", "OrderShipped"]


def test_each_flush_writes_only_the_events_since_the_last(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.flush()
        order.pay()
        session.flush()
        order.ship()
        order.note("left at the door")
        session.commit()
        assert order.version == 4
    assert [version for _, _, version, _ in stored_events(database)] == [1, 2, 3, 4]


def test_a_session_has_one_instance_for_an_identity(database: Engine) -> None:
    order = Order.place()
    with Session(database) as session:
        session.add(order)
        session.commit()
        assert session.get(Order, order.id) is order
        assert order in session
        assert session.identity_map[session.identity_key(Order, order.id)] is order


def test_a_clean_aggregate_is_collected_when_nobody_holds_it(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        reference = weakref.ref(session.get_one(Order, order_id))
        gc.collect()
        assert reference() is None
        assert session.get_one(Order, order_id).status is OrderStatus.PLACED


def test_an_aggregate_with_pending_events_is_kept_until_they_are_written(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        reference = weakref.ref(order)
        order.pay()
        del order
        gc.collect()
        assert reference() is not None
        session.commit()
        gc.collect()
        assert reference() is None
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


def test_a_committed_new_aggregate_is_collected(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.commit()
        reference = weakref.ref(order)
        del order
        gc.collect()
        assert reference() is None


def test_expunging_a_new_aggregate_keeps_it_out_of_the_log(database: Engine) -> None:
    order = Order.place()
    with Session(database) as session:
        session.add(order)
        session.expunge(order)
        session.commit()
        assert inspect(order).transient
    assert stored_events(database) == []
    assert [type(event) for event in order.pending_events] == [OrderPlaced]


def test_an_expunged_aggregate_keeps_its_events_and_can_be_added_again(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        session.expunge(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]
    assert [type(event) for event in order.pending_events] == [OrderPaid]
    with Session(database) as session:
        session.add(order)
        assert order in session.dirty
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


def test_a_detached_aggregate_can_be_read_and_changed_while_it_is_loaded(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
    assert order.status is OrderStatus.PLACED
    order.pay()
    with Session(database) as session:
        session.add(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


@pytest.mark.parametrize("attribute", ["status", "notes", "version"])
def test_an_expired_detached_aggregate_cannot_be_read(database: Engine, attribute: str) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.commit()
    with pytest.raises(DetachedInstanceError):
        getattr(order, attribute)


def test_an_expired_detached_aggregate_takes_no_event(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.commit()
    with pytest.raises(DetachedInstanceError):
        order.note("too late")
    with Session(database) as session:
        session.add(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_a_detached_aggregate_meets_the_version_check_when_it_comes_back(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
    note_elsewhere(database, order_id)
    with Session(database) as session:
        session.add(order)
        session.refresh(order)
        assert order.version == 2
        order.pay()
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "OrderPaid"]


def test_make_transient_forgets_the_session_and_not_the_state(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        before = state_of(order)
        make_transient(order)
        assert inspect(order).transient
        assert state_of(order) == before
        session.add(order)
        with pytest.raises(EmptyAggregateError):
            session.flush()
        session.rollback()
    assert stored_types(database) == ["OrderPlaced"]


def test_a_new_aggregate_without_events_is_refused(database: Engine) -> None:
    order = Order()
    with Session(database) as session:
        session.add(order)
        with pytest.raises(EmptyAggregateError) as caught:
            session.commit()
        assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("Order", order.id)
        session.rollback()
        order.note("now there is something")
        session.add(order)
        session.commit()
    assert stored_types(database) == ["NoteAdded"]


def test_an_aggregate_that_was_never_stored_cannot_be_refreshed_from_nothing(database: Engine) -> None:
    order = Order.place()
    with Session(database) as session:
        session.add(order)
        session.flush()
        session.expire(order)
        assert order.status is OrderStatus.PLACED
        session.rollback()
        assert inspect(order).transient
        assert order.status is OrderStatus.PLACED


def test_an_aggregate_whose_stream_is_gone_says_so(database: Engine) -> None:
    # A session believes in an identity without events: as after an older backup was restored under a running application.
    ghost = Order.place()
    make_transient_to_detached(ghost)
    with Session(database) as session:
        session.add(ghost)
        session.expire(ghost)
        with pytest.raises(ObjectDeletedError):
            _ = ghost.status


def test_streams_of_a_flush_are_written_in_the_order_of_type_and_id_whatever_order_they_were_added_in(database: Engine) -> None:
    """Two transactions that write the same streams wait for each other then, instead of deadlocking."""
    with Session(database) as session:
        session.add_all([Order.place(order_id=name) for name in ("d", "b", "c", "a")])
        session.add(Account.open(account_id=UUID(int=1)))
        session.flush()
        one, other = session.get_one(Order, "c"), session.get_one(Order, "a")
        one.note("first")
        other.note("second")
        session.commit()
    streams = [(kind, name) for kind, name, version, _ in stored_events(database) if version == 1]
    assert streams == [("Account", str(UUID(int=1))), ("Order", "a"), ("Order", "b"), ("Order", "c"), ("Order", "d")]
    assert [name for _, name, version, _ in stored_events(database) if version == 2] == ["a", "c"]
