"""Sessions in transactions that are not theirs to end, and on connections that have none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.orm import Session

from sa_eventsource import (
    AutocommitError,
    ConcurrencyError,
    EmptyAggregateError,
    EventAlreadyAppendedError,
    EventIdConflictError,
    EventSourcedRepository,
    lock_aggregate,
)
from sa_eventsource.session.retry import retry_on_conflict
from tests.orders import Order
from tests.session.helpers import note_elsewhere, place_order, stored_types
from tests.shop import NoteAdded

pytestmark = pytest.mark.slow_on_sqlite


@contextmanager
def begun(engine: Engine) -> Iterator[Session]:
    """A session within an application's transaction."""
    with engine.begin() as connection, Session(connection) as session:
        yield session


@contextmanager
def begun_by_hand(engine: Engine) -> Iterator[Session]:
    """The same, without a block for the transaction."""
    with engine.connect() as connection:
        connection.begin()
        with Session(connection) as session:
            yield session


@contextmanager
def with_savepoint(engine: Engine) -> Iterator[Session]:
    """A session that works in a savepoint of an application's transaction."""
    with engine.begin() as connection, Session(connection, join_transaction_mode="create_savepoint") as session:
        yield session


@contextmanager
def in_outer_savepoint(engine: Engine) -> Iterator[Session]:
    """A session within an application's savepoint."""
    with engine.begin() as connection, connection.begin_nested(), Session(connection) as session:
        yield session


OUTSIDE = [begun, begun_by_hand, with_savepoint, in_outer_savepoint]


@pytest.mark.parametrize("outside", OUTSIDE)
def test_a_conflict_in_an_outside_transaction_is_told_as_one(database: Engine, outside: Callable[[Engine], Any]) -> None:
    place_order(database, "o-1")
    with pytest.raises(ConcurrencyError) as caught, outside(database) as session:
        session.add(Order.place(order_id="o-1"))
        session.commit()
    assert (caught.value.aggregate_id, caught.value.expected_version, caught.value.actual_version) == ("o-1", 0, 1)


@pytest.mark.parametrize("outside", OUTSIDE)
def test_what_is_repeated_in_an_outside_transaction_is_told_as_such(database: Engine, outside: Callable[[Engine], Any]) -> None:
    place_order(database, "o-1")
    known = uuid4()
    for expected in (None, EventAlreadyAppendedError):
        with outside(database) as session:
            order = Order(id="o-2")
            order.apply_event(NoteAdded(text="once"), event_id=known)
            session.add(order)
            if expected is None:
                session.commit()
                session.get_bind().commit() if outside is begun_by_hand else None
            else:
                with pytest.raises(expected):
                    session.commit()
                break
    with outside(database) as session:
        order = Order(id="o-3")
        order.apply_event(NoteAdded(text="another"), event_id=known)
        session.add(order)
        with pytest.raises(EventIdConflictError):
            session.commit()


def test_a_conflict_in_an_outside_transaction_is_retried(postgres: Engine) -> None:
    place_order(postgres, "o-1")
    attempts: list[int] = []

    @retry_on_conflict()
    def note() -> None:
        with postgres.begin() as connection, Session(connection) as session:
            order = session.get_one(Order, "o-1")
            if not attempts:
                note_elsewhere(postgres, "o-1")
            attempts.append(order.version)
            order.note("mine")
            session.commit()

    note()
    assert attempts == [1, 2]
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded", "NoteAdded"]


def test_an_outside_transaction_in_a_savepoint_goes_on_after_a_conflict(database: Engine) -> None:
    place_order(database, "o-1")
    with database.begin() as connection, Session(connection, join_transaction_mode="create_savepoint") as session:
        session.add(Order.place(order_id="o-1"))
        with pytest.raises(ConcurrencyError):
            session.commit()
        session.rollback()
        session.add(Order.place(order_id="o-2"))
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPlaced"]


def test_a_flush_that_is_refused_rolls_an_outside_transaction_back_as_for_any_entity(database: Engine) -> None:
    with database.connect() as connection:
        connection.begin()
        with Session(connection) as session:
            session.add(Order.place(order_id="o-1"))
            session.commit()
            session.add(Order(id="nothing happened"))
            with pytest.raises(EmptyAggregateError):
                session.flush()
        connection.commit() if connection.in_transaction() else None
    assert stored_types(database) == []


def in_autocommit_by_option(engine: Engine) -> Engine:
    """The engine with autocommit as an option."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def in_autocommit_from_the_start(engine: Engine) -> Engine:
    """A new engine with autocommit."""
    return create_engine(engine.url, isolation_level="AUTOCOMMIT")


def in_autocommit_by_hook(engine: Engine) -> Engine:
    """A new engine whose connections are switched by a hook of the pool, of which SQLAlchemy does not know."""
    found = create_engine(engine.url)

    def switch(connection: Any, _record: Any) -> None:
        if engine.dialect.name == "postgresql":
            connection.autocommit = True
        else:
            connection.isolation_level = None

    event.listen(found, "connect", switch)
    return found


AUTOCOMMIT = [in_autocommit_by_option, in_autocommit_from_the_start, in_autocommit_by_hook]


@pytest.mark.parametrize("switched", AUTOCOMMIT)
def test_events_are_not_written_in_autocommit(database: Engine, switched: Callable[[Engine], Engine]) -> None:
    place_order(database, "o-1")
    engine = switched(database)
    with Session(engine) as session:
        assert session.get_one(Order, "o-1").version == 1
        session.add_all([Order.place(order_id="o-2"), Order.place(order_id="o-3")])
        with pytest.raises(AutocommitError, match="AUTOCOMMIT"):
            session.commit()
        session.rollback()
        with pytest.raises(AutocommitError):
            EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="x")], expected_version=1)
        session.rollback()
        with pytest.raises(AutocommitError):
            lock_aggregate(session, Order, "o-1")
    engine.dispose()
    assert stored_types(database) == ["OrderPlaced"]


def test_one_connection_of_a_session_in_autocommit_is_enough_to_refuse(database: Engine) -> None:
    with Session(database) as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        session.add(Order.place())
        with pytest.raises(AutocommitError):
            session.commit()
    assert stored_types(database) == []


def test_what_is_undone_in_a_savepoint_is_read_again(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        order = session.get_one(Order, "o-1")
        savepoint = session.begin_nested()
        EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="undone")], expected_version=1)
        assert session.get_one(Order, "o-1").notes == ["undone"]
        savepoint.rollback()
        assert (order.version, order.notes) == (1, [])
        with session.begin_nested():
            EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="kept")], expected_version=1)
        assert order.notes == ["kept"]
        session.commit()


def test_what_a_released_savepoint_wrote_is_read_again_when_the_outer_one_is_undone(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        order = session.get_one(Order, "o-1")
        outer = session.begin_nested()
        with session.begin_nested():
            EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="undone")], expected_version=1)
        assert order.notes == ["undone"]
        outer.rollback()
        assert (order.version, order.notes) == (1, [])


def test_a_session_closed_without_its_transaction_leaves_the_outer_one_alone(database: Engine) -> None:
    with database.connect() as connection:
        outer = connection.begin()
        with Session(connection) as session:
            session.add(Order.place())
            session.commit()
        outer.rollback()
        assert inspect(connection) is not None
        assert isinstance(connection, Connection)
    assert stored_types(database) == []
