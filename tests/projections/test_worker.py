"""The worker: follows by itself, in a thread, as a task or once; several share the models out; trouble passes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, sessionmaker

from sa_eventsource import DeclarationError, ReadModel, ReadModelManager, map_from_event
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.projections.steps import take_step
from sa_eventsource.read_models import count
from sa_eventsource.workers import Announcer, AsyncWorker, Pace, Worker
from tests.bank import AnyAccount, Deposited
from tests.committing import commit_events
from tests.databases import WAITING
from tests.followers import followers_on
from tests.processes import fork, pipe
from tests.projections import bank
from tests.projections.bank import Account, Balance, Base, BranchTotal, Noted, branch_count, deposit, totals
from tests.waiting import wait_until

NAMES = ("balance", "branch_total", "declared_parking", "parking", "stopping")


@pytest.fixture
def bank_engine(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def postgres_bank(postgres_engine: Engine) -> Engine:
    Base.metadata.create_all(postgres_engine)
    return postgres_engine


@pytest.fixture(autouse=True)
def _not_mended() -> Iterator[None]:
    bank._Refusing.mended = False
    yield
    bank._Refusing.mended = False


def test_it_looks_after_all_eventual_models_of_the_base(bank_engine: Engine) -> None:
    assert set(NAMES) <= set(Worker(bank_engine, Base).names)
    assert Worker(bank_engine, Base, only=["balance"]).names == ("balance",)
    with pytest.raises(DeclarationError, match="no eventual read model and no subscription has the name 'x'; there are: balance, "):
        Worker(bank_engine, Base, only=["x"])


def test_in_a_thread_it_follows_what_is_committed(bank_engine: Engine) -> None:
    for number in range(5):
        deposit(bank_engine, f"a-{number}", 1, 2)
    before = set(threading.enumerate())  # a publisher's stays, which other tests may have had
    with Worker(bank_engine, Base, pace=Pace(longest=0.2)):
        if bank_engine.dialect.name == "postgresql":  # on SQLite, a writer may find the database locked
            deposit(bank_engine, "a-4", 3)
        expected = 11 if bank_engine.dialect.name == "postgresql" else 10
        wait_until(lambda: len(totals(bank_engine, Balance)) == 5)
        wait_until(lambda: branch_count(bank_engine) == expected)
    assert set(threading.enumerate()) <= before
    deposit(bank_engine, "late", 7)
    assert "late" not in totals(bank_engine, Balance)


async def test_as_a_task_it_follows_what_is_committed(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(async_engine)
    async with AsyncWorker(sessions, Base):
        async with sessions() as session:
            session.add(account := Account(id="a"))
            account.apply_event(Deposited(amount=3))
            await session.commit()
        async with asyncio.timeout(20):
            while True:
                async with sessions() as session:
                    row = await session.get(Balance, "a")
                    if row is not None:
                        assert row.total == 3
                        break
                await asyncio.sleep(0.01)


def test_run_once_takes_what_is_there_and_returns(bank_engine: Engine) -> None:
    deposit(bank_engine, "a", 1, 2, 3)
    worker = Worker(sessionmaker(bank_engine), Base, only=["balance", "branch_total"])
    assert worker.run_once() == 6
    assert worker.run_once() == 0
    assert totals(bank_engine, Balance) == {"a": 6}


async def test_so_does_an_asynchronous_worker(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(async_engine)
    async with sessions() as session:
        session.add(account := Account(id="a"))
        for _ in range(3):
            account.apply_event(Deposited(amount=3))
        await session.commit()
    worker = AsyncWorker(sessions, Base, only=["balance", "branch_total"])
    assert (await worker.run_once(), worker.hindered) == (6, {})
    assert await worker.run_once() == 0
    async with sessions() as session:
        assert (await session.get_one(Balance, "a")).total == 9


@pytest.mark.parametrize("way", ["run_once", "catch_up"])
def test_a_backlog_that_was_left_halfway_does_not_hide_what_came_after_it(postgres_bank: Engine, way: str) -> None:
    for number in range(3):
        deposit(postgres_bank, f"a-{number}", 1)
    (follower,) = (each for each in followers_on(postgres_bank, Base) if each.name == "balance")
    with Session(postgres_bank) as session:
        assert take_step(session, follower, 2).events == 2
    deposit(postgres_bank, "later", 7)
    if way == "run_once":
        assert Worker(postgres_bank, Base, only=["balance"]).run_once() == 2
    else:
        assert ReadModelManager(postgres_bank, Base).catch_up(Balance) == 2
    assert totals(postgres_bank, Balance)["later"] == 7


def test_it_stops_after_the_batch_under_way(postgres_bank: Engine) -> None:
    """The batch waits for a row that somebody else holds; told to stop, the worker commits it and takes no other."""
    deposit(postgres_bank, "a", 1)
    Worker(postgres_bank, Base).run_once()
    with postgres_bank.connect() as other:
        other.execute(text("SELECT * FROM projections WHERE projection_name = 'balance' FOR UPDATE"))
        worker = Worker(postgres_bank, Base, only=["balance", "stopping"])
        thread = threading.Thread(target=worker.run)
        thread.start()
        deposit(postgres_bank, "a", 2)
        with postgres_bank.connect() as watch:
            wait_until(lambda: watch.scalar(text(WAITING)))
        worker.stop()
        thread.join(0.2)
        assert thread.is_alive()
        other.rollback()
    thread.join(60)
    assert not thread.is_alive()
    assert totals(postgres_bank, Balance) == {"a": 3}


def test_several_workers_share_the_models_and_count_each_event_once(postgres_bank: Engine) -> None:
    workers = [Worker(postgres_bank, Base) for _ in range(4)]
    for each in workers:
        each.__enter__()
    for number in range(60):
        deposit(postgres_bank, f"a-{number % 13}", 1, branch=f"b-{number % 3}")
    wait_until(lambda: branch_count(postgres_bank) == 60)
    wait_until(lambda: sum(totals(postgres_bank, Balance).values()) == 60)
    wait_until(lambda: sum(totals(postgres_bank, bank.Parking).values()) == 60)
    wait_until(lambda: not any(each.lag_events for each in ReadModelManager(postgres_bank, Base).status()))
    for each in workers:
        each.__exit__()
    assert branch_count(postgres_bank) == 60
    assert ReadModelManager(postgres_bank, Base).catch_up() == 0


def test_a_model_that_another_worker_is_at_is_left_to_it(postgres_bank: Engine) -> None:
    deposit(postgres_bank, "a", 1)
    Worker(postgres_bank, Base).run_once()
    deposit(postgres_bank, "a", 1)
    with postgres_bank.connect() as other:
        other.execute(text("SELECT * FROM projection_positions WHERE projection_name = 'balance' FOR UPDATE"))
        Worker(postgres_bank, Base).run_once()
    assert totals(postgres_bank, Balance) == {"a": 1}
    assert branch_count(postgres_bank) == 2
    Worker(postgres_bank, Base).run_once()
    assert totals(postgres_bank, Balance) == {"a": 2}


def test_a_split_model_keeps_a_checkpoint_for_each_part(postgres_bank: Engine) -> None:
    for number in range(40):
        deposit(postgres_bank, f"a-{number}", 1)
    with postgres_bank.connect() as other:
        Worker(postgres_bank, Base).run_once()
        deposit(postgres_bank, "a-0", 1)
        other.execute(text("SELECT * FROM projection_positions WHERE projection_name <> 'branch_total#1/4' FOR UPDATE"))
        assert Worker(postgres_bank, Base, only=["branch_total"]).run_once() in (0, 1)
    Worker(postgres_bank, Base).run_once()
    assert branch_count(postgres_bank) == 41
    with postgres_bank.connect() as connection:
        rows = connection.execute(text("SELECT projection_name FROM projection_positions WHERE projection_name LIKE 'branch%'"))
        assert sorted(rows.scalars()) == [f"branch_total#{number}/4" for number in (1, 2, 3, 4)]


def test_lost_connections_are_waited_out(postgres_bank: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sa_eventsource.worker")
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    pooled = postgres_bank.execution_options(isolation_level="AUTOCOMMIT")
    with Worker(postgres_bank, Base), pooled.connect() as killer:
        deposit(postgres_bank, "a", 1)
        wait_until(lambda: totals(postgres_bank, Balance) == {"a": 1})
        killer.execute(cut)
        # It depends on whether a follower was at work.
        wait_until(lambda: "cannot be worked with" in caplog.text or " waits: " in caplog.text)
        wait_until(lambda: _works(lambda: deposit(postgres_bank, "a", 2)))
        wait_until(lambda: totals(postgres_bank, Balance) == {"a": 3})


def test_what_opens_connections_may_be_away_too(postgres_bank: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """As a service that gives a token for each: what it raises is none of the driver's errors."""
    is_away = threading.Event()
    refused: list[str] = []
    engine = create_engine(postgres_bank.url, poolclass=NullPool)

    @event.listens_for(engine, "do_connect")
    def fetch_token(*_: Any) -> None:
        if is_away.is_set():
            refused.append(threading.current_thread().name)
            raise ConnectionRefusedError("no tokens today")

    with Announcer(engine), Worker(engine, Base, only=["balance"], pace=Pace(longest_outage=0.1), listen=True) as worker:
        deposit(postgres_bank, "a", 1)
        wait_until(lambda: totals(postgres_bank, Balance) == {"a": 1})
        is_away.set()
        with postgres_bank.connect() as killer:
            of_both = "datname = current_database() AND (query LIKE 'LISTEN%' OR query LIKE 'NOTIFY%')"
            killer.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {of_both}"))
        deposit(postgres_bank, "a", 2)
        announcing = {"sa_eventsource worker", "sa_eventsource listener", "sa_eventsource announcer"}
        wait_until(lambda: announcing <= set(refused))
        is_away.clear()
        wait_until(lambda: totals(postgres_bank, Balance) == {"a": 3})
        assert announcing <= {thread.name for thread in threading.enumerate()}
        assert worker.error is None
    engine.dispose()
    assert "no tokens today" in caplog.text


def _works(action: Callable[[], Any]) -> bool:
    try:
        action()
    except Exception:
        return False
    return True


def test_what_no_pause_mends_ends_the_worker(engine: Engine) -> None:
    expected = ProgrammingError if engine.dialect.name == "postgresql" else OperationalError
    with pytest.raises(expected, match=r"projection_positions|events"):
        Worker(engine, Base).run()


def test_what_ended_the_thread_is_raised_where_the_block_ends(postgres_engine: Engine) -> None:
    worker = Worker(postgres_engine, Base)
    with pytest.raises(ProgrammingError), worker:
        wait_until(lambda: not worker._thread or not worker._thread.is_alive())


def test_a_thread_that_has_ended_says_so_at_once(postgres_engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is raised where the block ends, which may be days later."""
    with pytest.raises(ProgrammingError), Worker(postgres_engine, Base) as worker:
        wait_until(lambda: worker.error is not None)
        assert isinstance(worker.error, ProgrammingError)
        (record,) = [each for each in caplog.records if each.levelname == "CRITICAL"]
        assert record.name == "sa_eventsource.worker"
        assert record.getMessage().startswith("the worker has ended and follows the log no longer: ")
        assert record.exc_info is not None


async def test_a_task_that_has_ended_says_so_at_once(async_engine: AsyncEngine, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DBAPIError):
        async with AsyncWorker(async_sessionmaker(async_engine), Base):
            for _ in range(3_000):
                if any(each.levelname == "CRITICAL" for each in caplog.records):
                    break
                await asyncio.sleep(0.02)
            assert "the worker has ended" in caplog.text


class Interrupted(threading.Event):
    """An event at which a signal arrives, and sets it, while whoever waits on it holds its lock."""

    def wait(self, timeout: float | None = None) -> bool:
        with self._cond:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        return super().wait(timeout)


def _follow_until_sigterm(url: str, channel: Any) -> None:
    engine = create_engine(url)
    stop = Interrupted()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    channel.send("following")
    channel.send(Worker(engine, Base).run(stop))


def _follow_until_stopped(url: str, channel: Any) -> None:
    worker = Worker(create_engine(url), Base, pace=Pace(shortest=60, longest=60, listening=60, longest_outage=60))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    channel.send("following")
    channel.send(worker.run())


@pytest.mark.parametrize("follow", [_follow_until_sigterm, _follow_until_stopped], ids=["event", "stop"])
def test_a_signal_ends_it_whatever_it_is_at(postgres_bank: Engine, follow: Callable[..., None]) -> None:
    here, there = pipe()
    process = fork(follow, postgres_bank.url.render_as_string(hide_password=False), there)
    assert here.poll(60)
    assert here.recv() == "following"
    time.sleep(0.2)
    os.kill(process.pid or 0, signal.SIGTERM)
    assert here.poll(30)
    assert here.recv() == 0


def test_a_worker_with_nothing_to_follow_says_so(sqlite_engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    class Empty(DeclarativeBase):
        pass

    class EmptyAccount(AnyAccount, Empty):
        __aggregate_type__ = "nothing.Account"

    Empty.metadata.create_all(sqlite_engine)
    with Worker(sqlite_engine, Empty, listen=True):
        time.sleep(0.1)
    assert "nothing to follow" in caplog.text


class Numbered(DeclarativeBase):
    """Base of a model that takes texts for numbers."""


class NumberedAccount(AnyAccount, Numbered):
    """Whose ids are texts."""

    __aggregate_type__ = "numbered.Account"


class Counts(ReadModel, Numbered):
    """Whose keys are numbers."""

    __projection_name__ = "counts"
    id: Mapped[int]
    number: Mapped[int] = map_from_event(Deposited, reduce=count())


def test_a_value_that_fits_no_row_stops_the_model_and_not_the_worker(engine: Engine) -> None:
    Numbered.metadata.create_all(engine)
    for account_id in ("1", "x"):
        commit_events(engine, NumberedAccount, account_id, Deposited(amount=1))
    assert Worker(engine, Numbered, retries=RetryPolicy(attempts=1)).run_once() == 1
    (problem,) = ReadModelManager(engine, Numbered).problems()
    assert problem.startswith("counts is stopped: ReadModelError: read model 'counts' cannot take ")
    assert "'x'" in problem or '"x"' in problem


def test_events_that_nobody_takes_write_nothing(postgres_bank: Engine, statements: Any) -> None:
    """A quiet poll is one statement; a checkpoint is not written for each transaction of others."""
    deposit(postgres_bank, "a", 1)
    with Session(postgres_bank) as session:
        polling = Worker(postgres_bank, Base, only=["balance"], pace=Pace(every_follower=1000))._pollings(lambda: False)[0]
        polling.wake(session)
        with statements(postgres_bank) as log:
            polling.wake(session)
        assert len([each for each in log if each not in ("BEGIN", "ROLLBACK", "BEGIN (implicit)")]) == 1
        with Session(postgres_bank) as other:
            other.get_one(Account, "a").apply_event(Noted(note="x"))
            other.commit()
        with statements(postgres_bank) as log:
            polling.wake(session)
        assert not [each for each in log if each.startswith(("UPDATE", "INSERT"))]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shortest": 0}, r"Pace\(shortest=0\): seconds are above 0"),
        ({"shortest": 2, "longest": 1}, r"Pace\(shortest=2\) is longer than longest=1"),
        ({"every_follower": 0}, r"Pace\(every_follower=0\)"),
        ({"longest_outage": 0.0001}, "is longer than longest_outage=0.0001"),
        ({"longest_idle": -1}, r"Pace\(longest_idle=-1\): seconds are above 0, and 1,000,000 at the most"),
        ({"longest_call": 3_000_000}, r"Pace\(longest_call=3000000\)"),
        ({"longest_call": float("inf")}, r"Pace\(longest_call=inf\)"),
        ({"lock_wait": float("nan")}, r"Pace\(lock_wait=nan\)"),
    ],
)
def test_a_pace_that_makes_no_sense_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pace(**wrong)


@pytest.mark.parametrize("wrong", ["5", None, True])
def test_a_pace_is_made_of_numbers(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"Pace\(longest_idle=\.\.\.\) takes a number of seconds, not"):
        Pace(longest_idle=wrong)


@pytest.mark.parametrize(("name", "wrong"), [("pace", 0.1), ("retries", 3)])
@pytest.mark.parametrize("worker", [Worker, AsyncWorker])
def test_what_is_no_pace_and_no_policy_is_refused_before_anything_is_done(worker: Any, name: str, wrong: Any) -> None:
    url = "postgresql+psycopg://nobody@nowhere/"
    sessions: Any = create_engine(url) if worker is Worker else async_sessionmaker(create_async_engine(url))
    with pytest.raises(TypeError, match=f"takes {name}="):
        worker(sessions, Base, **{name: wrong})


def test_a_retry_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="attempts must be 1 or more"):
        RetryPolicy(attempts=0)
    assert [RetryPolicy().pause(attempt).total_seconds() for attempt in (1, 2, 3, 4)] == [0.2, 0.8, 3.2, 12.8]


def test_branches_are_counted_by_every_shard(postgres_bank: Engine) -> None:
    for number in range(30):
        deposit(postgres_bank, f"a-{number}", number, branch="x" if number % 2 else "y")
    Worker(postgres_bank, Base).run_once()
    with Session(postgres_bank) as session:
        rows = {row.branch: (row.number, row.total) for row in session.query(BranchTotal)}
    assert rows == {"x": (15, sum(range(1, 30, 2))), "y": (15, sum(range(0, 30, 2)))}


def test_a_worker_that_listens_is_woken_by_an_announcement(postgres_bank: Engine) -> None:
    """It asks once in a thousand seconds; what wakes it is the announcer."""
    seldom = Pace(listening=1000, every_follower=1000)
    with Announcer(postgres_bank), Worker(postgres_bank, Base, only=["balance"], pace=seldom, listen=True):
        deposit(postgres_bank, "a", 1)
        wait_until(lambda: totals(postgres_bank, Balance) == {"a": 1})
        time.sleep(1)
        for amount in (2, 3, 4):
            deposit(postgres_bank, "a", amount)
        wait_until(lambda: totals(postgres_bank, Balance) == {"a": 10})


def test_a_listener_that_is_cut_off_asks_until_it_hears_again(postgres_bank: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with Worker(postgres_bank, Base, only=["balance"], listen=True), Announcer(postgres_bank):
        deposit(postgres_bank, "a", 1)
        wait_until(lambda: totals(postgres_bank, Balance) == {"a": 1})
        cut = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        with postgres_bank.execution_options(isolation_level="AUTOCOMMIT").connect() as killer:
            wait_until(lambda: killer.scalar(cut))
        wait_until(lambda: "announcements cannot be heard" in caplog.text)
        deposit(postgres_bank, "a", 2)
        wait_until(lambda: totals(postgres_bank, Balance) == {"a": 3})


@pytest.mark.parametrize("wrong", ["postgresql://host/name", None, 5])
def test_an_announcer_takes_an_engine(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"Announcer\(\) takes an engine, such as create_engine\(url\), not "):
        Announcer(wrong)


async def test_an_announcer_takes_no_asynchronous_engine(async_engine: AsyncEngine) -> None:
    with pytest.raises(TypeError, match=r"of an AsyncEngine, pass create_engine\(url\)"):
        Announcer(async_engine)  # type: ignore[arg-type]


def test_only_postgresql_announces(sqlite_engine: Engine) -> None:
    with pytest.raises(ValueError, match="PostgreSQL's NOTIFY; sqlite has no equivalent"):
        Announcer(sqlite_engine)


def test_only_psycopg_can_listen(sqlite_engine: Engine) -> None:
    Base.metadata.create_all(sqlite_engine)
    with pytest.raises(ValueError, match=r"through psycopg only, not through sqlite\+pysqlite"):
        Worker(sqlite_engine, Base, listen=True).run()
