"""Relationships to aggregates, inheritance, ids of three types."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, joinedload, selectinload

from sa_eventsource import AggregateIdError, UnhandledEventError
from tests.orders import Account, ExpressOrder, Invoice, Order, Till
from tests.session.helpers import kinds_of_statements, place_order, selects, stored_events
from tests.shop import OrderStatus, ParcelScanned

pytestmark = pytest.mark.slow_on_sqlite

_TEXT_IDS = ["o-1", "x" * 255, "schräg/日本語 🙂", "O'Brien; --", "1", " "]
_SOME_ID = UUID("9f1c2d3e-0000-4000-8000-000000000001")


def _invoices(engine: Engine, count: int) -> list[str]:
    ids = [place_order(engine, notes=1) for _ in range(count)]
    with Session(engine) as session:
        session.add_all([Invoice(id=number, order_id=order_id) for number, order_id in enumerate(ids, 1)])
        session.commit()
    return ids


def test_a_relationship_to_an_aggregate_loads_lazily(database: Engine) -> None:
    ids = _invoices(database, 2)
    with Session(database) as session:
        for number, order_id in enumerate(ids, 1):
            order = session.get_one(Invoice, number).order
            assert order is not None
            assert (order.id, order.notes, order.version) == (order_id, ["note 0"], 2)
            assert session.get(Order, order_id) is order


def test_a_relationship_to_an_unknown_aggregate_is_none(database: Engine) -> None:
    with Session(database) as session:
        session.add(Invoice(id=1, order_id="nobody"))
        session.commit()
        assert session.get_one(Invoice, 1).order is None


@pytest.mark.parametrize("load", [selectinload, joinedload])
def test_a_relationship_to_aggregates_loads_eagerly_in_few_statements(database: Engine, load: Any) -> None:
    ids = _invoices(database, 5)
    with Session(database) as session, kinds_of_statements(database) as kinds:
        invoices = session.scalars(select(Invoice).options(load(Invoice.order)).order_by(Invoice.id)).all()
        for invoice, order_id in zip(invoices, ids, strict=True):
            assert invoice.order is not None
            assert (invoice.order.id, invoice.order.notes) == (order_id, ["note 0"])
    assert selects(kinds) <= 3


def test_a_join_with_aggregates_can_be_filtered(database: Engine) -> None:
    ids = _invoices(database, 3)
    with Session(database) as session:
        found = session.scalars(select(Invoice).join(Invoice.order).where(Order.id == ids[1], Order.version == 2)).one()
        assert found.order_id == ids[1]
        rows = session.execute(select(Invoice, Order).join(Order, Order.id == Invoice.order_id).order_by(Invoice.id)).all()
        assert [(invoice.order_id, order.status) for invoice, order in rows] == [(each, OrderStatus.PLACED) for each in ids]


def test_a_subclass_of_an_aggregate_is_a_type_of_its_own(database: Engine) -> None:
    express = ExpressOrder()
    express.apply_event(ParcelScanned(place="hub"))
    express.note("fragile")
    order_id = place_order(database)
    with Session(database) as session:
        session.add(express)
        session.commit()
        assert (express.places, express.notes, express.version) == (("hub",), ["fragile"], 2)
        assert session.get(Order, express.id) is None
        assert session.get(ExpressOrder, order_id) is None
        assert [order.id for order in session.scalars(select(Order))] == [order_id]
        assert session.scalars(select(ExpressOrder)).all() == [express]
        express_id = express.id
    assert [row[:3] for row in stored_events(database)] == [
        ("Order", order_id, 1),
        ("ExpressOrder", express_id, 1),
        ("ExpressOrder", express_id, 2),
    ]


def test_two_types_may_share_an_id(database: Engine) -> None:
    place_order(database, "same")
    express = ExpressOrder(id="same")
    express.scan("hub")
    with Session(database) as session:
        session.add(express)
        session.commit()
        order = session.get_one(Order, "same")
        assert order is not express
        assert (order.version, express.version) == (1, 1)


def test_an_event_of_the_subclass_is_no_event_of_the_base() -> None:
    order = Order.place()
    with pytest.raises(UnhandledEventError) as caught:
        order.apply_event(ParcelScanned(place="hub"))
    assert (caught.value.aggregate_class, caught.value.event_class) == ("Order", "ParcelScanned")
    assert (order.version, len(order.pending_events)) == (1, 1)


def test_a_default_id_is_a_new_uuid_version_7_in_order_of_creation() -> None:
    ids = [Order().id for _ in range(100)]
    assert all(type(each) is str and UUID(each).version == 7 for each in ids)
    assert len(set(ids)) == 100
    assert Account().id.version == 7


@pytest.mark.parametrize("order_id", _TEXT_IDS, ids=lambda text: f"{len(text)} characters")
def test_text_ids(database: Engine, order_id: str) -> None:
    place_order(database, order_id)
    with Session(database) as session:
        assert session.get_one(Order, order_id).id == order_id
        assert session.scalars(select(Order).where(Order.id == order_id)).one().id == order_id
        assert session.scalars(select(Order).where(Order.id.in_([order_id]))).one().id == order_id


def test_uuid_ids(database: Engine) -> None:
    account_id = uuid4()
    with Session(database) as session:
        session.add(Account.open(account_id=account_id))
        session.commit()
        session.expunge_all()
        account = session.get_one(Account, account_id)
        assert account.id == account_id
        assert type(account.id) is UUID
        assert session.scalars(select(Account).where(Account.id == account_id)).one() is account
    assert stored_events(database)[0][1] == str(account_id)


@pytest.mark.parametrize("number", [0, 7, -1, 2**63 - 1, -(2**63)])
def test_int_ids(database: Engine, number: int) -> None:
    till = Till(id=number)
    till.sell("lamp")
    with Session(database) as session:
        session.add(till)
        session.commit()
        session.expunge_all()
        assert session.get_one(Till, number).sold == ("lamp",)
        assert session.scalars(select(Till.id)).all() == [number]
        assert session.scalars(select(Till).where(Till.id == number)).one().id == number


@pytest.mark.parametrize(
    ("aggregate_class", "value", "reason"),
    [
        (Order, 5, "must be str, not int"),
        (Order, _SOME_ID, "must be str, not UUID"),
        (Order, "", "empty"),
        (Order, "x" * 256, "256 characters"),
        (Order, "a\x00b", "NUL"),
        (Account, str(_SOME_ID), "must be UUID, not str"),
        (Till, "5", "must be int, not str"),
        (Till, True, "must be int, not bool"),
        (Till, 2**63, "64 bits"),
        (Till, -(2**63) - 1, "64 bits"),
        (Till, 10**5000, "64 bits"),
        (Order, "\ud800", "surrogate"),
    ],
    ids=lambda value: value if isinstance(value, str) and "must be" in value else "",
)
def test_ids_that_cannot_be_are_refused_everywhere(database: Engine, aggregate_class: Any, value: Any, reason: str) -> None:
    with pytest.raises(AggregateIdError, match=reason) as caught:
        aggregate_class(id=value)
    assert (caught.value.aggregate_type, caught.value.value) == (aggregate_class.__name__, value)
    with Session(database) as session:
        with pytest.raises(AggregateIdError, match=reason):
            session.get(aggregate_class, value)
        if reason in {"empty", "256 characters"}:  # equal to no id, as a text in a column beside good ones may be
            assert session.scalars(select(aggregate_class).where(aggregate_class.id == value)).all() == []
        else:
            with pytest.raises(Exception, match=reason):
                session.scalars(select(aggregate_class).where(aggregate_class.id == value)).all()


def test_an_int_id_is_not_made_up() -> None:
    with pytest.raises(AggregateIdError, match="pass id="):
        Till()
