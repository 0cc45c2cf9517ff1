"""Declared fields beside handlers: a handler finds the fields as its event left them, however many events come together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, validates

from sa_eventsource import (
    DomainEvent,
    EventReplayer,
    EventSourcedRepository,
    ExpectedVersion,
    ReadModel,
    ReadModelManager,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.read_models import sum_
from tests.bank import AnyAccount, Deposited


class Base(DeclarativeBase):
    """The application's declarative base."""


class Reviewed(DomainEvent):
    """Somebody looked at the balance."""

    __event_type__ = "beside_handlers.Reviewed"


class Account(AnyAccount, Base):
    """An account, kept as events."""

    __ignored_events__ = (Reviewed,)


class _Balance:
    id: Mapped[str] = map_from_event(Deposited, key=True, source="aggregate_id")
    total: Mapped[int] = map_from_event(Deposited, reduce=sum_("amount"))
    reviews: Mapped[str] = mapped_column(server_default="")

    @classmethod
    @handles(Reviewed)
    def reviewed(cls, recorded: Any, session: Session) -> None:
        row: Any = load_for_update(session, cls, recorded.aggregate_id)
        row.reviews += str(row.total)

    @validates("reviews")
    def _separated(self, _name: str, reviews: str) -> str:
        return f"{reviews} "


class StrongBalance(_Balance, ReadModel, Base):
    """The balance in the transaction that writes the events."""

    __tablename__ = "strong_balances"
    __consistency__ = "strong"


class Balance(_Balance, ReadModel, Base):
    """The balance, eventually."""

    __tablename__ = "balances"


@pytest.fixture
def accounts(engine: Engine) -> Engine:
    """A database with the tables."""
    Base.metadata.create_all(engine)
    return engine


def rows(engine: Engine, model: Any) -> dict[str, tuple[int, str]]:
    with Session(engine) as session:
        return {row.id: (row.total, row.reviews) for row in session.scalars(select(model))}


def test_a_handler_sees_no_later_event_of_its_flush(accounts: Engine) -> None:
    with Session(accounts) as session:
        account = Account(id="a")
        for event in (Deposited(amount=1), Reviewed(), Deposited(amount=100), Reviewed()):
            account.apply_event(event)
        session.add(account)
        session.commit()
    assert rows(accounts, StrongBalance) == {"a": (101, "1 101 ")}


def test_a_row_in_the_session_has_what_later_flushes_made_of_it(accounts: Engine) -> None:
    with Session(accounts) as session:
        account = Account(id="a")
        session.add(account)
        account.apply_event(Deposited(amount=1))
        account.apply_event(Reviewed())
        session.flush()
        row = session.get_one(StrongBalance, "a")
        account.apply_event(Deposited(amount=10))
        session.flush()
        assert row.total == 11
        account.apply_event(Reviewed())
        session.commit()
        assert row.reviews == "1 11 "


_EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.one_of(st.builds(Deposited, amount=st.integers(1, 9)), st.builds(Reviewed)), st.booleans()),
    min_size=1,
    max_size=12,
)


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
@given(history=_EVENTS)
def test_rows_do_not_depend_on_how_many_events_come_together(accounts: Engine, history: list[tuple[str, Any, bool]]) -> None:
    expected: dict[str, tuple[int, str]] = {}
    prefix = f"{len(rows(accounts, StrongBalance))}-"
    with Session(accounts) as session:
        before = rows(accounts, StrongBalance)
        repository = EventSourcedRepository(session, Account)
        opened: set[str] = set()
        for name, event, in_one in history:
            key = prefix + name
            if key not in opened:
                opened.add(key)
                account = Account(id=key)
                account.apply_event(Deposited(amount=0))
                session.add(account)
                session.flush()
                expected[key] = (0, "")
            total, reviews = expected[key]
            expected[key] = (total + event.amount, reviews) if isinstance(event, Deposited) else (total, f"{reviews}{total} ")
            if in_one:
                repository.append(key, [event], expected_version=ExpectedVersion.ANY)
            else:
                session.get_one(Account, key).apply_event(event)
                session.flush()
        session.commit()
    assert {key: row for key, row in rows(accounts, StrongBalance).items() if key not in before} == expected
    ReadModelManager(accounts, Base).catch_up(Balance)
    assert rows(accounts, Balance) == rows(accounts, StrongBalance)
    EventReplayer(accounts, Base).rebuild(Balance)
    assert rows(accounts, Balance) == rows(accounts, StrongBalance)
