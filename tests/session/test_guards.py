"""What would change history or pass by the unit of work fails loudly, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, delete, insert, inspect, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

from sa_eventsource import EventRecord, ImmutableEventError, UnitOfWorkBypassError, event_record
from tests.orders import Base, Customer, Order, OrderStatus
from tests.session.helpers import place_order, stored_events, stored_types

EVENTS: Any = inspect(event_record(Base)).local_table

STATEMENTS: dict[str, Callable[[], Any]] = {
    "update of records": lambda: update(EventRecord).values(event_type="x"),
    "delete of records": lambda: delete(EventRecord),
    "delete of the base's records": lambda: delete(event_record(Base)),
    "insert of records": lambda: insert(EventRecord).values(event_id=uuid4()),
    "insert into the table": lambda: insert(EVENTS).values(event_id=uuid4()),
    "upsert into the table": lambda: postgresql.insert(EVENTS).values(event_id=uuid4()).on_conflict_do_nothing(),
    "update of the table": lambda: update(EVENTS).values(version=9),
    "delete from the table": lambda: delete(EVENTS),
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS.keys())
def test_statements_that_write_events_are_refused(database: Engine, statement: Callable[[], Any]) -> None:
    place_order(database, "o-1")
    before = stored_events(database)
    with Session(database) as session:
        with pytest.raises(UnitOfWorkBypassError):
            session.execute(statement())
        session.commit()
    assert stored_events(database) == before


@pytest.mark.parametrize("write", [update, delete, insert])
def test_sqlalchemy_itself_refuses_to_write_a_class_that_has_no_table(write: Any) -> None:
    with pytest.raises(ArgumentError, match=r"subject table for an INSERT, UPDATE or DELETE expected.*tests\.orders\.Order"):
        write(Order)


BULK: dict[str, Callable[[Session], Any]] = {
    "bulk_save_objects": lambda session: session.bulk_save_objects([Order.place()]),
    "bulk_insert_mappings": lambda session: session.bulk_insert_mappings(_mapper(), [{"id": "o-9", "version": 1}]),
    "bulk_update_mappings": lambda session: session.bulk_update_mappings(_mapper(), [{"id": "o-1", "version": 9}]),
}


@pytest.mark.parametrize("operation", BULK.values(), ids=BULK.keys())
def test_legacy_bulk_operations_are_refused(database: Engine, operation: Callable[[Session], Any]) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        with pytest.raises(UnitOfWorkBypassError, match="unit of work"):
            operation(session)
        session.rollback()
    assert stored_types(database) == ["OrderPlaced"]


def test_a_query_cannot_update_or_delete_aggregates(database: Engine) -> None:
    place_order(database)
    with Session(database) as session:
        with pytest.raises(ArgumentError, match="subject table"):
            session.query(Order).update({"version": 9})
        with pytest.raises(ArgumentError, match="subject table"):
            session.query(Order).delete()
        session.rollback()
    assert stored_types(database) == ["OrderPlaced"]


def test_bulk_saving_a_loaded_aggregate_is_refused(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        with pytest.raises(UnitOfWorkBypassError):
            session.bulk_save_objects([order])
        session.rollback()
    assert stored_types(database) == ["OrderPlaced"]


def test_bulk_operations_on_other_classes_work(database: Engine) -> None:
    with Session(database) as session:
        session.bulk_save_objects([Customer(id="c-1", email="a@example.com")])
        session.execute(update(Customer).values(email="b@example.com"))
        session.commit()
        assert session.get_one(Customer, "c-1").email == "b@example.com"


def test_deleting_an_aggregate_is_refused_and_can_be_undone(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        session.delete(order)
        with pytest.raises(ImmutableEventError, match=r"session\.expunge\(\)"):
            session.flush()
        session.expunge(order)
        session.commit()
        assert session.get_one(Order, order_id).status is OrderStatus.PLACED
    assert stored_types(database) == ["OrderPlaced"]


def test_changing_a_record_is_refused(database: Engine) -> None:
    place_order(database)
    with Session(database) as session:
        record = session.scalars(select(EventRecord)).one()
        record.event_type = "orders.Else"
        with pytest.raises(ImmutableEventError):
            session.commit()
        session.rollback()
        assert record.event_type == "orders.OrderPlaced"
    assert stored_types(database) == ["OrderPlaced"]


def test_deleting_a_record_is_refused(database: Engine) -> None:
    place_order(database)
    with Session(database) as session:
        session.delete(session.scalars(select(EventRecord)).one())
        with pytest.raises(ImmutableEventError):
            session.commit()
        session.rollback()
    assert stored_types(database) == ["OrderPlaced"]


def test_adding_a_record_is_refused(database: Engine) -> None:
    record = EventRecord()
    record.event_type = "orders.OrderPlaced"
    with Session(database) as session:
        session.add(record)
        with pytest.raises(ImmutableEventError, match=r"apply_event\(\)"):
            session.commit()
        session.rollback()
    assert stored_events(database) == []


@pytest.mark.parametrize(
    "statement",
    ["UPDATE events SET event_type = 'x'", "DELETE FROM events", "TRUNCATE events", "UPDATE events SET version = version"],
)
def test_the_trigger_refuses_plain_sql(database: Engine, statement: str) -> None:
    if database.dialect.name == "sqlite" and statement.startswith("TRUNCATE"):
        pytest.skip("SQLite has no TRUNCATE")
    place_order(database)
    with database.connect() as connection:
        with pytest.raises(DBAPIError, match="events are immutable"):
            connection.execute(text(statement))
        connection.rollback()
    assert stored_types(database) == ["OrderPlaced"]


@pytest.mark.parametrize("statement", ["UPDATE events SET event_type = 'orders.Else'", "DELETE FROM events", "TRUNCATE events"])
def test_the_switch_opens_the_trigger_for_one_transaction(postgres: Engine, statement: str) -> None:
    place_order(postgres)
    with postgres.connect() as connection:
        connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        connection.execute(text(statement))
        assert connection.scalar(text("SELECT count(*) FROM events WHERE event_type = 'orders.OrderPlaced'")) == 0
        connection.commit()
        place_order(postgres)
        with pytest.raises(DBAPIError, match="events are immutable"):
            connection.execute(text(statement))


@pytest.mark.parametrize("value", ["off", "", "true", "1"])
def test_only_the_word_on_opens_the_trigger(postgres: Engine, value: str) -> None:
    place_order(postgres)
    with postgres.connect() as connection:
        connection.execute(text(f"SET LOCAL sa_eventsource.allow_event_changes = '{value}'"))
        with pytest.raises(DBAPIError, match="events are immutable"):
            connection.execute(text("DELETE FROM events"))


def _mapper() -> Any:
    return inspect(Order)
