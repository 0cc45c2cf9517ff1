"""An append does the same with proofs as without: the tree grows behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, applies
from tests.integrity.proven_log import MoneyPaidIn, ProvenAccount, grow, sizes


class PlainBase(DeclarativeBase):
    """Has no proofs, and the same table of events."""


class PlainAccount(AggregateRoot, PlainBase):
    __aggregate_type__ = "integrity.PlainAccount"

    balance: int = 0

    @applies(MoneyPaidIn)
    def _paid_in(self, event: MoneyPaidIn) -> None:
        self.balance += event.amount


A = TypeVar("A", ProvenAccount, PlainAccount)


def commit_some(engine: Engine, account_class: type[A]) -> None:
    """Commit new accounts, and changed ones, with one event and with several."""
    for events in (1, 3):
        with Session(engine) as session:
            account = account_class(id=f"a-{events}")
            for amount in range(events):
                account.apply_event(MoneyPaidIn(amount=amount))
            session.add(account)
            session.commit()
        with Session(engine) as session:
            session.get_one(account_class, f"a-{events}").apply_event(MoneyPaidIn(amount=1))
            session.commit()


def test_the_statements_of_an_append_are_the_same(
    engine: Engine, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    with statements(engine) as proven:
        commit_some(engine, ProvenAccount)
    with statements(engine) as plain:
        commit_some(engine, PlainAccount)
    assert proven == plain
    assert any(each.startswith("INSERT INTO events") for each in plain)
    assert grow(engine) == 12
    assert sizes(engine) == [12]
