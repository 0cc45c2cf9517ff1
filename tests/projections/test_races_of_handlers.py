"""A subscription whose function changes aggregates may lose a race, or leave what cannot be flushed: that is its own affair."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import ReadModelManager, RecordedEvent, RetryPolicy, Worker, subscribe
from tests.bank import AnyAccount, Deposited
from tests.committing import commit_events
from tests.shop import AnyTill, Sold
from tests.waiting import wait_until


class Base(DeclarativeBase):
    pass


class Till(AnyTill, Base):
    __aggregate_type__ = "races.Till"


class Account(AnyAccount, Base):
    __aggregate_type__ = "races.Account"


others: list[Any] = []
"""What others do between the reading and the writing."""


@subscribe("races.banking", Sold, base=Base)
def bank(sold: RecordedEvent[Sold], session: Session) -> None:
    account = session.get_one(Account, "a")
    if others:
        others.pop()()
    account.deposit()  # flushed with the batch


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    others.clear()


def balance(engine: Engine) -> int:
    with Session(engine) as session:
        return session.get_one(Account, "a").balance


def test_a_lost_race_is_run_again_and_ends_no_worker(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    commit_events(postgres_engine, Account, "a", Deposited(amount=1))
    others.extend([partial(commit_events, postgres_engine, Account, "a", Deposited(amount=1))] * 2)
    commit_events(postgres_engine, Till, "1", Sold())
    commit_events(postgres_engine, Till, "2", Sold())
    with Worker(postgres_engine, Base, retries=RetryPolicy(first_pause=0.01)) as worker:
        wait_until(lambda: balance(postgres_engine) == 5)
        assert worker.error is None
    assert ReadModelManager(postgres_engine, Base).problems() == []


def test_what_cannot_be_flushed_stops_the_subscription_alone(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    commit_events(engine, Account, "a", Deposited(amount=1))
    commit_events(engine, Till, "1", Sold())

    def refuse(session: Session, *_: Any) -> None:
        if any(isinstance(each, Account) for each in session.dirty):
            raise ValueError("not on a Sunday")

    event.listen(Session, "before_flush", refuse)
    try:
        Worker(engine, Base, retries=RetryPolicy(attempts=1)).run_once()
    finally:
        event.remove(Session, "before_flush", refuse)
    (problem,) = ReadModelManager(engine, Base).problems()
    assert problem.startswith("races.banking is stopped: ")
    assert "not on a Sunday" in problem
