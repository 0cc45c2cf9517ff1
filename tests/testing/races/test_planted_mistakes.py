"""Six mistakes that tests without concurrency do not show: each is found, as the shortest schedule that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sa_eventsource import RaceFoundError
from sa_eventsource.testing.races import ActorOutcome, races
from tests.testing.races.bank import Account, Doctor, FreeName, Owners, Row


def row(session: Session) -> int:
    account = Row()
    session.add(account)
    session.flush()
    return account.id


def balance_adds_up(session: Session, account_id: int, outcomes: tuple[ActorOutcome, ...]) -> None:
    assert session.get_one(Row, account_id).balance == 100 + 10 * sum(each.succeeded for each in outcomes)


def read_outside_the_lock(session: Session, account_id: int) -> None:
    balance = session.scalars(select(Row.balance).where(Row.id == account_id)).one()
    account = session.get_one(Row, account_id, with_for_update=True)
    account.balance = balance + 10
    session.commit()


def check_before_the_insert(session: Session, name: str) -> None:
    if session.scalar(select(func.count()).where(FreeName.name == name)) == 0:
        session.add(FreeName(name=name))
    session.commit()


def one_has_the_name(session: Session, name: str) -> bool:
    return session.scalar(select(func.count()).where(FreeName.name == name)) == 1


def update_through_a_detached_value(session: Session, account_id: int) -> None:
    with Session(session.get_bind(), expire_on_commit=False) as form:
        shown = form.get_one(Row, account_id)
        form.commit()
    shown.balance += 10  # what a form gave back
    session.merge(shown)
    session.commit()


def register_if_the_name_is_free(session: Session, name: str) -> None:
    if session.scalar(select(func.count()).where(Owners.owner == name)) == 0:
        session.add(Account().open(name))
    session.commit()


def one_account_has_the_name(session: Session, name: str) -> None:
    assert len(session.scalars(select(Owners).where(Owners.owner == name)).all()) == 1


def count_at_read_committed(session: Session, account_id: int) -> None:
    session.get_one(Row, account_id).balance += 10
    session.commit()


def shift(session: Session) -> str:
    name = uuid4().hex
    session.add_all([Doctor(shift=name), Doctor(shift=name)])
    return name


def leave(place: int) -> Callable[[Session, str], None]:
    def leave_the_shift(session: Session, shift: str) -> None:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        doctors = session.scalars(select(Doctor).where(Doctor.shift == shift).order_by(Doctor.id)).all()
        if sum(each.on_call for each in doctors) > 1:
            doctors[place].on_call = False
        session.commit()

    return leave_the_shift


def someone_is_on_call(session: Session, shift: str) -> None:
    assert session.scalars(select(Doctor).where(Doctor.shift == shift, Doctor.on_call)).all()


def a_name(_: Session) -> str:
    return uuid4().hex


@dataclass(frozen=True)
class Mistake:
    setup: Callable[[Session], Any]
    actors: list[Callable[[Session, Any], Any]]
    invariant: Callable[..., Any]
    schedule: str


MISTAKES = {
    "read outside the lock": Mistake(row, [read_outside_the_lock] * 2, balance_adds_up, "ABBBBAA"),
    "check before the insert": Mistake(a_name, [check_before_the_insert] * 2, one_has_the_name, "AABBBA"),
    "update through a detached value": Mistake(row, [update_through_a_detached_value] * 2, balance_adds_up, "ABBBBBAAA"),
    "uniqueness by a query": Mistake(a_name, [register_if_the_name_is_free] * 2, one_account_has_the_name, "AAABBBBA"),
    "counter at READ COMMITTED": Mistake(row, [count_at_read_committed] * 2, balance_adds_up, "ABBBAA"),
    "write skew at REPEATABLE READ": Mistake(shift, [leave(0), leave(1)], someone_is_on_call, "AABBBA"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_planted_mistake_is_found_and_shortened(postgres_engine: Engine, mistake: Mistake) -> None:
    begun = time.monotonic()
    with pytest.raises(RaceFoundError, match="the invariant is broken") as caught:
        races(mistake.setup, mistake.actors, invariant=mistake.invariant, sessions=postgres_engine)
    error = caught.value
    assert time.monotonic() - begun < 60
    assert error.is_repeatable
    assert error.schedule == mistake.schedule

    with pytest.raises(RaceFoundError) as again:
        races(mistake.setup, mistake.actors, invariant=mistake.invariant, sessions=postgres_engine, schedule=error.schedule)
    assert again.value.schedule == error.schedule
