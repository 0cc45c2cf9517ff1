"""Fifty models that are right: none of them is called wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from sa_eventsource import EventSourcedRepository, ExpectedVersion, lock_aggregate
from sa_eventsource.session.retry import retry_on_conflict
from sa_eventsource.testing.races import ActorOutcome, races
from tests.bank import Deposited, NotEnoughMoney
from tests.testing.races.bank import (
    Account,
    Booking,
    Doctor,
    FreeName,
    Job,
    Row,
    Standing,
    Totals,
    UniqueName,
    VersionedRow,
    inbox,
    two_of_one_owner,
)

RC, RR, SERIALIZABLE = "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"


def succeeded(outcomes: Sequence[ActorOutcome]) -> int:
    return sum(each.succeeded for each in outcomes)


def row(session: Session) -> int:
    account = Row()
    session.add(account)
    session.flush()
    return account.id


def versioned_row(session: Session) -> int:
    account = VersionedRow()
    session.add(account)
    session.flush()
    return account.id


def aggregate(session: Session) -> str:
    account = Account()
    account.open(account.id)
    account.deposit(100)
    session.add(account)
    return account.id


def name(_: Session) -> str:
    return uuid4().hex


def shift(session: Session) -> str:
    called = uuid4().hex
    session.add_all([Doctor(shift=called), Doctor(shift=called)])
    return called


def queue(session: Session) -> str:
    called = uuid4().hex
    session.add_all([Job(queue=called) for _ in range(3)])
    return called


# What actors do.


def lock_the_row(session: Session, account_id: int) -> None:
    session.get_one(Row, account_id, with_for_update=True).balance += 10
    session.commit()


def read_and_write(session: Session, account_id: int) -> None:
    session.get_one(Row, account_id).balance += 10
    session.commit()


def count_versions(session: Session, account_id: int) -> None:
    session.get_one(VersionedRow, account_id).balance += 10
    session.commit()


def add_in_sql(session: Session, account_id: int) -> None:
    session.execute(update(Row).where(Row.id == account_id).values(balance=Row.balance + 10))
    session.commit()


def withdraw_in_sql(session: Session, account_id: int) -> bool:
    taken: Any = session.execute(
        text("UPDATE accounts SET balance = balance - 60 WHERE id = :id AND balance >= 60"), {"id": account_id}
    )
    session.commit()
    return bool(taken.rowcount)


def lock_the_table(session: Session, account_id: int) -> None:
    session.execute(text("LOCK TABLE accounts IN SHARE ROW EXCLUSIVE MODE"))
    session.get_one(Row, account_id).balance += 10
    session.commit()


def lock_by_number(session: Session, account_id: int) -> None:
    session.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": account_id})
    session.get_one(Row, account_id).balance += 10
    session.commit()


def book(session: Session, account_id: int) -> None:
    session.execute(update(Row).where(Row.id == account_id).values(balance=Row.balance + 10))
    session.add(Booking(account_id=account_id, amount=10))
    session.commit()


def deposit(session: Session, account_id: str) -> None:
    session.get_one(Account, account_id).deposit(10)
    session.commit()


def withdraw(session: Session, account_id: str) -> None:
    session.get_one(Account, account_id).withdraw(60)
    session.commit()


def lock_and_deposit(session: Session, account_id: str) -> None:
    lock_aggregate(session, Account, account_id)
    session.get_one(Account, account_id).deposit(10)
    session.commit()


def append_unloaded(session: Session, account_id: str) -> None:
    accounts = EventSourcedRepository(session, Account)
    accounts.append(account_id, [Deposited(owner=account_id, amount=10)], expected_version=ExpectedVersion.ANY)
    session.commit()


def deposit_and_book(session: Session, account_id: str) -> None:
    account = session.get_one(Account, account_id)
    account.deposit(10)
    session.add(FreeName(name=account_id))
    session.commit()


def retry_deposit(session: Session, account_id: str) -> None:
    bind = session.get_bind()

    @retry_on_conflict(attempts=10, initial_wait=0.001, max_wait=0.002)
    def attempt() -> None:
        with Session(bind) as fresh:
            fresh.get_one(Account, account_id).deposit(10)
            fresh.commit()

    attempt()


def deposit_to(place: int) -> Callable[[Session, Any], None]:
    def deposit_to_one_of_them(session: Session, accounts: Sequence[str]) -> None:
        session.get_one(Account, accounts[place]).deposit(10)
        session.commit()

    return deposit_to_one_of_them


def open_account(session: Session, account_id: str) -> None:
    session.add(Account(id=account_id).open(account_id))
    session.commit()


def take_the_name(session: Session, wanted: str) -> None:
    session.add(UniqueName(name=wanted))
    session.commit()


def take_the_name_if_free(session: Session, wanted: str) -> bool:
    taken: Any = session.execute(insert(UniqueName).values(name=wanted).on_conflict_do_nothing())
    session.commit()
    return bool(taken.rowcount)


def look_before_taking(session: Session, wanted: str) -> None:
    if session.scalar(select(func.count()).where(FreeName.name == wanted)) == 0:
        session.add(FreeName(name=wanted))
    session.commit()


def leave_if_another_stays(session: Session, called: str) -> None:
    doctors = session.scalars(select(Doctor).where(Doctor.shift == called).order_by(Doctor.id)).all()
    on_call = [each for each in doctors if each.on_call]
    if len(on_call) > 1:
        on_call[0].on_call = False
    session.commit()


def leave_under_lock(session: Session, called: str) -> None:
    doctors = session.scalars(select(Doctor).where(Doctor.shift == called).order_by(Doctor.id).with_for_update()).all()
    on_call = [each for each in doctors if each.on_call]
    if len(on_call) > 1:
        on_call[-1].on_call = False
    session.commit()


def take_a_job(session: Session, called: str) -> int | None:
    free = select(Job).where(Job.queue == called, Job.taken == 0).order_by(Job.id).limit(1).with_for_update(skip_locked=True)
    job = session.scalars(free).one_or_none()
    if job is not None:
        job.taken += 1
    taken = None if job is None else job.id
    session.commit()
    return taken


def handle_the_message(session: Session, message: str) -> None:
    if inbox(session, message):
        session.add(FreeName(name=message))
    session.commit()


# What must hold.


def row_adds_up(session: Session, account_id: int, outcomes: tuple[ActorOutcome, ...]) -> None:
    assert session.get_one(Row, account_id).balance == 100 + 10 * succeeded(outcomes)


def versioned_row_adds_up(session: Session, account_id: int, outcomes: tuple[ActorOutcome, ...]) -> None:
    assert session.get_one(VersionedRow, account_id).balance == 100 + 10 * succeeded(outcomes)


def booked(session: Session, account_id: int, outcomes: tuple[ActorOutcome, ...]) -> None:
    row_adds_up(session, account_id, outcomes)
    assert len(session.scalars(select(Booking).where(Booking.account_id == account_id)).all()) == succeeded(outcomes)


def not_overdrawn(session: Session, account_id: int, outcomes: tuple[ActorOutcome, ...]) -> None:
    taken = sum(bool(each.value) for each in outcomes)
    assert session.get_one(Row, account_id).balance == 100 - 60 * taken >= 0


def aggregate_adds_up(session: Session, account_id: str, outcomes: tuple[ActorOutcome, ...]) -> None:
    balance = session.get_one(Account, account_id).balance
    assert balance == 100 + 10 * succeeded(outcomes)
    total = session.execute(select(Totals.deposits, Totals.total).where(Totals.owner == account_id)).one()
    assert tuple(total) == (1 + succeeded(outcomes), balance)
    assert session.get_one(Standing, account_id).deposits == 1 + succeeded(outcomes)


def names_follow(session: Session, account_id: str, outcomes: tuple[ActorOutcome, ...]) -> None:
    aggregate_adds_up(session, account_id, outcomes)
    assert len(session.scalars(select(FreeName).where(FreeName.name == account_id)).all()) == succeeded(outcomes)


def all_deposits_came(session: Session, account_id: str, outcomes: tuple[ActorOutcome, ...]) -> None:
    assert all(each.succeeded for each in outcomes)
    aggregate_adds_up(session, account_id, outcomes)


def aggregate_not_overdrawn(session: Session, account_id: str) -> None:
    assert session.get_one(Account, account_id).balance == 40


def counted(session: Session, accounts: Sequence[str], outcomes: tuple[ActorOutcome, ...]) -> None:
    assert session.get_one(Standing, accounts[0]).deposits == succeeded(outcomes)


def opened_once(session: Session, account_id: str, outcomes: tuple[ActorOutcome, ...]) -> None:
    assert succeeded(outcomes) == 1
    assert session.get_one(Account, account_id).version == 1


def unique(session: Session, wanted: str) -> None:
    assert len(session.scalars(select(UniqueName).where(UniqueName.name == wanted)).all()) == 1


def one_free_name(session: Session, wanted: str) -> None:
    assert len(session.scalars(select(FreeName).where(FreeName.name == wanted)).all()) == 1


def someone_is_on_call(session: Session, called: str) -> None:
    assert session.scalars(select(Doctor).where(Doctor.shift == called, Doctor.on_call)).all()


def each_job_once(session: Session, called: str, outcomes: tuple[ActorOutcome, ...]) -> None:
    taken = [each.value for each in outcomes if each.value is not None]
    assert len(set(taken)) == len(taken) > 0
    assert max(session.scalars(select(Job.taken).where(Job.queue == called))) == 1


@dataclass(frozen=True)
class Model:
    setup: Callable[[Session], Any]
    actors: Sequence[Callable[[Session, Any], Any]]
    invariant: Callable[..., Any]
    levels: tuple[str, ...] = (RC, RR, SERIALIZABLE)
    expected: type[BaseException] | tuple[type[BaseException], ...] = field(default=())


MODELS = {
    "locked row": Model(row, [lock_the_row] * 2, row_adds_up),
    "read and write": Model(row, [read_and_write] * 2, row_adds_up, (RR, SERIALIZABLE)),
    "version counter": Model(versioned_row, [count_versions] * 2, versioned_row_adds_up, expected=StaleDataError),
    "SQL arithmetic": Model(row, [add_in_sql] * 2, row_adds_up),
    "SQL arithmetic, three": Model(row, [add_in_sql] * 3, row_adds_up, (RC,)),
    "guarded in SQL": Model(row, [withdraw_in_sql] * 2, not_overdrawn),
    "guarded in SQL, three": Model(row, [withdraw_in_sql] * 3, not_overdrawn, (RC,)),
    "locked table": Model(row, [lock_the_table] * 2, row_adds_up, (RC, SERIALIZABLE)),
    "advisory lock": Model(row, [lock_by_number] * 2, row_adds_up, (RC,)),
    "row and its book": Model(row, [book] * 2, booked),
    "row and its book, beside a counter": Model(row, [book, add_in_sql], row_adds_up, (RC,)),
    "aggregate": Model(aggregate, [deposit] * 2, aggregate_adds_up),
    "aggregate's rule": Model(aggregate, [withdraw] * 2, aggregate_not_overdrawn, expected=NotEnoughMoney),
    "locked aggregate": Model(aggregate, [lock_and_deposit] * 2, aggregate_adds_up),
    "appended unloaded": Model(aggregate, [append_unloaded] * 2, aggregate_adds_up, (RC, RR)),
    "loaded and appended unloaded": Model(aggregate, [deposit, append_unloaded], aggregate_adds_up, (RC,)),
    "aggregate and a plain row": Model(aggregate, [deposit_and_book] * 2, names_follow),
    "retried": Model(aggregate, [retry_deposit] * 2, all_deposits_came, (RC,)),
    "opened once": Model(name, [open_account] * 2, opened_once),
    "load_for_update": Model(two_of_one_owner, [deposit_to(0), deposit_to(1)], counted),
    "unique constraint": Model(name, [take_the_name] * 2, unique, expected=IntegrityError),
    "ON CONFLICT": Model(name, [take_the_name_if_free] * 2, unique),
    "ON CONFLICT, three": Model(name, [take_the_name_if_free] * 3, unique, (RC,)),
    "uniqueness at SERIALIZABLE": Model(name, [look_before_taking] * 2, one_free_name, (SERIALIZABLE,)),
    "write skew at SERIALIZABLE": Model(shift, [leave_if_another_stays] * 2, someone_is_on_call, (SERIALIZABLE,)),
    "shift under lock": Model(shift, [leave_under_lock] * 2, someone_is_on_call),
    "queue": Model(queue, [take_a_job] * 2, each_job_once),
    "inbox": Model(name, [handle_the_message] * 2, one_free_name, (RC, RR, SERIALIZABLE)),
}

MANY_ORDERS = {
    ("aggregate", SERIALIZABLE),
    ("aggregate and a plain row", SERIALIZABLE),
    ("load_for_update", RC),
    ("load_for_update", RR),
    ("load_for_update", SERIALIZABLE),
}

TOO_MANY_ORDERS = {("load_for_update", SERIALIZABLE)}
"""Of which those are run that the search comes to."""

CASES = [
    pytest.param(
        model,
        level,
        (called, level) not in TOO_MANY_ORDERS,
        id=f"{called}-{level}",
        marks=[pytest.mark.slow] if (called, level) in MANY_ORDERS else [],
    )
    for called, model in MODELS.items()
    for level in model.levels
]


@pytest.mark.parametrize(("model", "level", "is_exhaustive"), CASES)
def test_no_false_alarm(postgres_engine: Engine, model: Model, level: str, is_exhaustive: bool) -> None:
    report = races(
        model.setup,
        model.actors,
        invariant=model.invariant,
        sessions=postgres_engine.execution_options(isolation_level=level),
        expected=model.expected,
        schedules=1000 if is_exhaustive else 200,
    )
    assert report.is_exhaustive == is_exhaustive
    assert report.schedules > 1


def test_there_are_fifty_models() -> None:
    assert len(CASES) >= 50
