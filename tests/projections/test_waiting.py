"""Reading your own writes: a commit's token is waited for."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import Session

from sa_eventsource import (
    AsyncWorker,
    CommitTokenError,
    EventStore,
    ReadModelError,
    ReadModelLagError,
    ReadModelManager,
    Worker,
    async_wait_for,
    commit_token,
    wait_for,
    waiting_for,
)
from tests.bank import Deposited
from tests.projections.bank import Account, Balance, Base, BranchTotal, Noted, Stopping, deposit


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def bank(engine: Engine) -> Engine:
    return engine


def commit(session: Session, account_id: str, amount: int = 1) -> Any:
    session.add(account := Account(id=account_id))
    account.apply_event(Deposited(amount=amount))
    account.apply_event(Noted(note="x"))
    session.commit()
    return commit_token(session)


def test_a_token_is_waited_for(bank: Engine) -> None:
    with Session(bank) as session:
        token = commit(session, "a")
        with pytest.raises(ReadModelLagError, match=r"'balance' has not taken .* within 0.05 s: it has 1 event to take"):
            wait_for(session, Balance, after=token, timeout=0.05)
        timer = threading.Timer(0.1, Worker(bank, Base, only=["balance"]).run_once)
        timer.start()
        wait_for(session, Balance, after=str(token), timeout=60)
        timer.join()
        assert session.get_one(Balance, "a").total == 1


def test_what_was_taken_before_a_model_stopped_is_not_waited_for(bank: Engine) -> None:
    with Session(bank) as session:
        tokens = [commit(session, account_id, amount) for account_id, amount in (("a", 1), ("b", 2), ("c", -1), ("d", 3))]
        with pytest.raises(ReadModelError, match="negative: -1"):
            ReadModelManager(bank, Base).catch_up(Stopping, batch_size=1)
        for token in tokens[:2]:
            wait_for(session, Stopping, after=token, timeout=0.05)
        for token in tokens[2:]:
            with pytest.raises(ReadModelLagError):
                wait_for(session, Stopping, after=token, timeout=0.05)


def test_a_token_is_the_id_of_the_last_event(bank: Engine) -> None:
    with Session(bank) as session:
        for account_id in ("a", "b"):
            session.add(account := Account(id=account_id))
            account.apply_event(Deposited(amount=1))
            account.apply_event(Noted(note="x"))
        session.commit()
        last = EventStore(session, Base).events.backward().first()
        assert last is not None
        assert commit_token(session) == last.event_id


def test_every_part_of_a_split_model_is_waited_for(postgres_engine: Engine) -> None:
    with Session(postgres_engine) as session:
        for number in range(8):
            session.add(account := Account(id=f"a-{number}"))
            account.apply_event(Deposited(amount=1))
        session.commit()
        token = commit_token(session)
        assert token is not None
        with pytest.raises(ReadModelLagError) as caught:
            wait_for(session, BranchTotal, after=token, timeout=0)
        assert caught.value.lag_events == 8
        Worker(postgres_engine, Base).run_once()
        wait_for(session, BranchTotal, after=token, timeout=0)


def test_a_commit_without_events_of_the_model_is_not_waited_for(bank: Engine) -> None:
    deposit(bank, "a", 1)
    Worker(bank, Base).run_once()
    with Session(bank) as session:
        session.get_one(Account, "a").apply_event(Noted(note="x"))
        session.commit()
        token = commit_token(session)
        assert token is not None
        wait_for(session, Balance, after=token, timeout=0)


def test_others_late_commits_are_not_waited_for(postgres_engine: Engine) -> None:
    """What commits later belongs to another commit, although its position is lower."""
    with Session(postgres_engine) as slow, Session(postgres_engine) as session:
        slow.add(account := Account(id="slow"))
        account.apply_event(Deposited(amount=1))
        slow.flush()
        token = commit(session, "a")
        Worker(postgres_engine, Base).run_once()
        slow.commit()
        wait_for(session, Balance, after=token, timeout=0)
        late = commit_token(slow)
        assert late is not None
        with pytest.raises(ReadModelLagError):
            wait_for(session, Balance, after=late, timeout=0)


def test_a_token_that_no_event_has_is_refused_at_once(bank: Engine) -> None:
    token = uuid4()
    with Session(bank) as session:
        commit(session, "a")
        begun = time.monotonic()
        with pytest.raises(CommitTokenError, match="the database has no event with the id") as caught:
            wait_for(session, Balance, after=token, timeout=60)
        assert time.monotonic() - begun < 30
        assert caught.value.token == str(token)


@pytest.mark.parametrize("token", ["", "nonsense", "x' or 1=1", "1" * 10_000])
def test_a_text_that_is_no_token_is_refused(token: str) -> None:
    with Session() as session, pytest.raises(CommitTokenError, match=r"wait_for\(\) waits after a commit's token") as caught:
        wait_for(session, Balance, after=token, timeout=0)
    assert caught.value.token == token
    assert len(str(caught.value)) < 300


async def test_an_unknown_token_is_refused_asynchronously(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with async_sessionmaker(async_engine)() as session:
        with pytest.raises(CommitTokenError, match="no event with the id"):
            await async_wait_for(session, Balance, after=uuid4(), timeout=60)
        with pytest.raises(CommitTokenError, match=r"async_wait_for\(\)"):
            await async_wait_for(session, Balance, after="nonsense", timeout=60)


def test_where_events_come_by_replication_an_unknown_token_is_waited_for(postgres_engine: Engine) -> None:
    """It may be on its way: here, a subscription that is disabled stands for one that is slow."""
    with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE SUBSCRIPTION slow CONNECTION 'dbname=nowhere' PUBLICATION nowhere WITH (connect = false)"))
    with postgres_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
                "SELECT oid, 'events'::regclass, 'r' FROM pg_subscription WHERE subname = 'slow'"
            )
        )
    token = uuid4()
    late = Account(id="late")
    late.apply_event(Deposited(amount=1), event_id=token)

    def arrive() -> None:
        with Session(postgres_engine) as session:
            session.add(late)
            session.commit()
        Worker(postgres_engine, Base).run_once()

    try:
        with Session(postgres_engine) as session:
            with pytest.raises(CommitTokenError, match="no event with the id"):
                wait_for(session, Balance, after=uuid4(), timeout=0.05)
            timer = threading.Timer(0.1, arrive)
            timer.start()
            wait_for(session, Balance, after=token, timeout=30)
            timer.join()
    finally:
        with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ALTER SUBSCRIPTION slow SET (slot_name = NONE)"))
            connection.execute(text("DROP SUBSCRIPTION slow"))


def test_there_is_no_token_before_a_commit_and_after_a_rollback(bank: Engine) -> None:
    with Session(bank) as session:
        session.add(account := Account(id="a"))
        account.apply_event(Deposited(amount=1))
        session.flush()
        assert commit_token(session) is None
        session.rollback()
        session.commit()
        assert commit_token(session) is None
        token = commit(session, "b")
        with session.begin_nested():
            session.get_one(Account, "b").apply_event(Deposited(amount=2))
        assert commit_token(session) == token
        session.commit()
        assert commit_token(session) not in (None, token)


def test_the_token_is_of_an_event_that_was_not_rolled_back(bank: Engine) -> None:
    with Session(bank) as session:
        session.add(account := Account(id="a"))
        account.apply_event(Deposited(amount=1))
        session.flush()
        with session.begin_nested() as outer:
            account.apply_event(Deposited(amount=2))
            with session.begin_nested():
                account.apply_event(Deposited(amount=4))
            outer.rollback()
        session.commit()
        assert session.get_one(Account, "a").balance == 1
        session.rollback()
        Worker(bank, Base).run_once()
        token = commit_token(session)
        assert token is not None
        wait_for(session, Balance, after=token, timeout=0)


def test_a_commit_can_be_asked_to_wait(postgres_engine: Engine) -> None:
    with Worker(postgres_engine, Base), Session(postgres_engine) as session, waiting_for(session, Balance, BranchTotal, timeout=60):
        for number in range(5):
            commit(session, f"a-{number}")
            assert session.get_one(Balance, f"a-{number}").total == 1
            assert session.get_one(BranchTotal, "main").number == number + 1


def test_where_nobody_follows_the_commit_says_so_and_is_done(bank: Engine) -> None:
    with Session(bank) as session:
        with waiting_for(session, Balance, timeout=0.05), pytest.raises(ReadModelLagError):
            commit(session, "a")
        assert session.get_one(Account, "a").balance == 1
        session.rollback()
        with pytest.raises(ReadModelLagError), waiting_for(session, Balance, timeout=0.05), session.begin():
            session.get_one(Account, "a").apply_event(Deposited(amount=2))
        assert session.get_one(Account, "a").balance == 3
        session.rollback()
        commit(session, "b")


async def test_tokens_are_waited_for_asynchronously(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(async_engine)
    async with sessions() as session:
        session.add(account := Account(id="a"))
        account.apply_event(Deposited(amount=1))
        await session.commit()
        token = commit_token(session)
        assert token is not None
        with pytest.raises(ReadModelLagError):
            await async_wait_for(session, Balance, after=token, timeout=0.01)
        async with AsyncWorker(sessions, Base):
            await async_wait_for(session, Balance, after=token, timeout=60)
            assert (await session.get_one(Balance, "a")).total == 1
            await session.commit()
            if async_engine.dialect.name == "postgresql":  # on SQLite, a writer may find the database locked
                with waiting_for(session, Balance, timeout=60):
                    session.add(account := Account(id="b"))
                    account.apply_event(Deposited(amount=2))
                    await session.commit()
                assert (await session.get_one(Balance, "b")).total == 2
