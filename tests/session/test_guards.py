"""What would change history or bypass the unit of work fails loudly, and changes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, delete, exists, func, insert, inspect, lambda_stmt, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, aliased, joinedload, with_loader_criteria

from sa_eventsource import EventRecord, ImmutableEventError, UnitOfWorkBypassError, event_record
from tests.orders import Base, Customer, Invoice, Order
from tests.session.helpers import place_order, stored_events, stored_types
from tests.shop import OrderStatus

pytestmark = pytest.mark.slow_on_sqlite

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


def _within(statement: Any) -> Any:
    return statement.returning(EVENTS.c.version).cte("written")


_INSERT = {"event_id": uuid4(), "aggregate_type": "Order", "aggregate_id": "o-2", "version": 1, "event_type": "x", "event_data": {}}

NESTED: dict[str, Callable[[], Any]] = {
    "an INSERT beside a SELECT": lambda: select(1).add_cte(_within(insert(EVENTS).values(_INSERT))),
    "an INSERT of records": lambda: select(1).add_cte(_within(insert(EventRecord).values(_INSERT))),
    "an upsert": lambda: select(_within(postgresql.insert(EVENTS).values(_INSERT).on_conflict_do_nothing()).c.version),
    "an UPDATE that is selected from": lambda: select(_within(update(EVENTS).values(version=9)).c.version),
    "a DELETE": lambda: select(_within(delete(EVENTS)).c.version),
    "a DELETE that is joined": lambda: select(Customer).join(_within(delete(EVENTS)), text("true")),
    "a DELETE in a scalar subquery": lambda: select(select(_within(delete(EVENTS)).c.version).scalar_subquery()),
    "a DELETE in a condition": lambda: select(Customer).where(Customer.id.in_(select(_within(delete(EVENTS)).c.version))),
    "a DELETE in a criterion of a loader": lambda: select(Customer).options(
        with_loader_criteria(Customer, exists(select(_within(delete(EVENTS)).c.version)))
    ),
    "a DELETE in a criterion of a relationship": lambda: select(Invoice).options(
        joinedload(Invoice.order.and_(exists(select(_within(delete(EVENTS)).c.version))))
    ),
    "a DELETE in an EXISTS": lambda: select(Customer).where(exists(select(_within(delete(EVENTS)).c.version))),
    "a DELETE in the order": lambda: select(Customer).order_by(select(_within(delete(EVENTS)).c.version).scalar_subquery()),
    "a DELETE in a union": lambda: select(_within(delete(EVENTS)).c.version).union_all(select(1)),
    "a DELETE in a CTE of a CTE": lambda: select(select(_within(delete(EVENTS)).c.version).cte("outer").c.version),
    "a DELETE under an alias": lambda: select(aliased(_within(delete(EVENTS)), name="again").c.version),
    "an entity made of an INSERT": lambda: select(aliased(EventRecord, insert(EventRecord).returning(EventRecord).cte())),
    "an INSERT whose rows are entities": lambda: select(EventRecord).from_statement(insert(EventRecord).returning(EventRecord)),
    "a DELETE within an UPDATE": lambda: update(Customer).values(email="x").add_cte(_within(delete(EVENTS))),
    "a DELETE within an INSERT's rows": lambda: insert(Customer).from_select(["id"], select(_within(delete(EVENTS)).c.version)),
    "an INSERT from a SELECT": lambda: insert(EVENTS).from_select(["event_id"], select(EVENTS.c.event_id)),
    "a DELETE in a value": lambda: update(Customer).values(email=select(_within(delete(EVENTS)).c.version).scalar_subquery()),
    "a lambda": lambda: lambda_stmt(lambda: delete(EVENTS)),
    "a lambda with a DELETE within": lambda: lambda_stmt(lambda: select(_within(delete(EVENTS)).c.version)),
}


@pytest.mark.parametrize("statement", NESTED.values(), ids=NESTED.keys())
def test_statements_that_write_events_are_refused_within_others(database: Engine, statement: Callable[[], Any]) -> None:
    place_order(database, "o-1")
    before = stored_events(database)
    with Session(database) as session:
        with pytest.raises(UnitOfWorkBypassError, match=r"(INSERT|UPDATE|DELETE) of events through the session"):
            session.execute(statement())
        session.commit()
    assert stored_events(database) == before


def test_statements_that_write_other_tables_within_others_work(postgres: Engine) -> None:
    place_order(postgres, "o-1")
    with Session(postgres) as session:
        session.add(Customer(id="c-1", email="a@example.com"))
        session.flush()
        written = update(Customer).values(email="b@example.com").returning(Customer.id).cte("written")
        both = select(written.c.id, select(func.count()).select_from(EVENTS).scalar_subquery())
        assert session.execute(both).one() == ("c-1", 1)
        entity = insert(Customer).values(id="c-2", email="c@example.com").returning(Customer)
        assert session.scalars(select(Customer).from_statement(entity)).one().id == "c-2"


AGGREGATES: dict[str, Callable[[Session], Any]] = {
    "update": lambda session: session.execute(update(Order).values(version=3)),
    "update with a condition": lambda session: session.execute(update(Order).where(Order.id == "o-1").values(version=3)),
    "update by key": lambda session: session.execute(update(Order), [{"id": "o-1", "version": 2}]),
    "update of an alias": lambda session: session.execute(update(aliased(Order)).values(version=3)),
    "delete": lambda session: session.execute(delete(Order)),
    "delete with a condition": lambda session: session.execute(delete(Order).where(Order.version > 1)),
    "delete within a SELECT": lambda session: session.execute(select(delete(Order).returning(Order.id).cte())),
    "insert": lambda session: session.execute(insert(Order).values(id="o-9")),
    "insert of many": lambda session: session.execute(insert(Order), [{"id": "o-9"}, {"id": "o-8"}]),
    "Query.update": lambda session: session.query(Order).update({"version": 9}),
    "Query.delete": lambda session: session.query(Order).delete(),
}


@pytest.mark.parametrize("write", AGGREGATES.values(), ids=AGGREGATES.keys())
def test_statements_that_write_aggregates_are_refused_with_advice(database: Engine, write: Callable[[Session], Any]) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        with pytest.raises(UnitOfWorkBypassError, match=r"of Order bypasses.*apply_event\(\)"):
            write(session)
        assert session.get_one(Order, order_id).version == 1
    assert stored_types(database) == ["OrderPlaced"]


def _record(**values: Any) -> EventRecord:
    record = EventRecord()
    for name, value in {**_INSERT, "occurred_at": datetime.now(UTC), **values}.items():
        setattr(record, name, value)
    return record


def _mappings(number: int = 1) -> list[dict[str, Any]]:
    return [{**_INSERT, "event_id": uuid4(), "version": each + 1, "occurred_at": datetime.now(UTC)} for each in range(number)]


RECORDS: dict[str, Callable[[Session], Any]] = {
    "bulk_insert_mappings": lambda session: session.bulk_insert_mappings(inspect(EventRecord), _mappings()),
    "bulk_insert_mappings with defaults": lambda session: session.bulk_insert_mappings(
        inspect(EventRecord), _mappings(2), return_defaults=True
    ),
    "bulk_insert_mappings of the base's": lambda session: session.bulk_insert_mappings(inspect(event_record(Base)), _mappings()),
    "bulk_update_mappings": lambda session: session.bulk_update_mappings(inspect(EventRecord), _mappings()),
    "bulk_save_objects": lambda session: session.bulk_save_objects([_record()]),
    "bulk_save_objects of a loaded one": lambda session: session.bulk_save_objects(
        [_changed(session.scalars(select(EventRecord)).one())], update_changed_only=False
    ),
    "an INSERT of many": lambda session: session.execute(insert(EventRecord), _mappings(2)),
    "an UPDATE by key": lambda session: session.execute(update(EventRecord), _mappings(2)),
}


def _changed(record: EventRecord) -> EventRecord:
    record.version = 7
    return record


@pytest.mark.parametrize("write", RECORDS.values(), ids=RECORDS.keys())
def test_bulk_writes_of_records_are_refused(database: Engine, write: Callable[[Session], Any]) -> None:
    place_order(database, "o-1")
    before = stored_events(database)
    with Session(database) as session:
        with pytest.raises(UnitOfWorkBypassError, match="of events"):
            write(session)
        session.rollback()
    assert stored_events(database) == before


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
        record.event_type = "shop.Else"
        with pytest.raises(ImmutableEventError):
            session.commit()
        session.rollback()
        assert record.event_type == "shop.OrderPlaced"
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
    record.event_type = "shop.OrderPlaced"
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


@pytest.mark.parametrize("statement", ["UPDATE events SET event_type = 'shop.Else'", "DELETE FROM events", "TRUNCATE events"])
def test_the_switch_opens_the_trigger_for_one_transaction(postgres: Engine, statement: str) -> None:
    place_order(postgres)
    with postgres.connect() as connection:
        connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        connection.execute(text(statement))
        assert connection.scalar(text("SELECT count(*) FROM events WHERE event_type = 'shop.OrderPlaced'")) == 0
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


_BEFORE_ANYTHING_IS_CONFIGURED = """
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sa_eventsource import AggregateRoot, EventRecord, ReadModel, map_from_event, DomainEvent
from sqlalchemy.orm import Mapped

class Base(DeclarativeBase): ...
class Opened(DomainEvent): ...
class Account(AggregateRoot, Base): __ignored_events__ = (Opened,)
class Accounts(ReadModel, Base):
    __tablename__ = "accounts"
    id: Mapped[str] = map_from_event(Opened, key=True, source="aggregate_id")
    opened: Mapped[str] = map_from_event(Opened, source="aggregate_id")

engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
for refused in (EventRecord, Account, Accounts):
    try:
        Session(engine).bulk_insert_mappings(refused, [{"id": "a"}])
    except Exception as error:
        print(type(error).__name__)
"""


def test_bulk_writes_are_refused_before_anything_is_configured() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BEFORE_ANYTHING_IS_CONFIGURED], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.split() == ["UnitOfWorkBypassError", "UnitOfWorkBypassError", "ReadModelWriteError"], done.stderr
