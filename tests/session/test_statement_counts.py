"""What goes to the database, statement by statement."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import ORMExecuteState, Session

from sa_eventsource import EventSourcedRepository
from tests.orders import Account, Customer, Order, Till
from tests.session.helpers import kinds_of_statements, place_order, selects, stored_events
from tests.shop import OrderStatus

SELECTS_OF_A_GET = 2


@pytest.mark.parametrize(("aggregates", "events"), [(1, 1), (1, 5), (7, 1), (20, 10)])
def test_a_commit_of_new_aggregates_is_one_insert(postgres: Engine, aggregates: int, events: int) -> None:
    with Session(postgres) as session:
        for _ in range(aggregates):
            order = Order.place()
            for number in range(events - 1):
                order.note(str(number))
            session.add(order)
        with kinds_of_statements(postgres) as kinds:
            session.commit()
    assert kinds == ["BEGIN", "INSERT", "COMMIT"]
    assert len(stored_events(postgres)) == aggregates * events


def test_a_commit_on_sqlite_is_one_insert_too(sqlite_engine: Engine, request: pytest.FixtureRequest) -> None:
    with Session(sqlite_engine) as session:
        orders = [Order.place() for _ in range(5)]
        for order in orders:
            order.pay()
        session.add_all(orders)
        with kinds_of_statements(sqlite_engine) as kinds:
            session.commit()
    assert kinds == ["BEGIN", "INSERT", "COMMIT"]


def test_aggregates_of_several_classes_share_the_insert(postgres: Engine) -> None:
    till = Till(id=1)
    till.sell("lamp")
    with Session(postgres) as session:
        session.add_all([Order.place(), Account.open(), till])
        with kinds_of_statements(postgres) as kinds:
            session.commit()
    assert kinds == ["BEGIN", "INSERT", "COMMIT"]


def test_changed_and_new_aggregates_share_the_insert(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        session.get_one(Order, order_id).pay()
        session.add(Order.place())
        with kinds_of_statements(postgres) as kinds:
            session.commit()
    assert kinds == ["INSERT", "COMMIT"]


def test_rows_of_the_application_add_their_own_statements_only(postgres: Engine) -> None:
    with Session(postgres) as session:
        session.add_all([Order.place(), Customer(id="c-1", email="ann@example.com")])
        with kinds_of_statements(postgres) as kinds:
            session.commit()
    assert kinds == ["BEGIN", "INSERT", "INSERT", "COMMIT"]


@pytest.mark.parametrize("notes", [0, 30])
def test_get(postgres: Engine, notes: int) -> None:
    order_id = place_order(postgres, notes=notes)
    with Session(postgres) as session, kinds_of_statements(postgres) as kinds:
        assert session.get_one(Order, order_id).version == notes + 1
        assert session.get_one(Order, order_id).status is OrderStatus.PLACED
    assert selects(kinds) <= SELECTS_OF_A_GET


def _views(repository: EventSourcedRepository[Order], order_id: str) -> dict[str, Callable[[], Order]]:
    return {
        "version": lambda: repository.load_at_version(order_id, 1),
        "occurred": lambda: repository.load_at_time(order_id, datetime.now(UTC)),
        "recorded": lambda: repository.load_at_time(order_id, datetime.now(UTC), axis="recorded"),
    }


@pytest.mark.parametrize("view", ["version", "occurred", "recorded"])
def test_a_view_of_the_past_asks_once_whether_a_hook_of_the_application_shows_it(database: Engine, view: str) -> None:
    order_id = place_order(database)
    counts = []
    for is_heard in (False, True):
        with Session(database) as session, kinds_of_statements(database) as kinds:
            asked: list[ORMExecuteState] = []
            if is_heard:
                event.listen(session, "do_orm_execute", asked.append)
            assert _views(EventSourcedRepository(session, Order), order_id)[view]().version == 1
        assert len(asked) == int(is_heard)
        counts.append(selects(kinds))
    assert counts[1] == counts[0] + 1


def test_get_of_an_aggregate_with_a_snapshot(postgres: Engine) -> None:
    account = Account.open()
    for _ in range(12):
        account.deposit(1)
    with Session(postgres) as session:
        session.add(account)
        session.commit()
        account_id = account.id
    with Session(postgres) as session, kinds_of_statements(postgres) as kinds:
        assert session.get_one(Account, account_id).balance == 12
    assert selects(kinds) <= SELECTS_OF_A_GET


def test_reload_of_an_expired_aggregate(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        session.commit()
        with kinds_of_statements(postgres) as kinds:
            assert (order.status, order.version, order.notes) == (OrderStatus.PLACED, 1, [])
        assert selects(kinds) <= SELECTS_OF_A_GET


def test_load_change_and_save(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session, kinds_of_statements(postgres) as kinds:
        session.get_one(Order, order_id).pay()
        session.commit()
    assert [kind for kind in kinds if kind != "SELECT"] == ["BEGIN", "INSERT", "COMMIT"]
    assert selects(kinds) <= SELECTS_OF_A_GET


def test_a_select_of_a_thousand_orders(database: Engine) -> None:
    with Session(database) as session:
        for number in range(1000):
            order = Order.place(order_id=f"o-{number}")
            order.note("x")
            session.add(order)
        session.commit()
    with Session(database) as session, kinds_of_statements(database) as kinds:
        orders = session.scalars(select(Order)).all()
        assert {(order.version, order.status, tuple(order.notes)) for order in orders} == {(2, OrderStatus.PLACED, ("x",))}
        assert len(orders) == 1000
    assert selects(kinds) <= 3


def test_snapshots_of_all_aggregates_are_read_and_written_by_one_statement_each(postgres: Engine) -> None:
    accounts: list[Any] = []
    for _ in range(4):
        account = Account.open()
        for _ in range(4):
            account.deposit(1)
        accounts.append(account)
    with Session(postgres) as session:
        session.add_all(accounts)
        with kinds_of_statements(postgres) as kinds:
            session.commit()
        assert kinds == ["BEGIN", "INSERT", "SELECT", "INSERT", "COMMIT"]
        accounts[0].deposit(1)
        with kinds_of_statements(postgres) as kinds:
            session.flush()
        assert kinds == ["INSERT"]


def test_a_flush_with_nothing_to_do_sends_nothing(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        session.flush()
        order = session.get_one(Order, order_id)
        with kinds_of_statements(database) as kinds:
            session.flush()
            assert order.status is OrderStatus.PLACED
            session.flush()
        assert kinds == []
        order.pay()
        session.flush()
        with kinds_of_statements(database) as kinds:
            session.flush()
            session.flush()
        assert kinds == []


def test_a_savepoint_adds_only_itself(postgres: Engine) -> None:
    with Session(postgres) as session:
        session.connection()
        with kinds_of_statements(postgres) as kinds:
            with session.begin_nested():
                session.add(Order.place())
            session.commit()
    assert kinds == ["SAVEPOINT", "INSERT", "RELEASE SAVEPOINT", "COMMIT"]


def test_aggregates_that_are_only_read_write_nothing(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        session.get_one(Order, order_id)
        with kinds_of_statements(postgres) as kinds:
            session.commit()
    assert kinds == ["COMMIT"]
