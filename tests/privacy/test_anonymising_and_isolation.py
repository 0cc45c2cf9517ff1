"""A transaction that began before an anonymisation, and does not see it, brings nothing of it back."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, func, select
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import EventSourceOptions, EventStore, verify
from sa_eventsource.mapping import tables_of_base
from tests.anonymising import anonymise_all
from tests.bank import AnyAccount, Opened
from tests.committing import commit_events


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(anonymisations="anonymisations")


class Account(AnyAccount, Base):
    __aggregate_type__ = "anonymising_and_isolation.Account"
    __snapshot_frequency__ = 2


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def snapshots(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(tables_of_base("test", Base).snapshots)) or 0


@pytest.mark.parametrize(
    ("level", "writes"), [("READ COMMITTED", 1), ("READ UNCOMMITTED", 1), ("REPEATABLE READ", 0), ("SERIALIZABLE", 0)]
)
def test_its_snapshot_does_not_hold_what_was_anonymised(postgres_engine: Engine, level: str, writes: int) -> None:
    commit_events(postgres_engine, Account, "a", Opened(owner="Ann"))
    with Session(postgres_engine.execution_options(isolation_level=level)) as writer:
        account = writer.get_one(Account, "a")
        with Session(postgres_engine) as session:
            anonymise_all(session, EventStore(session, Base).events.of_type(Opened), "owner", "nobody")
        account.deposit()
        writer.commit()
    assert snapshots(postgres_engine) == writes
    with Session(postgres_engine) as session:
        assert (session.get_one(Account, "a").owner, session.get_one(Account, "a").version) == ("nobody", 2)
    assert verify(postgres_engine, Base).findings == ()
