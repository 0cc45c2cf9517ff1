"""The index on the time of events: a B-tree, or BRIN where the base says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, EventSourceOptions, EventStore
from tests.bank import AnyAccount, Deposited


def log(*, brin: bool, partitions: int | None = None) -> type[DeclarativeBase]:
    """Make a base with an aggregate."""

    class Base(DeclarativeBase):
        __eventsource__ = EventSourceOptions(occurred_at_brin=brin, partitions=partitions)

    class Account(AnyAccount, Base):
        __aggregate_type__ = "time_index.Account"

    return Base


def account_of(base: type[DeclarativeBase]) -> type[AggregateRoot]:
    (found,) = (each.class_ for each in base.registry.mappers if issubclass(each.class_, AggregateRoot))
    return found


def methods(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        query = "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'events%' AND indexdef LIKE '%(occurred_at)%'"
        return {each.partition("USING ")[2].split()[0] for each in connection.scalars(text(query))}


@pytest.mark.parametrize("partitions", [None, 2])
def test_a_log_with_brin_answers_for_a_range_of_time(postgres_engine: Engine, partitions: int | None) -> None:
    base = log(brin=True, partitions=partitions)
    base.metadata.create_all(postgres_engine)
    assert methods(postgres_engine) == {"brin"}
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with Session(postgres_engine) as session:
        account = account_of(base)()
        for number in range(50):
            account.apply_event(Deposited(amount=number), occurred_at=start + timedelta(hours=number))
        session.add(account)
        session.commit()
        session.execute(text("SET LOCAL enable_seqscan = off"))
        session.execute(text("SET LOCAL enable_indexscan = off"))
        query = (
            EventStore(session, base).events.occurred_from(start + timedelta(hours=10)).occurred_until(start + timedelta(hours=11))
        )
        found = [each.event for each in query]
    assert found == [Deposited(amount=10), Deposited(amount=11)]


def test_alembic_puts_the_one_in_the_place_of_the_other(postgres_engine: Engine) -> None:
    log(brin=False).metadata.create_all(postgres_engine)
    assert methods(postgres_engine) == {"btree"}
    with postgres_engine.connect() as connection:
        changes = compare_metadata(MigrationContext.configure(connection), log(brin=True).metadata)
    assert sorted((each[0], each[1].name) for each in changes) == [
        ("add_index", "ix_events_occurred_at_brin"),
        ("remove_index", "ix_events_occurred_at"),
    ]


def test_sqlite_has_an_index_all_the_same(sqlite_engine: Engine) -> None:
    log(brin=True).metadata.create_all(sqlite_engine)
    with sqlite_engine.connect() as connection:
        names = connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'events'")).all()
    assert "ix_events_occurred_at_brin" in names
