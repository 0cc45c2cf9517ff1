"""scoped_session, sessions with several binds, Session.info."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, UpdateBase, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Session, scoped_session, sessionmaker

from sa_eventsource import (
    ConcurrencyError,
    EventContext,
    EventRecord,
    EventSourcedRepository,
    EventStore,
    event_context,
    lock_aggregate,
)
from tests.advisory_locks import OWN_ADVISORY_LOCKS
from tests.orders import Account, Base, Order
from tests.session.helpers import place_order, stored_events, stored_types
from tests.shop import AnyOrder, NoteAdded, OrderStatus
from tests.threads import together


class ArchiveBase(DeclarativeBase):
    """Base of classes that another database holds."""


class Archived(AnyOrder, ArchiveBase):
    """An order that is kept apart."""


def test_scoped_session(database: Engine) -> None:
    registry = scoped_session(sessionmaker(database))
    order = Order.place()
    registry.add(order)
    registry.commit()
    order_id = order.id
    assert registry.get(Order, order_id) is order
    registry.remove()
    assert registry.get_one(Order, order_id) is not order
    registry.remove()


def test_an_aggregate_is_locked_in_a_scoped_session(database: Engine) -> None:
    registry = scoped_session(sessionmaker(database))
    order = registry.get_one(Order, place_order(database))
    lock_aggregate(registry, Order, order.id)
    order.note("locked")
    lock_aggregate(registry, Order, order.id)
    registry.commit()
    assert order.notes == ["locked"]
    registry.remove()


def test_each_thread_of_a_scoped_session_has_its_own_instances(database: Engine) -> None:
    registry = scoped_session(sessionmaker(database))
    order_id = place_order(database)
    found: list[Order] = []

    def work() -> None:
        found.append(registry.get_one(Order, order_id))
        registry.remove()

    together(work, work)
    assert found[0] is not found[1]
    assert {order.status for order in found} == {OrderStatus.PLACED}


def test_a_subclass_of_session_works_alike(database: Engine) -> None:
    class AppSession(Session):
        """An application's own session class."""

    make = sessionmaker(database, class_=AppSession)
    with make.begin() as session:
        session.add(Order.place())
    assert stored_types(database) == ["OrderPlaced"]


def test_binds_by_base(database: Engine, second: Engine) -> None:
    ArchiveBase.metadata.create_all(second, checkfirst=True)
    archived = Archived()
    archived.note("old")
    order = Order.place()
    with Session(binds={Base: database, ArchiveBase: second}) as session:
        session.add_all([archived, order])
        session.commit()
        assert (archived.notes, order.status) == (["old"], OrderStatus.PLACED)
        assert session.scalars(select(Archived)).one() is archived
        assert EventStore(session, Archived).events.count() == 1
        assert EventStore(session, Order).events.count() == 1
        assert EventStore(session, ArchiveBase).last_position() == 1
        assert EventStore(session).events.of(Archived).count() == 1
        assert EventSourcedRepository(session, Archived).append(archived.id, [NoteAdded(text="more")], expected_version=1) == 2
        assert EventSourcedRepository(session, Archived).load_at_version(archived.id, 1).notes == ["old"]
        lock_aggregate(session, Archived, archived.id)
        lock_aggregate(session, Order, order.id)
    assert stored_types(database) == ["OrderPlaced"]
    assert stored_types(second) == ["NoteAdded"]  # the append was not committed


def test_binds_by_class_of_one_base(database: Engine, second: Engine) -> None:
    order, account = Order.place(), Account.open()
    with Session(binds={Order: database, Account: second}) as session:
        session.add_all([order, account])
        session.commit()
        assert session.get_one(Order, order.id).status is OrderStatus.PLACED
        assert session.get_one(Account, account.id).owner == "ann"
        assert session.scalars(select(Account)).one() is account
        account.deposit(5)
        order.pay()
        session.commit()
    assert [row[0] for row in stored_events(database)] == ["Order", "Order"]
    assert [row[0] for row in stored_events(second)] == ["Account", "Account"]


def test_a_session_on_a_connection_takes_part_in_its_transaction(database: Engine) -> None:
    with database.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.add(Order.place())
            session.commit()
            assert session.scalars(select(Order)).one().status is OrderStatus.PLACED
        transaction.rollback()
    assert stored_types(database) == []


def test_the_sessions_context_is_stored_with_every_event(database: Engine) -> None:
    correlation, causation = uuid4(), uuid4()
    with Session(database) as session:
        session.info["event_context"] = EventContext(correlation, causation, {"user": "ann", "reason": "call"})
        order = Order.place()
        order.pay()
        session.add(order)
        session.commit()
        for record in session.scalars(select(EventRecord)):
            assert (record.correlation_id, record.causation_id) == (correlation, causation)
            assert record.metadata == {"user": "ann", "reason": "call"}


def test_a_block_of_code_goes_before_the_session_value_by_value(database: Engine) -> None:
    outer, inner = uuid4(), uuid4()
    with Session(database) as session:
        session.info["event_context"] = EventContext(outer, None, {"user": "ann", "tenant": "north"})
        with event_context(correlation_id=inner, user="ben"):
            order = Order.place()
        session.add(order)
        session.commit()
        record = session.scalars(select(EventRecord)).one()
        assert record.correlation_id == inner
        assert record.metadata == {"user": "ben", "tenant": "north"}


def test_the_context_holds_for_append_without_loading(database: Engine) -> None:
    with Session(database) as session:
        session.info["event_context"] = EventContext(metadata={"user": "ann"})
        EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="x")], expected_version=0)
        session.commit()
        assert session.scalars(select(EventRecord)).one().metadata == {"user": "ann"}


@pytest.mark.parametrize("undone_by", ["rollback", "savepoint", "conflict"])
def test_events_that_a_rollback_gives_back_are_written_with_the_context_of_the_session_that_writes_them(
    database: Engine, undone_by: str
) -> None:
    first = EventContext(uuid4(), uuid4(), {"user": "first", "tenant": "a"})
    order = Order.place(order_id="o-1")
    with event_context(channel="phone"):
        order.note("called")
    with Session(database) as session:
        session.add(Order.place(order_id="taken"))
        session.commit()
        session.info["event_context"] = first
        savepoint = session.begin_nested()
        session.add(order)
        if undone_by == "conflict":
            session.add(Order.place(order_id="taken"))
            with pytest.raises(ConcurrencyError):
                session.flush()
        else:
            session.flush()
            (savepoint if undone_by == "savepoint" else session).rollback()
        session.rollback()
    with Session(database) as session:
        session.info["event_context"] = second = EventContext(uuid4(), None, {"user": "second"})
        session.add(order)
        session.commit()
        stored = session.scalars(select(EventRecord).where(EventRecord.aggregate_id == "o-1").order_by(EventRecord.version)).all()
        assert [each.metadata for each in stored] == [{"user": "second"}, {"user": "second", "channel": "phone"}]
        assert {(each.correlation_id, each.causation_id) for each in stored} == {(second.correlation_id, None)}


def test_a_context_of_a_wrong_type_stops_the_flush(database: Engine) -> None:
    with Session(database) as session:
        session.info["event_context"] = {"user": "ann"}
        session.add(Order.place())
        with pytest.raises(TypeError, match="EventContext"):
            session.commit()
        session.rollback()
    assert stored_types(database) == []


def test_append_writes_where_a_session_that_reads_from_a_replica_writes(database: Engine, second: Engine) -> None:
    class Routing(Session):
        """Writes to one database and reads from another, by SQLAlchemy's recipe."""

        def get_bind(self, mapper: Any = None, *, clause: Any = None, **_: Any) -> Engine:
            return database if self._flushing or isinstance(clause, UpdateBase) else second

    place_order(database, "o-1")
    place_order(second, "o-1")
    with Routing() as session:
        session.get_one(Order, "o-1").note("by the flush")
        EventSourcedRepository(session, Order).append("o-1", [NoteAdded(text="by append")], expected_version=2)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "NoteAdded"]
    assert stored_types(second) == ["OrderPlaced"]


def test_a_repository_reads_where_a_session_that_writes_elsewhere_reads(database: Engine, second: Engine) -> None:
    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **_: Any) -> Engine:
            return database if self._flushing or isinstance(clause, UpdateBase) else second

    place_order(second, "o-1")
    with Routing() as session:
        repository = EventSourcedRepository(session, Order)
        assert repository.load_at_version("o-1", 1).version == 1
        assert repository.load_at_time("o-1", datetime.now(UTC), axis="recorded").version == 1


def test_the_lock_of_an_aggregate_is_taken_where_a_routing_session_writes(postgres: Engine) -> None:
    replica = create_engine(postgres.url, connect_args={"application_name": "replica"})

    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **_: Any) -> Engine:
            return postgres if self._flushing or isinstance(clause, UpdateBase) else replica

    with Routing() as session:
        lock_aggregate(session, Order, "o-1")
        with postgres.connect() as connection:
            holders = text(f"SELECT application_name FROM pg_stat_activity WHERE pid IN (SELECT pid FROM {OWN_ADVISORY_LOCKS})")
            assert "replica" not in connection.scalars(holders).all()
            assert connection.scalars(holders).all()
    replica.dispose()
