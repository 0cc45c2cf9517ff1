"""Compacting as SQLAlchemy's sessions see it: identities, savepoints, listeners, asynchronous ones."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, make_transient_to_detached

from sa_eventsource import EventSourcedRepository, StreamArchivedError, async_compact, compact
from tests.ending.accounts import Account, Base, compacted, pay_in


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_an_instance_in_the_session_is_the_same_before_and_after(accounts: Engine) -> None:
    with Session(accounts) as session:
        account = session.get_one(Account, "a-1")
        compact(session, Account, "a-1", reason="r")
        assert (account.balance, account.is_stream_closed) == (7, True)
        assert session.get(Account, "a-1") is account
        session.refresh(account)
        session.expire(account)
        assert account.ended_with == 7
        assert session.scalars(select(Account).execution_options(populate_existing=True)).all()[0] is account
        session.commit()
        assert account.balance == 7
        session.expunge(account)
    with Session(accounts) as session:
        merged = session.merge(account)
        assert (merged.balance, merged.is_stream_closed, session.is_modified(merged)) == (7, True, False)
        detached = Account.__new__(Account)
        session.expunge_all()
        detached = Account(id="a-1")
        make_transient_to_detached(detached)
        session.add(detached)
        assert (detached.version, detached.balance) == (3, 7)
        assert session.scalars(select(Account).where(Account.id == "a-1")).one() is detached


@pytest.mark.parametrize("before", [True, False])
def test_a_savepoint_takes_it_back(accounts: Engine, before: bool) -> None:
    with Session(accounts) as session:
        account = session.get_one(Account, "a-1") if before else None
        savepoint = session.begin_nested()
        compact(session, Account, "a-1", reason="r")
        assert session.get_one(Account, "a-1").balance == 7
        savepoint.rollback()
        assert account is None or account.balance == 7
        assert EventSourcedRepository(session, Account).load_at_version("a-1", 1).balance == 3
        with session.begin_nested():
            compact(session, Account, "a-1", reason="r")
        session.commit()
        assert session.get_one(Account, "a-1").balance == 7
        with pytest.raises(StreamArchivedError):
            EventSourcedRepository(session, Account).load_at_version("a-1", 1)


def test_a_session_that_somebody_listens_to_loads_it(accounts: Engine) -> None:
    compacted(accounts, Account, "a-1")
    loaded = []
    with Session(accounts) as session:
        event.listen(session, "do_orm_execute", lambda _: None)
        event.listen(session, "loaded_as_persistent", lambda _, instance: loaded.append(instance.balance))
        assert session.get_one(Account, "a-1").balance == 7
    assert loaded == [7]


async def test_async(async_engine: AsyncEngine) -> None:
    url = async_engine.url
    engine = create_engine(url.set(drivername="sqlite") if url.drivername.startswith("sqlite") else url)
    pay_in(engine, Account, "a-1", 3)
    async with AsyncSession(async_engine) as session:
        assert (await async_compact(session, Account, "a-1", reason="r")).is_compacted
        await session.commit()
        assert (await session.get_one(Account, "a-1")).balance == 3
        assert [each.balance for each in await session.scalars(select(Account))] == [3]
    engine.dispose()
