"""Several anonymisations at once, beside writers, a worker and forgetting: they wait for each other, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    EventSourceOptions,
    EventStore,
    ReadModelManager,
    StoredField,
    anonymise,
    forget,
    verify,
)
from tests.bank import AnyAccount, Deposited
from tests.committing import commit_events
from tests.databases import WAITING_FOR_EVENTS, number_waiting
from tests.privacy.searching import places
from tests.privacy.test_anonymising import Base, Order, Renamed, finish, one_call, order
from tests.waiting import wait_until


class Bare(DeclarativeBase):
    """Without read models."""

    __eventsource__ = EventSourceOptions(anonymisations="anonymisations")


class Account(AnyAccount, Bare):
    __aggregate_type__ = "anonymising_at_once.Account"


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def database(postgres_engine: Engine) -> Engine:
    for number in range(12):
        order(postgres_engine, number=number, country="Ruritania")
    return postgres_engine


def test_two_that_rewrite_at_once_wait_for_each_other(postgres_engine: Engine) -> None:
    """Where no read model keeps them apart, both would have the log locked, and each would wait for the other to write to it."""
    database = postgres_engine
    commit_events(database, Account, "a-1", *[Deposited(amount=1, owner="Annabelle", branch="Ruritania")] * 12)
    within: set[str] = set()

    def rewriting(name: str) -> Callable[[StoredField], Any]:
        def rewrite(_found: StoredField) -> Any:
            if not within:
                within.add(name)
                wait_until(lambda: len(within) > 1 or number_waiting(database), "the other one has not come")
            within.add(name)
            return f"({name})"

        return rewrite

    def run(name: str) -> int:
        with Session(database) as session:
            deposits = EventStore(session, Bare).events.of_type(Deposited)
            done = anonymise(deposits, [_field(name)], _named(rewriting(name), name), name=name, reason="retention", at_most=50)
            session.commit()
        return done.events

    for name in ("first", "second"):
        run(name)  # which notes where the log ends
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, name) for name in ("first", "second")]
        assert [each.result() for each in runs] == [12, 12]
    assert places(database, "Annabelle") == places(database, "Ruritania") == []


def _field(name: str) -> str:
    return "owner" if name == "first" else "branch"


def _named(function: Callable[[StoredField], Any], name: str) -> Callable[[StoredField], Any]:
    function.__qualname__ = name
    return function


def test_one_that_is_begun_twice_at_once_is_begun_once(database: Engine) -> None:
    with Session(database) as writer, ThreadPoolExecutor(3) as pool:
        writer.get_one(Order, "o-1").apply_event(Renamed(customer="Bob"))
        writer.flush()  # they wait for who writes
        calls = [pool.submit(one_call, database) for _ in range(3)]
        wait_until(lambda: _waiting(database) == 3, "they do not wait")
        writer.commit()
        begun = [each.result() for each in calls]
    assert {(each.is_finished, each.events) for each in begun} == {(False, 0)}
    assert finish(database).events == 13
    assert one_call(database).is_finished


def _waiting(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(text(f"SELECT count(*) {WAITING_FOR_EVENTS}")) or 0


def test_many_at_once_beside_writers_a_worker_and_forgetting(database: Engine) -> None:
    stop = threading.Event()

    def write(start: int) -> int:
        number = start
        while not stop.is_set():
            with Session(database) as session:
                session.get_one(Order, f"o-{number % 12}").apply_event(Renamed(customer="(anonymous)"))
                session.commit()
            number += 2
        return number

    def follow() -> None:
        while not stop.is_set():
            ReadModelManager(database, Base).catch_up()

    def forget_some() -> None:
        for number in range(0, 12, 3):
            with Session(database) as session:
                forget(session, f"o-{number}", reason="asked", base=Base)
                session.commit()

    with ThreadPoolExecutor(8) as pool:
        beside: list[Future[Any]] = [pool.submit(write, 0), pool.submit(follow)]
        runs = [
            pool.submit(finish, database, name=f"{field} {number}", fields=[field], at_most=2)
            for field in ("customer", "country")
            for number in range(2)
        ]
        forgetting = pool.submit(forget_some)
        try:
            for each in runs:
                each.result()
            forgetting.result()
        finally:
            stop.set()
        for each in beside:
            each.result()
    ReadModelManager(database, Base).catch_up()
    assert places(database, "Annabelle") == places(database, "Ruritania") == []
    assert verify(database, Base).findings == ()
