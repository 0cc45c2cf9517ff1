"""SQLModel: its tables and the event log on one metadata, in one transaction, through its session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import ConcurrencyError, EventRecord
from tests.shop import AnyOrder, OrderStatus

pytest.importorskip("sqlmodel")

from sqlmodel import Field, Session, SQLModel, select

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


class Base(DeclarativeBase):
    """Aggregates share SQLModel's metadata and registry, so ``SQLModel.metadata.create_all`` makes all tables."""

    metadata = SQLModel.metadata
    registry = SQLModel._sa_registry


class Customer(SQLModel, table=True):
    """An ordinary SQLModel table."""

    __tablename__ = "sqlmodel_customers"  # pyright: ignore[reportAssignmentType]

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    order_id: str | None = None


class Order(AnyOrder, Base):
    """An aggregate beside SQLModel's tables."""


@pytest.fixture
def database(engine: Engine) -> Iterator[Engine]:
    """All of SQLModel's tables, and the event log's."""
    SQLModel.metadata.create_all(engine)
    yield engine
    SQLModel.metadata.drop_all(engine)


def test_one_metadata_has_all_tables() -> None:
    """What creates or migrates SQLModel's tables finds the log's too."""
    assert {"events", "snapshots", "projections", "projection_positions", "parked_events", "sqlmodel_customers"} <= set(
        SQLModel.metadata.tables
    )


def test_saves_both_in_one_transaction(database: Engine) -> None:
    """``sqlmodel.Session`` commits the row and the events, and its ``exec`` finds both."""
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.add(Customer(name="Ann", order_id=order.id))
        session.commit()
        session.refresh(order)
        assert order.customer_id == "c-1"
    with Session(database) as session:
        customer = session.exec(select(Customer).where(Customer.name == "Ann")).one()
        found = session.get(Order, customer.order_id)
        assert found is not None
        found.pay()
        session.commit()
        orders: Any = select(Order)
        assert [each.status for each in session.exec(orders)] == [OrderStatus.PAID]
        pairs: Any = select(Customer, Order).join(Order, Order.id == Customer.order_id)
        assert [(each.name, paid.version) for each, paid in session.exec(pairs)] == [("Ann", 2)]


def test_rolls_both_back(database: Engine) -> None:
    """A row that is refused takes the events with it."""
    with Session(database) as session:
        session.add(Customer(name="Ann"))
        session.commit()
        session.add_all([Order.place(), Customer(name="Ann")])
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        count: Any = select(func.count()).select_from(EventRecord)
        assert session.exec(count).one() == 0


def test_conflicts_are_found(database: Engine) -> None:
    """The later of two sessions is refused."""
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.commit()
        order_id = order.id
    with Session(database) as session:
        stale = session.get_one(Order, order_id)
        session.expunge(stale)
        session.rollback()
        session.get_one(Order, order_id).pay()
        session.commit()
    with Session(database) as session:
        stale.pay()
        session.add(stale)
        with pytest.raises(ConcurrencyError):
            session.commit()
