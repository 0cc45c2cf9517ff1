"""session.merge, and aggregates that travel in a pickle."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from sqlalchemy import Engine, inspect
from sqlalchemy.orm import Mapped, Session, foreign, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from sa_eventsource import ConcurrencyError, UnitOfWorkBypassError
from tests.orders import Account, Base, Order
from tests.session.helpers import note_elsewhere, place_order, state_of, stored_types
from tests.shop import OrderPaid, OrderPlaced, OrderStatus

pytestmark = pytest.mark.slow_on_sqlite


def test_merge_of_a_detached_aggregate_is_refused_with_advice(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
    order.pay()
    with Session(database) as session:
        with pytest.raises(UnitOfWorkBypassError, match=r"session\.merge\(\).*session\.get\(\)"):
            session.merge(order)
        assert not any(session.is_modified(each) for each in session.dirty)
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_merge_into_a_session_that_has_the_aggregate_is_refused_and_leaves_it_alone(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        detached = session.get_one(Order, order_id)
    with Session(database) as session:
        present = session.get_one(Order, order_id)
        present.note("pending")
        with pytest.raises(UnitOfWorkBypassError):
            session.merge(detached)
        assert (present.version, present.notes) == (2, ["pending"])
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_merge_of_a_new_aggregate_is_refused_and_leaves_nothing_in_the_session(database: Engine) -> None:
    order = Order.place()
    with Session(database) as session:
        with pytest.raises(UnitOfWorkBypassError):
            session.merge(order)
        assert not session.new
        session.commit()
    assert stored_types(database) == []


def test_merge_of_pending_events_is_refused_where_the_log_has_come_to_the_same_version(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
    order.pay()
    note_elsewhere(database, order_id)
    with Session(database) as session:
        assert session.get_one(Order, order_id).version == order.version
        with pytest.raises(UnitOfWorkBypassError, match=r"session\.merge\(\)"):
            session.merge(order)
        session.commit()
    assert [type(event) for event in order.pending_events] == [OrderPaid]
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


class Letter(Base):
    """An ordinary entity, about an order: merging the one cascades to the other."""

    __tablename__ = "letters"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str]
    order: Mapped[Order] = relationship(primaryjoin=lambda: foreign(Letter.order_id) == Order.id)


@pytest.mark.parametrize("change", ["none", "pending", "pending at the same version", "stale"])
def test_merge_of_an_entity_that_refers_to_an_aggregate_loses_none_of_its_events(engine: Engine, change: str) -> None:
    with Session(engine) as session:
        order = Order.place(order_id="o-1")
        session.add_all([order, Letter(id=1, order_id="o-1")])
        session.commit()
        letter = session.get_one(Letter, 1)
        assert letter.order.status is OrderStatus.PLACED
    if change in {"pending", "pending at the same version"}:
        order.note("pending")
    if change in {"stale", "pending at the same version"}:
        note_elsewhere(engine, "o-1")
    with Session(engine) as session:
        if change == "none":
            assert session.merge(letter).order is session.get_one(Order, "o-1")
        else:
            with pytest.raises(UnitOfWorkBypassError, match=r"session\.merge\(\)"):
                session.merge(letter)
        session.commit()
    assert len(order.pending_events) == ("pending" in change)
    stored = ["OrderPlaced", "NoteAdded"] if change in {"stale", "pending at the same version"} else ["OrderPlaced"]
    assert stored_types(engine) == stored


def test_merge_without_load_gives_an_aggregate_that_reads_its_events(database: Engine) -> None:
    order_id = place_order(database, notes=1)
    with Session(database) as session:
        detached = session.get_one(Order, order_id)
    with Session(database) as session:
        merged = session.merge(detached, load=False)
        assert merged is not detached
        assert state_of(merged) == state_of(detached)
        assert (merged.id, merged.version) == (order_id, 2)
        merged.pay()
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "OrderPaid"]


def test_merge_without_load_refuses_pending_events_rather_than_lose_them(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        detached = session.get_one(Order, order_id)
    detached.pay()
    with Session(database) as session, pytest.raises(Exception, match="dirty"):
        session.merge(detached, load=False)
    assert [type(event) for event in detached.pending_events] == [OrderPaid]


def test_merge_without_load_of_a_stale_aggregate_never_writes_on_a_stale_state(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        detached = session.get_one(Order, order_id)
    note_elsewhere(postgres, order_id)
    with Session(postgres) as session:
        merged = session.merge(detached, load=False)
        try:
            merged.pay()
            session.commit()
        except ConcurrencyError:
            session.rollback()
            merged.pay()
            session.commit()
        assert (merged.version, merged.notes, merged.status) == (3, ["from elsewhere"], OrderStatus.PAID)
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded", "OrderPaid"]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_loaded_aggregate_survives_pickling(database: Engine, protocol: int) -> None:
    order_id = place_order(database, notes=2)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        copy: Order = pickle.loads(pickle.dumps(order, protocol))
        assert inspect(copy).detached
        assert (copy.id, copy.version) == (order_id, 3)
        assert state_of(copy) == state_of(order)


def test_a_new_aggregate_survives_pickling_with_its_events(database: Engine) -> None:
    order = Order.place()
    order.pay()
    copy: Order = pickle.loads(pickle.dumps(order))
    assert inspect(copy).transient
    assert copy.pending_events == order.pending_events
    assert [type(event) for event in copy.pending_events] == [OrderPlaced, OrderPaid]
    with Session(database) as session:
        session.add(copy)
        session.commit()
        assert copy.status is OrderStatus.PAID
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


def test_an_unpickled_aggregate_with_pending_events_is_committed_by_another_session(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        data = pickle.dumps(order)
    with Session(database) as session:
        copy: Order = pickle.loads(data)
        session.add(copy)
        assert copy in session.dirty
        session.commit()
        assert (copy.version, copy.status) == (2, OrderStatus.PAID)
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


def test_an_unpickled_stale_aggregate_meets_the_version_check(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        data = pickle.dumps(session.get_one(Order, order_id))
    note_elsewhere(postgres, order_id)
    with Session(postgres) as session:
        copy: Order = pickle.loads(data)
        session.add(copy)
        copy.pay()
        with pytest.raises(ConcurrencyError):
            session.commit()
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded"]


def test_an_expired_aggregate_survives_pickling_and_loads_when_it_is_attached(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.commit()
        data = pickle.dumps(order)
    copy: Order = pickle.loads(data)
    with pytest.raises(DetachedInstanceError):
        _ = copy.status
    with Session(database) as session:
        session.add(copy)
        assert copy.status is OrderStatus.PLACED


def test_a_pickle_keeps_state_fields_of_every_type(database: Engine) -> None:
    account = Account.open("ann")
    account.deposit(3)
    copy: Any = pickle.loads(pickle.dumps(account))
    assert (copy.id, copy.balance, copy.owner) == (account.id, account.balance, "ann")
