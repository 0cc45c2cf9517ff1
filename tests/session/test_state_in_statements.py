"""A state field is no column: used in a statement it raises an error that names it, and says what to query instead."""

from __future__ import annotations

import copy
import doctest
import inspect
import operator
import pickle
import pydoc
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from pydantic import BaseModel, ConfigDict
from sqlalchemy import (
    Engine,
    String,
    and_,
    bindparam,
    case,
    cast,
    desc,
    exists,
    func,
    insert,
    label,
    lambda_stmt,
    not_,
    nulls_last,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy import inspect as inspect_mapping
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Session,
    aliased,
    column_property,
    contains_eager,
    defer,
    foreign,
    joinedload,
    load_only,
    selectinload,
    with_loader_criteria,
)

from sa_eventsource import AggregateRoot, EventSourceError, StateFieldAttributeError, StateFieldQueryError
from tests.orders import ExpressOrder, Invoice, Order
from tests.session.helpers import place_order
from tests.shop import OrderStatus

if TYPE_CHECKING:
    from collections.abc import Callable

# As SQLAlchemy's own attributes are to a type checker: it takes state fields for the values they have on an instance.
STATUS: Any = Order.status
TOTAL: Any = Order.total
ALIAS: Any = aliased(Order)
PAID = OrderStatus.PAID

_OPERATORS: dict[str, Callable[[], object]] = {
    "==": lambda: STATUS == PAID,
    "== on the right": lambda: Decimal(1) == TOTAL,
    "== a column": lambda: Order.id == STATUS,
    "== None": lambda: STATUS == None,  # noqa: E711
    "!=": lambda: STATUS != PAID,
    "<": lambda: TOTAL < 5,
    ">=": lambda: TOTAL >= 5,
    "is_": lambda: STATUS.is_(None),
    "is_distinct_from": lambda: STATUS.is_distinct_from(PAID),
    "in_": lambda: STATUS.in_([PAID]),
    "not_in": lambda: STATUS.not_in([PAID]),
    "in_ of a column": lambda: Order.id.in_([STATUS]),
    "like": lambda: STATUS.like("p%"),
    "contains": lambda: STATUS.contains("p"),
    "startswith": lambda: STATUS.startswith("p"),
    "regexp_match": lambda: STATUS.regexp_match("p"),
    "between": lambda: TOTAL.between(1, 2),
    "+": lambda: TOTAL + 1,
    "+ on the right": lambda: 1 + TOTAL,
    "unary -": lambda: -TOTAL,
    "&": lambda: STATUS & (Order.version == 1),
    "& on the right": lambda: (Order.version == 1) & STATUS,
    "~": lambda: ~STATUS,
    "op": lambda: STATUS.op("->>")("x"),
    "desc": STATUS.desc,
    "nulls_last": STATUS.nulls_last,
    "in": lambda: PAID in STATUS,
    "[]": lambda: STATUS[0],
    "iteration": lambda: list(STATUS),
    "bool": lambda: bool(STATUS),
    "not": lambda: not STATUS,
}

_COERCIONS: dict[str, Callable[[], object]] = {
    "select": lambda: select(STATUS),
    "select beside a column": lambda: select(Order.id, STATUS),
    "where": lambda: select(Order).where(STATUS),
    "filter_by": lambda: select(Order).filter_by(status=PAID),
    "filter_by of a subclass": lambda: select(ExpressOrder).filter_by(status=PAID),
    "order_by": lambda: select(Order).order_by(STATUS),
    "order_by desc()": lambda: select(Order).order_by(desc(STATUS)),
    "order_by nulls_last()": lambda: select(Order).order_by(nulls_last(STATUS)),
    "group_by": lambda: select(func.count()).group_by(STATUS),
    "having": lambda: select(Order).having(STATUS),
    "distinct": STATUS.distinct,
    "and_": lambda: and_(Order.version == 1, STATUS),
    "or_": lambda: or_(STATUS, Order.version == 1),
    "not_": lambda: not_(STATUS),
    "case": lambda: case((Order.version == 1, STATUS), else_=None),
    "case value": lambda: case({"a": 1}, value=STATUS),
    "cast": lambda: cast(STATUS, String),
    "label()": lambda: label("state", STATUS),
    "tuple_": lambda: tuple_(STATUS, Order.id),
    "function": lambda: func.lower(STATUS),
    "window": lambda: func.row_number().over(order_by=TOTAL),
    "within group": lambda: func.percentile_cont(0.5).within_group(TOTAL),
    "exists": lambda: exists(STATUS),
    "bound value": lambda: bindparam("state", STATUS),
    "bundle": lambda: select(Bundle("b", Order.id, STATUS)),
    "alias": lambda: ALIAS.status == PAID,
    "select of an alias": lambda: select(ALIAS.status),
    "join condition": lambda: select(Invoice).join(Order, STATUS),
    "relationship criterion": lambda: select(Invoice).join(Invoice.order.and_(STATUS == PAID)),
    "has": lambda: Invoice.order.has(status=PAID),
    "update": lambda: update(Invoice).values(order_id=STATUS),
    "insert": lambda: insert(Invoice).values(order_id=STATUS),
    "insert from": lambda: insert(Invoice).from_select(["order_id"], select(STATUS)),
    "returning": lambda: insert(Invoice).returning(STATUS),
    "load_only": lambda: select(Order).options(load_only(STATUS)),
    "defer": lambda: select(Order).options(defer(STATUS)),
    "joinedload": lambda: select(Order).options(joinedload(STATUS)),
    "selectinload": lambda: select(Order).options(selectinload(STATUS)),
    "contains_eager": lambda: select(Order).options(contains_eager(STATUS)),
    "loader option of a relationship": lambda: select(Invoice).options(joinedload(Invoice.order).load_only(STATUS)),
    "foreign": lambda: foreign(STATUS),
    "column_property": lambda: column_property(STATUS),
}


@pytest.mark.parametrize("use", [*_OPERATORS.values(), *_COERCIONS.values()], ids=[*_OPERATORS, *_COERCIONS])
def test_a_state_field_in_a_statement_names_the_field_and_the_remedy(use: Callable[[], object]) -> None:
    with pytest.raises(StateFieldQueryError, match=r"^AnyOrder\.(status|total) is a state field.*read model.*index=True") as caught:
        use()
    assert (caught.value.aggregate_class, caught.value.field) in {("AnyOrder", "status"), ("AnyOrder", "total")}
    assert "Find aggregates by their state" in str(caught.value)


@pytest.mark.parametrize("expected", [EventSourceError, sa_exc.ArgumentError, sa_exc.InvalidRequestError])
def test_callers_of_sqlalchemy_catch_the_error(expected: type[Exception]) -> None:
    with pytest.raises(expected):
        select(STATUS)


@pytest.mark.parametrize("name", ["label", "any", "has", "of_type", "type", "cast", "property", "expression", "comparator", "key"])
def test_what_only_columns_have_is_refused_and_absent(name: str) -> None:
    assert not hasattr(STATUS, name)
    with pytest.raises(StateFieldAttributeError, match=r"^AnyOrder\.status is a state field") as caught:
        operator.attrgetter(name)(STATUS)
    assert caught.value.attribute == name


def test_a_state_field_in_a_statement_of_a_session(database: Engine) -> None:
    place_order(database)
    statements: list[Callable[[Session], object]] = [
        lambda session: session.query(Order).filter(STATUS == PAID).all(),
        lambda session: session.query(Order).filter_by(status=PAID).all(),
        lambda session: session.query(Order).order_by(STATUS).all(),
        lambda session: session.query(func.max(TOTAL)).all(),
        lambda session: session.scalars(select(Order).options(with_loader_criteria(Order, lambda cls: cls.status == PAID))).all(),
        lambda session: session.execute(lambda_stmt(lambda: select(Order).where(STATUS == PAID))).all(),
    ]
    with Session(database) as session:
        for execute in statements:
            with pytest.raises(StateFieldQueryError):
                execute(session)
        assert [order.status for order in session.scalars(select(Order))] == [OrderStatus.PLACED]


def test_a_hybrid_works_on_instances_and_names_the_field_in_statements() -> None:
    class Base(DeclarativeBase):
        pass

    class Ticket(AggregateRoot, Base):
        status: str = "open"
        paid: bool = False

        @hybrid_property
        def is_open(self) -> bool:
            return self.status == "open"

        @hybrid_property
        def unpaid(self) -> bool:
            return not self.paid

        @hybrid_property
        def state(self) -> str:
            return self.status

    ticket = Ticket(id="t-1")
    assert (ticket.is_open, ticket.unpaid, ticket.state) == (True, True, "open")
    uses: list[Callable[[], object]] = [
        lambda: select(Ticket).where(Ticket.is_open),
        lambda: select(Ticket).filter_by(is_open=True),
        lambda: select(Ticket).where(Ticket.unpaid),
        lambda: select(Ticket.state),
        lambda: Ticket.state == "open",
    ]
    for use in uses:
        with pytest.raises(StateFieldQueryError, match=r"Ticket\.(status|paid) is a state field"):
            use()


def test_reading_the_attribute_of_the_class_is_harmless() -> None:
    assert STATUS is Order.status
    assert STATUS is not Order.total
    assert {STATUS: 1, TOTAL: 2}[STATUS] == 1
    assert repr(STATUS) == str(STATUS) == f"{STATUS}" == "<state field AnyOrder.status>"
    assert not callable(STATUS)
    assert not hasattr(STATUS, "no_such_attribute")


def test_tools_that_look_into_the_class_are_served() -> None:
    assert dict(inspect.getmembers(Order))["status"] is STATUS
    assert {each.name for each in inspect.classify_class_attrs(Order)} >= {"status", "total"}
    assert "status" in pydoc.render_doc(Order)
    assert doctest.DocTestFinder().find(Order)
    assert inspect.unwrap(STATUS) is STATUS
    assert not inspect.isabstract(Order)
    assert pickle.loads(pickle.dumps(Order)) is Order
    for twin in (pickle.loads(pickle.dumps(STATUS)), copy.copy(STATUS), copy.deepcopy(STATUS)):
        assert repr(twin) == repr(STATUS)
    assert [*inspect_mapping(Order).all_orm_descriptors.keys()] == ["id", "version"]


def test_mocks_with_the_class_as_specification() -> None:
    stand_in = mock.create_autospec(Order, instance=True)
    stand_in.status = PAID
    assert stand_in.status is PAID
    assert isinstance(stand_in, Order)
    with pytest.raises(AttributeError):
        _ = mock.Mock(spec=Order).no_such_attribute


def test_pydantic_reads_state_from_an_instance() -> None:
    class Answer(BaseModel):
        model_config = ConfigDict(from_attributes=True)
        status: OrderStatus
        total: Decimal

    assert Answer.model_validate(Order.place()).status is OrderStatus.PLACED
