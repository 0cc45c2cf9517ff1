"""session.get, select, refresh, expire and their options."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, func, inspect, select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session, joinedload, lazyload, load_only, selectinload, subqueryload

from tests.orders import Customer, Invoice, Order
from tests.processes import finish
from tests.session.helpers import kinds_of_statements, note_elsewhere, place_order, selects, stored_types
from tests.shop import OrderStatus

pytestmark = pytest.mark.slow_on_sqlite


def test_get_returns_none_and_get_one_raises_for_an_unknown_id(database: Engine) -> None:
    with Session(database) as session:
        assert session.get(Order, "nobody") is None
        with pytest.raises(NoResultFound):
            session.get_one(Order, "nobody")


def test_get_may_be_the_first_thing_a_process_does(sqlite_engine: Engine) -> None:
    order_id = place_order(sqlite_engine)
    program = (
        "import sys; from sqlalchemy import create_engine; from sqlalchemy.orm import Session; from tests.orders import Order\n"
        "with Session(create_engine(sys.argv[1])) as session: print(session.get(Order, sys.argv[2]).status)"
    )
    command = [sys.executable, "-c", program, str(sqlite_engine.url), order_id]
    assert finish(command).stdout.strip() == "OrderStatus.PLACED"


def test_get_takes_an_id_a_tuple_or_a_dict(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        first = session.get(Order, order_id)
        assert first is not None
        assert session.get(Order, (order_id,)) is first
        assert session.get(Order, {"id": order_id}) is first


def test_get_asks_the_database_once_for_an_aggregate_the_session_has(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        with kinds_of_statements(database) as kinds:
            assert session.get(Order, order_id) is order
        assert kinds == []


def test_get_with_populate_existing_sees_what_others_committed(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        assert session.get(Order, order_id) is order
        assert order.version == 1
        assert session.get(Order, order_id, populate_existing=True) is order
        assert (order.version, order.notes) == (2, ["from elsewhere"])


def test_select_by_id(database: Engine) -> None:
    ids = [place_order(database, notes=number) for number in range(3)]
    with Session(database) as session:
        order = session.scalars(select(Order).where(Order.id == ids[1])).one()
        assert (order.id, order.version, order.notes) == (ids[1], 2, ["note 0"])
        assert {each.id for each in session.scalars(select(Order).where(Order.id.in_(ids[:2])))} == set(ids[:2])
        assert session.scalars(select(Order).where(Order.id == "nobody")).all() == []


def test_select_by_version_order_and_limit(database: Engine) -> None:
    ids = [place_order(database, notes=number) for number in range(5)]
    with Session(database) as session:
        orders = session.scalars(select(Order).where(Order.version >= 2).order_by(Order.version.desc()).limit(2)).all()
        assert [(order.id, order.version, len(order.notes)) for order in orders] == [(ids[4], 5, 4), (ids[3], 4, 3)]
        assert session.scalar(select(func.count()).select_from(Order)) == 5
        by_id = session.scalars(select(Order).order_by(Order.id).offset(1)).all()
        assert [order.id for order in by_id] == sorted(ids)[1:]


def test_select_of_columns_needs_no_aggregate(database: Engine) -> None:
    order_id = place_order(database, notes=2)
    with Session(database) as session, kinds_of_statements(database) as kinds:
        assert session.execute(select(Order.id, Order.version)).all() == [(order_id, 3)]
        assert not session.identity_map
    assert selects(kinds) == 1


def test_select_keeps_what_the_session_has_until_populate_existing(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        assert session.scalars(select(Order)).one() is order
        assert (order.version, order.notes) == (1, [])
        assert session.scalars(select(Order).execution_options(populate_existing=True)).one() is order
        assert (order.version, order.notes) == (2, ["from elsewhere"])


def test_populate_existing_flushes_pending_events_first(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        session.scalars(select(Order).execution_options(populate_existing=True)).one()
        assert (order.version, order.status) == (2, OrderStatus.PAID)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPaid"]


def test_populate_existing_without_autoflush_discards_pending_events(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database, autoflush=False) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        session.scalars(select(Order).execution_options(populate_existing=True)).one()
        assert (order.version, order.status, order.pending_events) == (1, OrderStatus.PLACED, ())
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_yield_per_loads_the_state_batch_by_batch(database: Engine) -> None:
    ids = {place_order(database, notes=1) for _ in range(7)}
    seen = set()
    with Session(database) as session, kinds_of_statements(database) as kinds:
        for order in session.scalars(select(Order).execution_options(yield_per=3)):
            assert order.notes == ["note 0"]
            seen.add(order.id)
        assert seen == ids
    assert selects(kinds) <= 1 + 3


def test_partitions_of_a_select(database: Engine) -> None:
    for _ in range(5):
        place_order(database)
    with Session(database) as session:
        result = session.scalars(select(Order).execution_options(yield_per=2))
        sizes = [len([order.status for order in part]) for part in result.partitions()]
    assert sizes == [2, 2, 1]


def test_refresh_reads_what_others_committed(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        session.refresh(order)
        assert (order.version, order.notes) == (2, ["from elsewhere"])


@pytest.mark.parametrize("autoflush", [True, False])
def test_refresh_discards_pending_events_as_it_does_the_changes_of_any_entity(database: Engine, autoflush: bool) -> None:
    order_id = place_order(database)
    with Session(database, autoflush=autoflush) as session:
        session.add(Customer(id="c-1", email="ann@example.com"))
        session.commit()
        order, customer = session.get_one(Order, order_id), session.get_one(Customer, "c-1")
        customer.email = "ben@example.com"
        session.refresh(customer)
        assert customer.email == "ann@example.com"
        order.pay()
        session.refresh(order)
        assert (order.version, order.status, order.pending_events) == (1, OrderStatus.PLACED, ())
        assert order not in session.dirty
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_refresh_of_the_version_alone_reloads_the_state_with_it(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        session.refresh(order, ["version"])
        assert (order.version, order.notes) == (2, ["from elsewhere"])


def test_expire_reloads_at_the_next_read(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        session.expire(order)
        assert "notes" not in vars(order)
        assert order.notes == ["from elsewhere"]
        assert order.version == 2


def test_expire_discards_pending_events_as_it_does_other_changes(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        order.pay()
        session.expire(order)
        assert order.pending_events == ()
        assert (order.status, order.version) == (OrderStatus.PLACED, 1)
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


def test_expire_all_reloads_every_aggregate(database: Engine) -> None:
    ids = [place_order(database) for _ in range(2)]
    with Session(database) as session:
        orders = [session.get_one(Order, order_id) for order_id in ids]
        session.expire_all()
        assert all("status" not in vars(order) for order in orders)
        assert [order.status for order in orders] == [OrderStatus.PLACED] * 2


def test_expiring_the_version_expires_the_state(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        session.expire(order, ["version"])
        assert "total" not in vars(order)
        assert order.total == Decimal("43.30")
        assert order.version == 1


def test_expiring_the_id_leaves_the_state(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        session.expire(order, ["id"])
        assert order.id == order_id
        assert (order.status, order.version) == (OrderStatus.PLACED, 1)


def test_expiring_a_state_field_is_refused_as_for_any_unmapped_attribute(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        with pytest.raises(KeyError):
            session.expire(order, ["status"])
        assert order.status is OrderStatus.PLACED


def test_an_expired_aggregate_takes_an_event_after_it_was_reloaded(postgres: Engine) -> None:
    order_id = place_order(postgres)
    with Session(postgres) as session:
        order = session.get_one(Order, order_id)
        note_elsewhere(postgres, order_id)
        session.expire(order)
        order.note("mine")
        assert (order.version, order.notes) == (3, ["from elsewhere", "mine"])
        session.commit()
    assert stored_types(postgres) == ["OrderPlaced", "NoteAdded", "NoteAdded"]


def test_load_only_of_the_id_loads_the_state_when_it_is_read(database: Engine) -> None:
    order_id = place_order(database, notes=1)
    with Session(database) as session:
        order = session.scalars(select(Order).options(load_only(Order.id))).one()
        assert order.id == order_id
        assert (order.notes, order.version) == (["note 0"], 2)
        order.note("more")
        session.commit()
        assert order.version == 3
    assert stored_types(database) == ["OrderPlaced", "NoteAdded", "NoteAdded"]


def test_a_loaded_aggregate_has_no_history_of_changes(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        order = session.get_one(Order, order_id)
        assert not inspect(order).modified
        assert inspect(order).attrs.version.history.unchanged == [1]


def test_state_that_an_event_replaced_is_not_shared_between_sessions(database: Engine) -> None:
    order_id = place_order(database, notes=1)
    with Session(database) as first, Session(database) as second:
        one, other = first.get_one(Order, order_id), second.get_one(Order, order_id)
        assert one is not other
        one.notes.append("by mistake")
        assert other.notes == ["note 0"]


@pytest.mark.parametrize("no_id", ["", "x" * 256], ids=["empty", "too long"])
@pytest.mark.parametrize("option", [joinedload, selectinload, lazyload, subqueryload])
def test_a_text_that_is_no_id_refers_to_none_and_hides_no_row(database: Engine, option: Any, no_id: str) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        session.add_all([Invoice(id=1, order_id=no_id), Invoice(id=2, order_id=order_id)])
        session.commit()
    with Session(database) as session:
        statement = select(Invoice).options(option(Invoice.order)).order_by(Invoice.id)
        invoices = session.scalars(statement).all()
        assert [None if each.order is None else each.order.id for each in invoices] == [None, order_id]
        assert session.scalars(select(Order.id).where(Order.id == no_id)).all() == []
        assert session.scalars(select(Order.id).where(Order.id.in_([no_id, order_id]))).all() == [order_id]
