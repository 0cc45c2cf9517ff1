"""Attributes that the database computes are read again after a flush of their aggregate, as for any entity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, MetaData, event, func, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column, query_expression, with_expression

from tests.bank import AnyAccount

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable


class Base(DeclarativeBase):
    """Base of the classes of these tests."""


class Card(Base):
    """A row that is counted."""

    __tablename__ = "cards"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str]


class Account(AnyAccount, Base):
    """An aggregate whose cards are counted."""

    seen: Mapped[int | None] = query_expression()


class PlainAccount(Base):
    """The same as an entity."""

    __tablename__ = "accounts"
    id: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int] = mapped_column(default=0)
    revision: Mapped[int] = mapped_column()
    seen: Mapped[int | None] = query_expression()
    __mapper_args__ = {"version_id_col": revision}

    def deposit(self) -> None:
        """Change it."""
        self.balance = (self.balance or 0) + 1


BOTH: tuple[Any, ...] = (Account, PlainAccount)


def _count(account: Any) -> Any:
    return select(func.count(Card.id)).where(Card.account_id == account.id).correlate_except(Card).scalar_subquery()


for each in BOTH:
    each.cards = column_property(_count(each))
    each.cards_later = column_property(_count(each), deferred=True)
    each.cards_once = column_property(_count(each), expire_on_flush=False)
    each.cards_once_later = column_property(_count(each), expire_on_flush=False, deferred=True)

COMPUTED = ("cards", "cards_later", "cards_once", "cards_once_later")
HEARD_BY: dict[str, Callable[[Session], None]] = {
    "nobody": lambda _: None,
    "a hook of the session": lambda session: event.listen(session, "after_flush", lambda *_: None),
}


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def accounts(engine: Engine) -> Engine:
    """A database with the tables."""
    return engine


def course(engine: Engine, kind: Any, names: tuple[str, ...], heard_by: str) -> list[Any]:
    """Read attributes of a account after each flush and each commit in a course of them."""
    seen: list[Any] = []

    def read() -> None:
        seen.append((sorted(inspect(account).expired_attributes & set(COMPUTED)), [getattr(account, name) for name in names]))

    with Session(engine) as session:
        HEARD_BY[heard_by](session)
        account = kind(id="a")
        account.deposit()
        session.add_all([account, Card(account_id="a")])
        session.flush()
        read()
        session.add(Card(account_id="a"))
        session.flush()
        read()  # of which the account is no part
        account.deposit()
        session.add(Card(account_id="a"))
        session.flush()
        read()
        session.commit()
        read()
        savepoint = session.begin_nested()
        account.deposit()
        session.add(Card(account_id="a"))
        session.flush()
        read()
        savepoint.rollback()
        read()
        account.deposit()
        account.cards = 99  # in memory only, until the next flush
        session.flush()
        read()
        session.rollback()
    return seen


@pytest.mark.parametrize("heard_by", HEARD_BY)
@pytest.mark.parametrize("names", [(), COMPUTED, *((name,) for name in COMPUTED)], ids=lambda names: "+".join(names) or "none")
def test_what_a_flush_leaves_of_computed_attributes_is_what_it_leaves_of_an_entitys(
    accounts: Engine, names: tuple[str, ...], heard_by: str
) -> None:
    aggregates = course(accounts, Account, names, heard_by)
    with Session(accounts) as session:
        for card in session.scalars(select(Card)):
            session.delete(card)
        session.commit()
    assert aggregates == course(accounts, PlainAccount, names, heard_by)


def test_the_state_is_not_read_again_with_a_computed_attribute(accounts: Engine) -> None:
    told: list[Any] = []
    with Session(accounts) as session:
        account: Any = Account(id="a")
        account.deposit()
        session.add_all([account, Card(account_id="a")])
        event.listen(Account, "expire", listener := lambda _target, names: told.append(names))
        try:
            session.flush()
        finally:
            event.remove(Account, "expire", listener)
        assert [sorted(names) for names in told] == [["cards", "cards_once", "seen"]]
        account.deposit()
        with session.no_autoflush:
            assert (account.cards, account.version, account.balance, len(account.pending_events)) == (1, 2, 2, 1)
        session.commit()


def test_an_expression_of_a_query_is_after_a_flush_what_it_is_for_an_entity(accounts: Engine) -> None:
    seen: list[tuple[Any, ...]] = []
    for kind in BOTH:
        with Session(accounts) as session:
            account = kind(id="a")
            account.deposit()
            session.add(account)
            session.commit()
            session.expunge_all()
            account = session.scalars(select(kind).options(with_expression(kind.seen, _count(kind)))).one()
            before = account.seen
            account.deposit()
            session.flush()
            seen.append((before, account.seen))
    assert seen[0] == seen[1]
    assert seen[0][0] == 0


@pytest.mark.parametrize("kind", BOTH)
def test_a_mapper_hook_behind_the_row_finds_a_computed_attribute_as_it_is_then(accounts: Engine, kind: Any) -> None:
    found: list[int] = []
    with Session(accounts) as session:
        account = kind(id="a")
        account.deposit()
        session.add_all([account, Card(account_id="a")])
        session.commit()
        assert account.cards == 1
        session.add(Card(account_id="a"))
        session.flush()
        account.deposit()
        event.listen(kind, "after_update", listener := lambda *_: found.append(account.cards))
        try:
            session.flush()
        finally:
            event.remove(kind, "after_update", listener)
    assert found == [2]
