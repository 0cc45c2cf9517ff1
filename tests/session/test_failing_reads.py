"""An aggregate that cannot be read, an @applies method that raises: what it leaves of itself and of its neighbours."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select
from sqlalchemy import event as sa_event
from sqlalchemy.orm import Session

from sa_eventsource import EventDecodeError
from tests.bank import Deposited
from tests.committing import changing_events, commit_events
from tests.orders import Base, Customer, Order
from tests.session.careless import CarelessAccount, TakenOver
from tests.session.helpers import place_order, stored_types

pytestmark = pytest.mark.slow_on_sqlite

IDS = ["a", "b", "c", "d"]


def break_payload(engine: Engine, order_id: str, payload: str = '{"text": 7}', version: int = 2) -> None:
    """Make one event unreadable."""
    with changing_events(engine, Base) as connection:
        cast = "::jsonb" if engine.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(
            f"UPDATE events SET event_data = '{payload}'{cast} WHERE aggregate_id = '{order_id}' AND version = {version}"
        )


@pytest.fixture
def four(database: Engine) -> Engine:
    """Four orders, of which the second cannot be read."""
    for order_id in IDS:
        place_order(database, order_id, notes=1)
    break_payload(database, "b")
    return database


@pytest.mark.parametrize("populate", [False, True])
def test_one_unreadable_aggregate_leaves_the_others_loadable(four: Engine, *, populate: bool) -> None:
    with Session(four) as session:
        statement = select(Order).order_by(Order.id).execution_options(populate_existing=populate)
        with pytest.raises(EventDecodeError):
            session.scalars(statement).all()
        for order_id in ("a", "c", "d"):
            order = session.get_one(Order, order_id)
            assert (order.version, order.notes, order.customer_id) == (2, ["note 0"], "c-1")
            order.note("after the failure")
            assert order.notes == ["note 0", "after the failure"]
        session.commit()
        with pytest.raises(EventDecodeError):
            session.get(Order, "b")
        session.rollback()
    assert stored_types(four).count("NoteAdded") == 4 + 3


def test_an_event_applied_after_a_failed_query_is_not_lost(four: Engine) -> None:
    with Session(four) as session:
        held = session.get_one(Order, "d")
        with pytest.raises(EventDecodeError):
            session.scalars(select(Order)).all()
        held.note("kept")
        fresh = session.get_one(Order, "a")
        fresh.note("kept too")
        assert held.notes[-1] == "kept"
        assert fresh.notes[-1] == "kept too"
        session.commit()
    assert stored_types(four).count("NoteAdded") == 4 + 2


def test_rows_in_batches_fail_where_the_unreadable_one_is(four: Engine) -> None:
    with Session(four) as session:
        result = session.execute(select(Order).order_by(Order.id).execution_options(yield_per=1)).scalars()
        assert next(result).id == "a"
        with pytest.raises(EventDecodeError):
            next(result)
        result.close()
        assert session.get_one(Order, "c").notes == ["note 0"]


def test_pending_changes_of_entities_survive_a_failed_read(four: Engine) -> None:
    with Session(four) as session:
        session.add(Customer(id="c-1", email="ann@example.org"))
        with pytest.raises(EventDecodeError):
            session.scalars(select(Order)).all()
        session.commit()
        assert session.get_one(Customer, "c-1").email == "ann@example.org"


def test_a_refresh_that_fails_leaves_the_aggregate_expired(database: Engine) -> None:
    place_order(database, "a", notes=1)
    with Session(database) as session:
        order = session.get_one(Order, "a")
        session.commit()
        break_payload(database, "a")
        for _ in range(2):
            with pytest.raises(EventDecodeError):
                _ = order.notes
        session.rollback()
        break_payload(database, "a", '{"text": "mended"}')
        assert order.notes == ["mended"]


def test_an_applies_method_that_raises_changes_nothing(database: Engine) -> None:
    with Session(database) as session:
        account = CarelessAccount.open()
        session.add(account)
        session.commit()
        account.deposit(2)
        for _ in range(2):
            account.fail()
            assert (account.amounts, account.balance, account.version) == ([2], 2, 2)
        account.deposit(3)
        session.commit()
        assert (account.amounts, account.balance, account.version) == ([2, 3], 5, 3)
    assert stored_types(database) == ["bank.Opened", "bank.Deposited", "bank.Deposited"]


@pytest.mark.parametrize("where", ["transient", "pending", "flushed", "detached"])
def test_so_it_is_wherever_the_aggregate_is(database: Engine, where: str) -> None:
    account = CarelessAccount.open(2)
    pending = account.pending_events
    session = Session(database, expire_on_commit=False)
    if where != "transient":
        session.add(account)
    if where in ("flushed", "detached"):
        session.flush()
        pending = ()
    if where == "detached":
        session.commit()
        session.close()
    account.fail()
    if where == "detached":
        session.add(account)
    assert (account.amounts, account.balance, account.version, account.pending_events) == ([2], 2, 2, pending)
    session.add(account)
    session.commit()
    session.close()
    assert stored_types(database) == ["bank.Opened", "bank.Deposited"]


def test_a_state_lost_behind_pending_events_is_made_of_what_they_followed(database: Engine) -> None:
    with Session(database, expire_on_commit=False) as session:
        account = CarelessAccount.open()
        session.add(account)
        session.commit()
        account.deposit(2)
        commit_events(database, CarelessAccount, "a", Deposited(amount=100))
        account.fail()
        assert (account.amounts, account.version) == ([2], 2)


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("part", ["refresh", "expire"])
def test_pending_events_outlive_the_load_of_a_part_when_the_state_is_lost(database: Engine, part: str, *, listening: bool) -> None:
    with Session(database, autoflush=False) as session:
        if listening:
            sa_event.listen(session, "do_orm_execute", lambda _state: None)
        account = CarelessAccount.open()
        session.add(account)
        session.commit()
        _ = account.amounts
        account.deposit(2)
        account.fail()
        if part == "refresh":
            session.refresh(account, ["id"])
        else:
            session.expire(account, ["id"])
            assert account.id == "a"
        assert account.pending_events == (Deposited(amount=2),)
        session.commit()
        assert account.amounts == [2]
    assert stored_types(database) == ["bank.Opened", "bank.Deposited"]


def test_a_list_that_a_method_takes_over_is_not_the_event_s(database: Engine) -> None:
    given = [1]
    event = TakenOver(amounts=given)
    account = CarelessAccount(id="a")
    account.apply_event(event)
    account.deposit(2)
    given.append(99)
    event.amounts.append(99)
    assert account.amounts == [1, 2]
    with Session(database) as session:
        session.add(account)
        session.flush()
        session.rollback()
        assert account.amounts == [1, 2]
        account.deposit(3)
        session.add(account)
        session.commit()
        session.expunge_all()
        assert session.get_one(CarelessAccount, "a").amounts == [1, 2, 3]
