"""An append does the same with proofs as without: the tree grows behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from tests.bank import AnyAccount, Deposited
from tests.integrity.proven_log import ProvenAccount, grow, sizes


class PlainBase(DeclarativeBase):
    """Has no proofs, and the same table of events."""


class PlainAccount(AnyAccount, PlainBase):
    __aggregate_type__ = "integrity.PlainAccount"


A = TypeVar("A", ProvenAccount, PlainAccount)


def commit_some(engine: Engine, account_class: type[A]) -> None:
    """Commit new accounts, and changed ones, with one event and with several."""
    for events in (1, 3):
        with Session(engine) as session:
            account = account_class(id=f"a-{events}")
            for amount in range(events):
                account.apply_event(Deposited(amount=amount))
            session.add(account)
            session.commit()
        with Session(engine) as session:
            session.get_one(account_class, f"a-{events}").apply_event(Deposited(amount=1))
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
