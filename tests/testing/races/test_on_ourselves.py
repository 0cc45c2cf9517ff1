"""The library's own promises to those who come at once, in all orders: conflicts, locks, the inbox, commands, workers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sa_eventsource import (
    Commands,
    ConcurrencyError,
    EventReplayer,
    EventSourcedRepository,
    EventStore,
    ExpectedVersion,
    ReadModelManager,
    Worker,
    fold,
    schedule,
)
from sa_eventsource.read_models import definition_of
from sa_eventsource.testing.races import ActorOutcome, races
from tests.bank import Deposited
from tests.testing.races.bank import Account, Base, Deposit, EventualTotals, FreeName, Standing, Totals, inbox, two_of_one_owner


def account(session: Session) -> str:
    opened = Account()
    opened.open(opened.id)
    session.add(opened)
    return opened.id


def deposit(session: Session, account_id: str) -> None:
    session.get_one(Account, account_id).deposit(10)
    session.commit()


def deposit_to(place: int) -> Callable[[Session, Any], None]:
    def deposit_to_one_of_them(session: Session, accounts: tuple[str, str]) -> None:
        session.get_one(Account, accounts[place]).deposit(10)
        session.commit()

    return deposit_to_one_of_them


def rows_are_the_fold(session: Session, model: Any, owner: str) -> None:
    """Compare a model's row with what its declaration means."""
    events = [each for each in EventStore(session, Base).events.all() if getattr(each.event, "owner", None) == owner]
    expected = fold(model, events)
    stored = {
        each.owner: {"deposits": each.deposits, "total": each.total}
        for each in session.scalars(select(model))
        if each.owner == owner
    }
    assert {key: {name: row[name] for name in ("deposits", "total")} for key, row in expected.items()} == stored


def test_one_of_two_that_change_an_aggregate_gets_a_conflict_that_tells_why(postgres_engine: Engine) -> None:
    def versions_have_no_gap(session: Session, account_id: str, outcomes: tuple[ActorOutcome, ...]) -> None:
        events = EventStore(session, Base).events.of(Account, account_id).all()
        assert [each.version for each in events] == list(range(1, len(events) + 1))
        assert len(events) == 1 + sum(each.succeeded for each in outcomes)
        for outcome in outcomes:
            if outcome.error is not None:
                assert isinstance(outcome.error, ConcurrencyError)
                assert (outcome.error.expected_version, outcome.error.actual_version) == (1, 2)

    report = races(account, [deposit, deposit], invariant=versions_have_no_gap, sessions=postgres_engine)
    assert report.is_exhaustive
    assert report.conflicts > 0
    assert report.deadlocks == 0


def test_writers_of_several_aggregates_do_not_deadlock(postgres_engine: Engine) -> None:
    """The streams of a flush are appended in one order, whatever the order in which they were changed."""

    def deposit_to_both(first: int) -> Callable[[Session, Any], None]:
        def deposit_to_each(session: Session, accounts: tuple[str, str]) -> None:
            loaded = [session.get_one(Account, each) for each in (accounts[first], accounts[1 - first])]
            for each in loaded:
                each.deposit(10)
            session.commit()

        return deposit_to_each

    def all_or_nothing(session: Session, accounts: tuple[str, str], outcomes: tuple[ActorOutcome, ...]) -> None:
        succeeded = sum(each.succeeded for each in outcomes)
        assert [session.get_one(Account, each).balance for each in accounts] == [10 * succeeded] * 2
        rows_are_the_fold(session, Totals, accounts[0])

    report = races(
        two_of_one_owner,
        [deposit_to_both(0), deposit_to_both(1)],
        invariant=all_or_nothing,
        sessions=postgres_engine,
        deadlocks_are_legal=False,
    )
    assert report.is_exhaustive


def test_a_row_of_a_strong_model_loses_nothing_to_its_writers(postgres_engine: Engine) -> None:
    """Two aggregates feed one row, which the first of them makes: as a declared row, and with ``load_for_update``."""

    def nothing_is_lost(session: Session, accounts: tuple[str, str], outcomes: tuple[ActorOutcome, ...]) -> None:
        assert all(each.succeeded for each in outcomes)
        rows_are_the_fold(session, Totals, accounts[0])
        assert session.get_one(Standing, accounts[0]).deposits == 2

    races(
        two_of_one_owner,
        [deposit_to(0), deposit_to(1)],
        invariant=nothing_is_lost,
        sessions=postgres_engine,
        deadlocks_are_legal=False,
        schedules=60,
    )


def test_a_message_is_handled_once(postgres_engine: Engine) -> None:
    def handle(session: Session, message: str) -> None:
        if inbox(session, message):
            session.add(FreeName(name=message))
        session.commit()

    def handle_and_fail(session: Session, message: str) -> None:
        if inbox(session, message):
            session.flush()
            session.rollback()

    def handled_once(session: Session, message: str) -> None:
        assert session.scalar(select(func.count()).where(FreeName.name == message)) == 1

    def message(_: Session) -> str:
        return uuid4().hex

    assert races(message, [handle, handle], invariant=handled_once, sessions=postgres_engine).is_exhaustive
    assert races(message, [handle, handle_and_fail], invariant=handled_once, sessions=postgres_engine).is_exhaustive


def test_a_command_is_done_once_by_its_id(postgres_engine: Engine) -> None:
    def account_and_id(session: Session) -> tuple[str, UUID]:
        return account(session), uuid4()

    def handle(_: Session, given: tuple[str, UUID]) -> int:
        account_id, command_id = given
        return Commands(postgres_engine, Base).handle(Deposit(account_id=account_id, amount=10), command_id=command_id).result

    def done_once(session: Session, given: tuple[str, UUID], outcomes: tuple[ActorOutcome, ...]) -> None:
        assert session.get_one(Account, given[0]).balance == 10
        assert [each.value for each in outcomes] == [10, 10]

    report = races(
        account_and_id, [handle, handle], invariant=done_once, sessions=postgres_engine, conflicts_are_legal=False, schedules=60
    )
    assert report.conflicts == 0


def test_scheduled_commands_are_done_once_by_workers_that_come_at_once(postgres_engine: Engine) -> None:
    def two_scheduled(session: Session) -> str:
        account_id = account(session)
        session.flush()
        for _ in range(2):
            schedule(session, Deposit(account_id=account_id, amount=10), after=timedelta(0), base=Base)
        return account_id

    def work(_: Session, __: str) -> None:
        Worker(postgres_engine, Base, only=["commands"]).run_once()

    def done_once(session: Session, account_id: str) -> None:
        Worker(postgres_engine, Base, only=["commands"]).run_once()  # what one of them found taken, it has left to the next run
        assert session.get_one(Account, account_id).balance == 20

    races(two_scheduled, [work, work], invariant=done_once, sessions=postgres_engine, schedules=30)


def test_a_command_that_is_replaced_while_it_is_done_is_done_before_or_not_at_all(postgres_engine: Engine) -> None:
    def one_scheduled(session: Session) -> str:
        account_id = account(session)
        session.flush()
        schedule(session, Deposit(account_id=account_id, amount=1), key=account_id, base=Base)
        return account_id

    def work(_: Session, __: str) -> None:
        Worker(postgres_engine, Base, only=["commands"]).run_once()

    def replace(session: Session, account_id: str) -> None:
        schedule(session, Deposit(account_id=account_id, amount=10), key=account_id, base=Base)
        session.commit()

    def one_or_both(session: Session, account_id: str) -> None:
        Worker(postgres_engine, Base, only=["commands"]).run_once()
        assert session.get_one(Account, account_id).balance in (10, 11)

    races(one_scheduled, [work, replace], invariant=one_or_both, sessions=postgres_engine, schedules=40)


@pytest.mark.parametrize("other", ["another that catches up", "a rebuild"])
def test_an_eventual_model_takes_each_event_once(postgres_engine: Engine, other: str) -> None:
    """A writer, one that catches up, and another one that does or that rebuilds the rows."""

    def catch_up(_: Session, __: str) -> None:
        ReadModelManager(postgres_engine, Base).catch_up(EventualTotals)

    def rebuild(_: Session, __: str) -> None:
        EventReplayer(postgres_engine, Base).rebuild(EventualTotals)

    def each_once(session: Session, account_id: str) -> None:
        ReadModelManager(postgres_engine, Base).catch_up(EventualTotals)
        rows_are_the_fold(session, EventualTotals, account_id)

    assert not definition_of(EventualTotals).is_strong
    follower = rebuild if other == "a rebuild" else catch_up
    races(account, [deposit, catch_up, follower], invariant=each_once, sessions=postgres_engine, schedules=40)


def test_appending_without_loading_waits_for_nobody_and_loses_nothing(postgres_engine: Engine) -> None:
    def append(session: Session, account_id: str) -> int:
        accounts = EventSourcedRepository(session, Account)
        version = accounts.append(account_id, [Deposited(owner=account_id, amount=1)], expected_version=ExpectedVersion.ANY)
        session.commit()
        return version

    def versions_differ(session: Session, account_id: str, outcomes: tuple[ActorOutcome, ...]) -> None:
        assert sorted(each.value for each in outcomes) == [2, 3]
        assert session.get_one(Account, account_id).balance == 2

    report = races(account, [append, append], invariant=versions_differ, sessions=postgres_engine, conflicts_are_legal=False)
    assert report.is_exhaustive
