"""Several followers in one worker: they share its time, nobody is forgotten, and while nothing happens hardly anything is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import DomainEvent, ReadModelManager, RecordedEvent, Worker, subscribe
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.workers import Pace
from tests import waiting
from tests.projections import bank
from tests.projections.bank import deposit, totals
from tests.shop import AnyTill, Sold, TillClosed

wait_until = partial(waiting.wait_until, seconds=30)


class Base(DeclarativeBase):
    """Base of two subscriptions."""


class Till(AnyTill, Base):
    """What is followed."""

    __aggregate_type__ = "turns.Till"


taken: dict[str, list[str]] = {"slow": [], "single": [], "closings": []}
seconds: dict[str, float] = {"slow": 0.002, "single": 0.0}
failing: set[str] = set()


@subscribe("slow", Sold, base=Base)
def _slow(sold: RecordedEvent[Sold], session: Session) -> None:
    time.sleep(seconds["slow"])
    if sold.aggregate_id in failing:
        raise ValueError("no")
    taken["slow"].append(sold.aggregate_id)


@subscribe("single", Sold, base=Base, batch_size=1)
def _single(sold: RecordedEvent[Sold], session: Session) -> None:
    taken["single"].append(sold.aggregate_id)


@subscribe("closings", TillClosed, base=Base)
def _closings(closed: RecordedEvent[TillClosed], session: Session) -> None:
    taken["closings"].append(closed.aggregate_id)


@pytest.fixture(autouse=True)
def _from_the_beginning() -> Iterator[None]:
    seconds["slow"] = 0.002
    failing.clear()
    for each in taken.values():
        each.clear()
    yield


@pytest.fixture
def tills(postgres_engine: Engine) -> Engine:
    Base.metadata.create_all(postgres_engine)
    return postgres_engine


def happen(engine: Engine, number: int, event: type[DomainEvent] = Sold) -> None:
    """Have one event in each of so many tills, in one transaction."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at) "
                "SELECT gen_random_uuid(), 'turns.Till', :type || n, 1, :type, '{}', now() FROM generate_series(1, :number) n"
            ),
            {"type": event.__event_type__, "number": number},
        )


def work_off(polling: Any, session: Session) -> None:
    """Wake until there is nothing left to do."""
    while not polling.wake(session):
        pass


def saved(log: list[str]) -> int:
    return len([each for each in log if each.startswith("UPDATE projection_positions")])


def test_followers_share_time_and_not_batches(tills: Engine) -> None:
    """A batch of one event each is no disadvantage beside batches of a hundred."""
    happen(tills, 20_000)
    polling: Any = Worker(tills, Base, only=["slow", "single"])._pollings(lambda: len(taken["slow"]) > 300)[0]
    with Session(tills) as session:
        polling.run(session)
    spent = {name: turns.seconds for name, turns in polling._all.items()}
    assert spent["single"] > spent["slow"] / 2
    assert len(taken["single"]) > 20


def test_who_has_news_need_not_wait_for_the_end_of_anothers_backlog(tills: Engine) -> None:
    seconds["slow"] = 0.02
    with Worker(tills, Base, only=["slow", "closings"]):
        happen(tills, 2_000)
        wait_until(lambda: len(taken["slow"]) > 10)
        happen(tills, 3, TillClosed)
        wait_until(lambda: len(taken["closings"]) == 3)
        assert len(taken["slow"]) < 2_000


def test_a_batch_of_a_subscription_ends_with_its_turn(tills: Engine, statements: Any) -> None:
    """What is repeated after a crash is what was done in a tenth of a second, whatever the batch."""
    happen(tills, 40)
    seconds["slow"] = 0.02
    with statements(tills) as log:
        assert Worker(tills, Base, only=["slow"], pace=Pace(turn=0.05)).run_once() == 40
    assert saved(log) >= 40 * 0.02 / (0.05 + 0.02)
    assert taken["slow"] == [f"shop.Sold{number}" for number in range(1, 41)]


def test_a_subscription_takes_many_events_with_one_checkpoint(tills: Engine, statements: Any) -> None:
    happen(tills, 1_000)
    seconds["slow"] = 0.0
    with statements(tills) as log:
        assert Worker(tills, Base, only=["slow"], pace=Pace(turn=5)).run_once() == 1_000
    assert saved(log) < 20
    assert taken["slow"] == [f"shop.Sold{number}" for number in range(1, 1_001)]


def test_after_a_failure_no_more_than_a_batch_is_repeated(tills: Engine) -> None:
    happen(tills, 500)
    seconds["slow"] = 0.0
    failing.add("shop.Sold450")
    worker = Worker(tills, Base, only=["slow"], pace=Pace(turn=5), retries=RetryPolicy(attempts=1))
    worker.run_once()
    assert list(dict.fromkeys(taken["slow"])) == [f"shop.Sold{number}" for number in range(1, 450)]
    assert len(taken["slow"]) < 449 + 100


def test_steps_that_take_longer_than_a_turn_do_not_make_batches_of_one_event(postgres_engine: Engine, statements: Any) -> None:
    """On a slow network or a busy machine the step by itself takes that long, and single events would never catch up."""
    bank.Base.metadata.create_all(postgres_engine)
    polling = Worker(postgres_engine, bank.Base, only=["balance"], pace=Pace(turn=0.0001))._pollings(lambda: False)[0]
    with Session(postgres_engine) as session:
        deposit(postgres_engine, "a", 1)
        polling.run(session)
        deposit(postgres_engine, "a", *[1] * 200)
        with statements(postgres_engine) as log:
            polling.run(session)
    assert totals(postgres_engine, bank.Balance) == {"a": 201}
    assert saved(log) <= 4


def test_a_quiet_log_is_asked_less_and_less_and_a_busy_one_often(tills: Engine) -> None:
    polling = Worker(tills, Base, pace=Pace(shortest=0.001, longest=0.5))._pollings(lambda: False)[0]
    with Session(tills) as session:
        work_off(polling, session)
        happen(tills, 1, TillClosed)
        work_off(polling, session)
        assert taken["closings"] == ["shop.TillClosed1"]
        polling._last_news = time.monotonic()
        assert polling.wake(session) < 0.1
        polling._last_news -= 2
        assert 0.2 <= polling.wake(session) <= 0.3
        polling._last_news -= 1_000
        assert polling.wake(session) == 0.5


def test_many_idle_followers_cost_as_much_as_one(postgres_engine: Engine, statements: Any) -> None:
    bank.Base.metadata.create_all(postgres_engine)
    deposit(postgres_engine, "a", 1)
    polling = Worker(postgres_engine, bank.Base, pace=Pace(every_follower=0.0001))._pollings(lambda: False)[0]
    with Session(postgres_engine) as session:
        polling.run(session)
        work_off(polling, session)
        with statements(postgres_engine) as log:
            for _ in range(3):
                polling.wake(session)
    asked = [each for each in log if each.startswith("SELECT")]
    assert len(asked) == 6, "each time, one for new events and one for the checkpoints of all"
    assert not [each for each in log if each.startswith(("UPDATE", "INSERT"))]


def test_what_another_worker_leaves_behind_is_found(postgres_engine: Engine) -> None:
    """It has seen the news and let go without taking them, as one that is killed does."""
    bank.Base.metadata.create_all(postgres_engine)
    deposit(postgres_engine, "a", 1)
    pace = Pace(every_follower=0.05)
    with Worker(postgres_engine, bank.Base, only=["balance"], pace=pace):
        wait_until(lambda: totals(postgres_engine, bank.Balance) == {"a": 1})
        with postgres_engine.connect() as other:
            other.execute(text("SELECT * FROM projection_positions WHERE projection_name = 'balance' FOR UPDATE"))
            deposit(postgres_engine, "a", 2)
            time.sleep(0.3)
            other.rollback()
        wait_until(lambda: totals(postgres_engine, bank.Balance) == {"a": 3})
    assert ReadModelManager(postgres_engine, bank.Base).problems() == []


def test_what_was_stopped_and_is_resumed_is_found(postgres_engine: Engine) -> None:
    bank.Base.metadata.create_all(postgres_engine)
    deposit(postgres_engine, "b", -5)
    stopped = text("SELECT status FROM projection_positions WHERE projection_name = 'stopping'")
    once = RetryPolicy(attempts=1)
    try:
        with Worker(postgres_engine, bank.Base, only=["stopping"], retries=once, pace=Pace(every_follower=0.05)):
            with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                wait_until(lambda: connection.scalar(stopped) == "stopped")
                bank._Refusing.mended = True
                connection.execute(text("UPDATE projection_positions SET status = 'running'"))
            wait_until(lambda: totals(postgres_engine, bank.Stopping) == {"b": -5})
    finally:
        bank._Refusing.mended = False
