"""Missing tables, lost connections, gaps: a clear error, a usable session, nothing half written."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError, StaleDataError

from sa_eventsource import CorruptStreamError, EventSourceError
from tests.committing import changing_events
from tests.orders import Base, Customer, Order
from tests.session.helpers import place_order, stored_events, stored_types
from tests.shop import OrderStatus


def test_without_tables_the_databases_own_error_names_the_table(engine: Engine) -> None:
    Base.metadata.drop_all(engine)
    order = Order.place()
    with Session(engine) as session:
        session.add(order)
        with pytest.raises((ProgrammingError, OperationalError), match="events"):
            session.commit()
        session.rollback()
        with pytest.raises((ProgrammingError, OperationalError), match="events"):
            session.get(Order, "o-1")
        session.rollback()
        Base.metadata.create_all(engine)
        assert inspect(order).transient
        session.add(order)
        session.commit()
    assert stored_types(engine) == ["OrderPlaced"]


def _terminate(engine: Engine, session: Session) -> None:
    """End the session's connection from the server's side."""
    pid = session.scalar(text("SELECT pg_backend_pid()"))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def test_a_connection_lost_before_the_flush(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        new = Order.place("new")
        with session.no_autoflush:
            session.add(new)
            _terminate(postgres, session)
        with pytest.raises(OperationalError):
            session.commit()
        session.rollback()
        assert inspect(new).transient
        assert order.status is OrderStatus.PLACED
        order.pay()
        session.add(new)
        session.commit()
    assert sorted(stored_types(postgres)) == ["OrderPaid", "OrderPlaced", "OrderPlaced"]


def test_a_connection_lost_between_flush_and_commit(postgres: Engine) -> None:
    with Session(postgres) as session:
        order = Order.place()
        session.add_all([order, Customer(id="c-1", email="a@example.com")])
        session.flush()
        _terminate(postgres, session)
        with pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
        assert stored_events(postgres) == []
        assert inspect(order).transient
        session.add(order)
        session.commit()
        assert session.scalars(select(Customer)).all() == []
    assert stored_types(postgres) == ["OrderPlaced"]


def test_a_connection_lost_within_a_savepoint(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        with pytest.raises(DBAPIError), session.begin_nested():
            order.pay()
            with session.no_autoflush:
                _terminate(postgres, session)
        session.rollback()
        assert (order.status, order.version) == (OrderStatus.PLACED, 1)
        order.pay()
        session.commit()
    assert stored_types(postgres) == ["OrderPlaced", "OrderPaid"]


def test_a_connection_lost_before_a_load(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        _terminate(postgres, session)
        with pytest.raises(OperationalError):
            session.get(Order, order_id)
        session.rollback()
        assert session.get_one(Order, order_id).status is OrderStatus.PLACED


def test_a_hole_in_a_stream_is_found_when_it_is_loaded(postgres: Engine) -> None:
    order_id = place_order(postgres, notes=3)
    with changing_events(postgres, Base) as connection:
        connection.execute(text("DELETE FROM events WHERE version = 2"))
    with Session(postgres) as session:
        for load in (lambda: session.get(Order, order_id), lambda: session.scalars(select(Order)).all()):
            with pytest.raises(CorruptStreamError) as caught:
                load()
            assert (caught.value.expected_version, caught.value.found_version) == (2, 3)
            session.rollback()


NOT_THERE = (EventSourceError, StaleDataError, ObjectDeletedError, DetachedInstanceError)


def test_an_aggregate_left_over_from_a_session_closed_without_commit_leaves_no_hole(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        session.flush()
    assert stored_types(database) == ["OrderPlaced"]
    with Session(database) as session:
        try:
            session.add(order)
            order.ship()
            session.commit()
        except NOT_THERE:
            session.rollback()
    versions = [version for _, _, version, _ in stored_events(database)]
    assert versions == list(range(1, len(versions) + 1))


def test_a_new_aggregate_left_over_from_a_session_closed_without_commit_leaves_no_hole(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.flush()
    with Session(database) as session:
        try:
            session.add(order)
            order.pay()
            session.commit()
        except NOT_THERE:
            session.rollback()
    versions = [version for _, _, version, _ in stored_events(database)]
    assert versions == list(range(1, len(versions) + 1))


def test_an_aggregate_expunged_before_a_rollback_leaves_no_hole(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        session.flush()
        session.expunge(order)
        session.rollback()
    with Session(database) as session:
        try:
            session.add(order)
            order.ship()
            session.commit()
        except NOT_THERE:
            session.rollback()
    versions = [version for _, _, version, _ in stored_events(database)]
    assert versions == list(range(1, len(versions) + 1))


def test_an_aggregate_expunged_before_the_commit_can_still_be_read(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        session.flush()
        session.expunge(order)
        session.commit()
    assert (order.status, order.version) == (OrderStatus.PAID, 2)
    with Session(database) as session:
        session.add(order)
        order.ship()
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid", "OrderShipped"]
