"""Strong models in the session that writes the events: handlers that use it, savepoints, memory."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    DomainEvent,
    EventStore,
    ReadModel,
    RecordedEvent,
    applies,
    handles,
    load_for_update,
    map_from_event,
)
from tests.bank import AnyAccount, Deposited, Opened, Withdrawn


class Base(DeclarativeBase):
    """The application's declarative base."""


class Thanked(DomainEvent):
    """The owner was thanked, by what follows from the payment."""

    __event_type__ = "strong.Thanked"


class Account(AnyAccount, Base):
    """An account, whose owner is thanked."""

    thanks: int = 0

    @classmethod
    def open(cls, account_id: str, *amounts: int) -> Account:
        """Open an account and put money in."""
        account = cls(id=account_id)
        account.apply_event(Opened(owner="ann"))
        for amount in amounts:
            account.deposit(amount)
        return account

    @applies(Thanked)
    def _thanked(self, event: Thanked) -> None:
        self.thanks += 1


class LastDeposit(ReadModel, Base):
    """A row an account, by declaration."""

    __consistency__ = "strong"
    id: Mapped[str] = map_from_event(Opened, key=True, source="aggregate_id")
    last: Mapped[int | None] = map_from_event(Deposited, source="amount")


class Receipt(ReadModel, Base):
    """A row an account, by a handler that asks the session for the aggregate and applies events to it."""

    __tablename__ = "receipts"
    __consistency__ = "strong"
    id: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Deposited)
    def _deposited(cls, recorded: RecordedEvent[Deposited], session: Session) -> None:
        load_for_update(session, cls, recorded.aggregate_id).count += 1
        match recorded.event.amount:
            case 1:
                session.get_one(Account, recorded.aggregate_id).apply_event(Thanked())
            case 2:
                session.scalars(select(Account).where(Account.id == recorded.aggregate_id)).one().apply_event(Thanked())
            case 3:
                session.add(Account.open(f"{recorded.aggregate_id}-tips", 5))


class Remark(Base):
    """An ordinary row."""

    __tablename__ = "strong_remarks"
    text: Mapped[str] = mapped_column(primary_key=True)
    length: Mapped[int] = mapped_column(default=0)


class OwnError(Exception):
    """The application's own."""


class Voucher(ReadModel, Base):
    """A row an account, by a handler that tries something in a savepoint, and fails in it where the amount is odd."""

    __tablename__ = "vouchers"
    __consistency__ = "strong"
    id: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Withdrawn)
    def _withdrawn(cls, recorded: RecordedEvent[Withdrawn], session: Session) -> None:
        row = load_for_update(session, cls, recorded.aggregate_id)
        row.count += 1
        session.add(Remark(text="before"))
        session.add(Account.open("added-before"))
        account, other = session.get_one(Account, recorded.aggregate_id), session.get_one(Account, "other")
        account.apply_event(Thanked())
        other.apply_event(Thanked())
        with suppress(OwnError), session.begin_nested():
            row.count += 10
            session.add(Remark(text="within"))
            session.add(Account.open("added-within"))
            account.apply_event(Thanked())
            other.apply_event(Thanked())
            if recorded.event.amount % 2:
                raise OwnError
        other.apply_event(Thanked())


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def database(engine: Engine) -> Engine:
    """Engine on a database of each kind, with the application's tables."""
    return engine


def stored(engine: Engine) -> list[tuple[str, str]]:
    """List the stored events by stream."""
    with Session(engine) as session:
        found = EventStore(session).events.all()
    return sorted((each.aggregate_id, type(each.event).__name__) for each in found)


@pytest.mark.parametrize("listening", [False, True], ids=["alone", "beside other hooks"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "loaded"])
@pytest.mark.parametrize("amount", [1, 2])
def test_an_event_that_a_handler_applies_to_the_aggregate_being_written_is_written(
    database: Engine, amount: int, *, is_new: bool, listening: bool
) -> None:
    with Session(database) as session:
        if not is_new:
            session.add(Account.open("t-1"))
            session.commit()
        if listening:
            event.listen(session, "after_flush", lambda *_: None)
        account = Account.open("t-1") if is_new else session.get_one(Account, "t-1")
        account.apply_event(Deposited(amount=amount))
        session.add(account)
        session.commit()
        assert (account.balance, account.thanks, account.version) == (amount, 1, 3)
        assert session.get_one(Receipt, "t-1").count == 1
    assert stored(database) == [("t-1", "Deposited"), ("t-1", "Opened"), ("t-1", "Thanked")]


@pytest.mark.parametrize("listening", [False, True], ids=["alone", "beside other hooks"])
def test_an_aggregate_that_a_handler_adds_is_written_with_what_follows_from_it(database: Engine, *, listening: bool) -> None:
    with Session(database) as session:
        if listening:
            event.listen(session, "before_flush", lambda *_: None)
        session.add(Account.open("t-1", 3))
        session.flush()
        assert not session.new
        session.commit()
        assert [(each.id, each.count) for each in session.scalars(select(Receipt).order_by(Receipt.id))] == [
            ("t-1", 1),
            ("t-1-tips", 1),
        ]
        assert [each.id for each in session.scalars(select(LastDeposit).order_by(LastDeposit.id))] == ["t-1", "t-1-tips"]
    assert stored(database) == [("t-1", "Deposited"), ("t-1", "Opened"), ("t-1-tips", "Deposited"), ("t-1-tips", "Opened")]


@pytest.mark.parametrize("how", ["get", "select"])
def test_a_row_of_a_savepoint_is_read_again_after_its_rollback(database: Engine, how: str) -> None:
    def row(session: Session) -> Any:
        if how == "get":
            return session.get(LastDeposit, "t-1")
        return session.scalars(select(LastDeposit).where(LastDeposit.id == "t-1")).one_or_none()

    with Session(database) as session:
        savepoint = session.begin_nested()
        session.add(Account.open("t-1", 7))
        session.flush()
        assert row(session).last == 7
        savepoint.rollback()
        assert row(session) is None
        session.add(Account.open("t-1", 8))
        session.commit()
        held = row(session)
        outer = session.begin_nested()
        with session.begin_nested():
            session.get_one(Account, "t-1").apply_event(Deposited(amount=9))
        assert held.last == 9
        outer.rollback()
        assert held.last == 8


@pytest.mark.parametrize("listening", [False, True], ids=["alone", "beside other hooks"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "loaded"])
@pytest.mark.parametrize("fails", [True, False], ids=["undone", "kept"])
def test_a_savepoint_of_a_handler_undoes_what_comes_after_it_and_no_more(
    database: Engine, *, fails: bool, is_new: bool, listening: bool
) -> None:
    with Session(database) as session:
        session.add_all([Account.open("other"), Remark(text="changed"), Remark(text="deleted")])
        session.commit()
        if not is_new:
            session.add(Account.open("t-1"))
            session.commit()
        if listening:
            event.listen(session, "after_flush", lambda *_: None)
        changed, deleted = session.get_one(Remark, "changed"), session.get_one(Remark, "deleted")
        account = Account.open("t-1") if is_new else session.get_one(Account, "t-1")
        account.apply_event(Withdrawn(amount=1 if fails else 2))
        session.add_all([account, Remark(text="of the application")])
        changed.length = 7
        session.delete(deleted)
        session.commit()
        other, within = session.get_one(Account, "other"), not fails
        assert (account.thanks, account.version, other.thanks, other.version) == (1 + within, 3 + within, 2 + within, 3 + within)
        assert session.get_one(Voucher, "t-1").count == 1 + 10 * within
        remarks = {each.text: each.length for each in session.scalars(select(Remark))}
        assert remarks == {"of the application": 0, "changed": 7, "before": 0, **({"within": 0} if within else {})}
    assert {aggregate_id for aggregate_id, _ in stored(database)} == {
        "other",
        "t-1",
        "added-before",
        *(["added-within"] if within else []),
    }
    assert [name for aggregate_id, name in stored(database) if aggregate_id == "other"] == ["Opened"] + ["Thanked"] * (2 + within)


@pytest.mark.parametrize("listening", [False, True], ids=["alone", "beside other hooks"])
def test_an_event_that_a_handler_applies_before_it_fails_goes_with_the_savepoint(database: Engine, *, listening: bool) -> None:
    def fail(*_: object) -> None:
        raise OwnError

    with Session(database) as session:
        session.add(Account.open("other"))
        session.commit()
        if listening:
            event.listen(session, "after_flush", lambda *_: None)
        other = session.get_one(Account, "other")
        event.listen(Remark, "before_insert", fail)
        try:
            with pytest.raises(OwnError), session.begin_nested():
                session.add(account := Account.open("t-1"))
                account.apply_event(Withdrawn(amount=1))
        finally:
            event.remove(Remark, "before_insert", fail)
        assert (other.thanks, other.pending_events) == (0, ())
        session.commit()
    assert stored(database) == [("other", "Opened")]


def test_an_event_of_a_savepoint_that_a_hook_of_a_flush_undoes_is_not_written(database: Engine) -> None:
    with Session(database) as session:
        session.add(account := Account.open("t-1"))
        session.commit()

        @event.listens_for(session, "after_flush", once=True)
        def try_something(session: Session, _context: object) -> None:
            account.apply_event(Thanked())
            with suppress(OwnError), session.begin_nested():
                account.apply_event(Thanked())
                raise OwnError

        session.add(Remark(text="x"))
        session.commit()
        assert (account.thanks, account.version) == (1, 2)
    assert stored(database) == [("t-1", "Opened"), ("t-1", "Thanked")]


def test_a_handler_that_fails_leaves_the_session_as_a_failed_flush_does(database: Engine) -> None:
    def fail(*_: object) -> None:
        raise OwnError

    with Session(database) as session:
        account = Account.open("t-1")
        session.add(account)
        session.commit()
        account.apply_event(Deposited(amount=1))
        event.listen(Receipt, "load", fail)
        event.listen(Receipt, "before_insert", fail)
        try:
            with pytest.raises(Exception, match="OwnError"):
                session.commit()
        finally:
            event.remove(Receipt, "load", fail)
            event.remove(Receipt, "before_insert", fail)
        session.rollback()
        assert (account.version, account.balance) == (1, 0)
        account.apply_event(Deposited(amount=1))
        session.commit()
    assert stored(database) == [("t-1", "Deposited"), ("t-1", "Opened"), ("t-1", "Thanked")]


def kilobytes_after_each_round(session: Session, *, savepoints: bool) -> list[int]:
    """Write many accounts in rounds, letting go of all after each; give the memory in use after each."""
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for number in range(4):
            for index in range(50):
                with session.begin_nested() if savepoints else nullcontext():
                    session.add(Account.open(f"t-{number}-{index}"))
            session.flush()
            session.expunge_all()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0] // 1024)
    finally:
        tracemalloc.stop()
    return sizes


@pytest.mark.slow_on_sqlite
@pytest.mark.parametrize("savepoints", [False, True])
def test_a_long_transaction_does_not_keep_what_was_flushed_and_let_go(database: Engine, *, savepoints: bool) -> None:
    with Session(database) as session:
        sizes = kilobytes_after_each_round(session, savepoints=savepoints)
        assert sizes[-1] - sizes[1] < 25, sizes
        session.rollback()
