"""The application and the worker behind the real PgBouncer in transaction mode, with and without prepared statements."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import URL, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    Announcer,
    ConcurrencyError,
    EventReplayer,
    EventStore,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    RetryPolicy,
    async_wait_for,
    commit_token,
    lock_aggregate,
    map_from_event,
    subscribe,
    verify,
    wait_for,
)
from sa_eventsource.cli.errors import UsageError
from sa_eventsource.cli.target import make_engine
from sa_eventsource.read_models import count, sum_
from sa_eventsource.store import message_of
from sa_eventsource.workers import AsyncWorker, Pace, Worker
from tests.advisory_locks import OWN_ADVISORY_LOCKS
from tests.bank import AnyAccount, Deposited
from tests.poolers import losing_prepared_statements, pooled, version
from tests.waiting import wait_until


class Base(DeclarativeBase):
    """Base of what is behind the pooler."""


class Account(AnyAccount, Base):
    """What it happens to."""

    __aggregate_type__ = "pooled.Account"
    __snapshot_frequency__ = 5


class Balance(ReadModel, Base):
    """Written with the events."""

    __projection_name__ = "balance"
    __consistency__ = "strong"
    total: Mapped[int] = map_from_event(Deposited, reduce=sum_("amount"))


class Statement(ReadModel, Base):
    """Written behind them."""

    __projection_name__ = "statement"
    __tablename__ = "statement"
    __shards__ = 2
    id: Mapped[str] = map_from_event(Deposited, key=True, source="aggregate_id")
    number: Mapped[int] = map_from_event(Deposited, reduce=count())
    total: Mapped[int] = map_from_event(Deposited, reduce=sum_("amount"))


@subscribe("pooled.clerk", Deposited, base=Base)
def _note(recorded: RecordedEvent[Deposited], session: Session) -> None:
    session.execute(text("INSERT INTO noted VALUES (:id)"), {"id": recorded.event_id})


def deposit(engine: Engine, account_id: str, *amounts: int) -> Any:
    """Commit the events one by one, each in a session of its own; return the token of the last commit."""
    token = None
    for each in amounts:
        with Session(engine) as session:
            account = session.get(Account, account_id)
            if account is None:
                session.add(account := Account(id=account_id))
            account.apply_event(Deposited(amount=each))
            session.commit()
            token = commit_token(session)
    return token


NO_PREPARED = {"prepare_threshold": None}
AT_ONCE = {"prepare_threshold": 0}


@pytest.fixture
def tables(postgres_engine: Engine) -> Engine:
    """An engine for the database itself."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE noted (event_id uuid PRIMARY KEY)"))
    return postgres_engine


@pytest.fixture(params=["unprepared", "prepared"])
def pooled_engine(request: pytest.FixtureRequest, tables: Engine) -> Iterator[Engine]:
    """An engine through PgBouncer, whose connections to the server are fewer than its clients."""
    prepared = request.param == "prepared"
    if prepared and version() < (1, 21):
        pytest.skip("PgBouncer knows prepared statements from 1.21 on; this one's behaviour is tested on its own")
    more = "max_prepared_statements = 100" if prepared else ""
    with pooled(tables.url.render_as_string(hide_password=False), pool_size=3, more=more) as url:
        engine = create_engine(url, pool_size=10, connect_args=AT_ONCE if prepared else NO_PREPARED)
        yield engine
        engine.dispose()


@pytest.fixture
def unprepared_url(tables: Engine) -> Iterator[URL]:
    with pooled(tables.url.render_as_string(hide_password=False), pool_size=3) as url:
        yield url


def test_writers_readers_and_workers_share_few_connections(pooled_engine: Engine, tables: Engine) -> None:
    """More clients than connections to the server, so that each client's next transaction is on another connection."""
    names = [f"t-{number}" for number in range(6)]
    with Worker(pooled_engine, Base), Worker(pooled_engine, Base), ThreadPoolExecutor(len(names)) as writers:
        tokens = list(writers.map(lambda name: deposit(pooled_engine, name, *range(1, 9)), names))
        with Session(pooled_engine) as session:
            for token in tokens:
                wait_for(session, Statement, after=token, timeout=60)
        wait_until(lambda: not any(each.lag_events for each in ReadModelManager(pooled_engine, Base).status()))
    with Session(pooled_engine) as session:
        for name in names:
            assert session.get_one(Account, name).balance == 36
            assert session.get_one(Balance, name).total == 36
            row = session.get_one(Statement, name)
            assert (row.number, row.total) == (8, 36)
        assert len(list(EventStore(session).events.stream(batch_size=7))) == 48
    with tables.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM noted")) == 48
    assert ReadModelManager(pooled_engine, Base).problems() == []


def test_conflicts_locks_rebuilds_and_checks(pooled_engine: Engine) -> None:
    deposit(pooled_engine, "a", *range(12))
    with Session(pooled_engine) as one, Session(pooled_engine) as other:
        for session in (one, other):
            session.get_one(Account, "a").apply_event(Deposited(amount=1))
        one.commit()
        with pytest.raises(ConcurrencyError):
            other.commit()
        other.rollback()
    with Session(pooled_engine) as holder:
        lock_aggregate(holder, Account, "a")
        thread = threading.Thread(target=_deposit_with_lock, args=[pooled_engine])
        thread.start()
        holder.get_one(Account, "a").apply_event(Deposited(amount=2))
        holder.commit()
    thread.join(60)
    manager, replayer = ReadModelManager(pooled_engine, Base), EventReplayer(pooled_engine, Base)
    assert manager.catch_up() == 15
    assert manager.catch_up() == 0
    for model in (Balance, Statement):
        assert replayer.rebuild(model) == 15
    assert replayer.rebuild_rows(Statement, ["a"]) == 1
    with Session(pooled_engine) as session:
        assert (
            session.get_one(Account, "a").balance
            == session.get_one(Balance, "a").total
            == session.get_one(Statement, "a").total
            == 73
        )
    assert verify(pooled_engine, Base).findings == ()


def _deposit_with_lock(engine: Engine) -> None:
    with Session(engine) as session:
        lock_aggregate(session, Account, "a")
        session.get_one(Account, "a").apply_event(Deposited(amount=4))
        session.commit()


def test_what_a_transaction_sets_stays_in_it(tables: Engine) -> None:
    """A worker's limits, isolation levels and read-only transactions reach nobody who gets the connection next."""
    with pooled(tables.url.render_as_string(hide_password=False), pool_size=1) as url:
        engine = create_engine(url, connect_args=NO_PREPARED)
        settings = text(
            "SELECT name, setting FROM pg_settings WHERE name IN ('lock_timeout', 'idle_in_transaction_session_timeout', "
            "'default_transaction_isolation', 'default_transaction_read_only', 'transaction_isolation', 'transaction_read_only')"
        )
        with engine.connect() as connection:
            before = sorted(map(tuple, connection.execute(settings)))
        deposit(engine, "a", *range(6))
        Worker(engine, Base).run_once()
        EventReplayer(engine, Base).rebuild(Statement)
        verify(engine, Base)
        with engine.connect() as connection:
            assert sorted(map(tuple, connection.execute(settings))) == before
            assert connection.scalar(text(f"SELECT count(*) FROM {OWN_ADVISORY_LOCKS}")) == 0
        engine.dispose()


async def test_the_asynchronous_side(unprepared_url: URL) -> None:
    engine = create_async_engine(unprepared_url, poolclass=NullPool, connect_args=NO_PREPARED)
    sessions: Any = lambda: AsyncSession(engine)  # noqa: E731 - what makes sessions
    async with AsyncWorker(sessions, Base), AsyncSession(engine) as session:
        for _ in range(7):
            account = await session.get(Account, "a")
            if account is None:
                session.add(account := Account(id="a"))
            account.apply_event(Deposited(amount=1))
            await session.commit()
        token = commit_token(session)
        assert token is not None
        await async_wait_for(session, Statement, after=token, timeout=60)
    async with AsyncSession(engine) as session:
        assert (await session.get_one(Statement, "a")).number == 7
    await engine.dispose()


def test_through_the_pooler_a_worker_asks_instead_of_listening(
    unprepared_url: URL, tables: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(unprepared_url, connect_args=NO_PREPARED)
    with Worker(engine, Base, listen=True), Announcer(engine):
        wait_until(lambda: "cannot be heard through a pooler" in caplog.text)
        token = deposit(engine, "a", 1)
        with Session(engine) as session:
            wait_for(session, Statement, after=token, timeout=60)
    with tables.connect() as connection:
        listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        assert connection.scalar(text(listening)) == 0
    engine.dispose()


def test_it_listens_beside_the_pooler(unprepared_url: URL, tables: Engine) -> None:
    """It asks once in a thousand seconds; what wakes it is the announcement that went through the pooler."""
    engine = create_engine(unprepared_url, connect_args=NO_PREPARED)
    seldom = Pace(listening=1000, every_follower=1000)
    with Announcer(engine), Worker(engine, Base, only=["statement"], pace=seldom, listen=tables):
        for total in (1, 2, 3):
            token = deposit(engine, "a", total)
            with Session(engine) as session:
                wait_for(session, Statement, after=token, timeout=60)
            time.sleep(0.5)  # until it would ask seldom
    engine.dispose()


def test_prepared_statements_that_the_pooler_does_not_know_are_explained(tables: Engine) -> None:
    """The worker ends, says what to do, and blames no event."""
    more = losing_prepared_statements()
    with pooled(tables.url.render_as_string(hide_password=False), pool_size=3, more=more) as url:
        engine = create_engine(url, poolclass=NullPool, connect_args=AT_ONCE)
        deposit(tables, "a", *range(20))
        with pytest.raises(DBAPIError, match="prepared statement") as raised:
            for _ in range(100):
                Worker(engine, Base).run_once()
        assert "connect_args={'prepare_threshold': None}" in message_of(raised.value)
    assert ReadModelManager(tables, Base).problems() == []


def test_the_command_line_takes_the_threshold_from_the_url(unprepared_url: URL) -> None:
    for value, expected in (("none", None), ("3", 3)):
        url = unprepared_url.update_query_dict({"prepare_threshold": value})
        engine = make_engine(url.render_as_string(hide_password=False))
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            assert driver.prepare_threshold == expected
        engine.dispose()


def test_a_threshold_that_is_no_number_is_refused(unprepared_url: URL) -> None:
    url = unprepared_url.update_query_dict({"prepare_threshold": "never"})
    with pytest.raises(UsageError, match="prepare_threshold=never in the URL is neither none nor a number"):
        make_engine(url.render_as_string(hide_password=False))


def test_a_transaction_that_stands_idle_is_ended_through_the_pooler(unprepared_url: URL, tables: Engine) -> None:
    engine = create_engine(unprepared_url, connect_args=NO_PREPARED)

    @event.listens_for(engine, "before_cursor_execute")
    def dawdle(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if sql.startswith("INSERT INTO noted"):
            with tables.connect().execution_options(isolation_level="AUTOCOMMIT") as watching:
                wait_until(lambda: watching.scalar(text(_IDLE_IN_TRANSACTION)) == 0)

    deposit(tables, "a", 1)
    once = RetryPolicy(attempts=1)
    assert Worker(engine, Base, only=["pooled.clerk"], pace=Pace(longest_call=1), retries=once).run_once() == 0
    engine.dispose()
    (problem,) = ReadModelManager(tables, Base).problems()
    assert "idle-in-transaction timeout" in problem


_IDLE_IN_TRANSACTION = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
