"""A log to look at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.orm import Session

from sa_eventsource import event_context
from tests.databases import DatabasePool
from tests.orders import Account, Base, Order
from tests.session.helpers import stored_events
from tests.shop import NoteAdded, OrderPaid, OrderPlaced

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
CORRELATION = UUID("11111111-2222-4333-8444-555555555555")


@pytest.fixture
def tables() -> MetaData | None:
    """The application's."""
    return Base.metadata


@pytest.fixture
def log(empty: Engine) -> Engine:
    """Engine on a database of each kind with an order of three events and an account of two, at one hour from each other."""
    fill(empty)
    return empty


@pytest.fixture
def postgres_log(postgres_engine: Engine) -> Engine:
    """The same on PostgreSQL only."""
    fill(postgres_engine)
    return postgres_engine


@pytest.fixture
def sqlite_log(sqlite_engine: Engine) -> Engine:
    """The same on SQLite only, for what a command does with its files and its terminal."""
    fill(sqlite_engine)
    return sqlite_engine


@pytest.fixture
def empty(engine: Engine) -> Engine:
    """Engine on a database of each kind with tables and no events."""
    return engine


@pytest.fixture
def other_postgres(postgres_databases: DatabasePool, tables: MetaData) -> Iterator[Engine]:
    """A second PostgreSQL database, with tables and no events."""
    with postgres_databases.database(tables) as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def forgetful(other_postgres: Engine) -> Iterator[Engine]:
    """An empty log on PostgreSQL that must be empty in the end."""
    yield other_postgres
    assert stored_events(other_postgres) == []


def fill(engine: Engine) -> None:
    """Store the events, one transaction each, so that positions follow their times."""
    with Session(engine) as session:
        order = Order(id="o-1")
        with event_context(user="ann", reason="by phone"):
            order.apply_event(
                OrderPlaced(customer_id="c-1", lines=(), total=Decimal("56.90")), occurred_at=NOON, event_id=UUID(int=1)
            )
        session.add(order)
        session.commit()
        with event_context(correlation_id=CORRELATION, causation_id=UUID(int=1)):
            order.apply_event(NoteAdded(text="ring twice é"), occurred_at=NOON + timedelta(hours=1), event_id=UUID(int=2))
            session.commit()
            order.apply_event(OrderPaid(payment_id="p-1"), occurred_at=NOON + timedelta(hours=2), event_id=UUID(int=3))
            session.commit()
        account = Account.open(account_id=UUID(int=7))
        session.add(account)
        session.commit()
        account.deposit()
        session.commit()
