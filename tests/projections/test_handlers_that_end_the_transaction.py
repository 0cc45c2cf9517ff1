"""Handlers and subscriptions that commit or roll back: refused, each event counts once, and only they stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    EventSourcedRepository,
    HandlerTransactionError,
    ReadModel,
    ReadModelError,
    ReadModelManager,
    RecordedEvent,
    RetryPolicy,
    Worker,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.consumers import subscribe
from sa_eventsource.read_models import count
from tests.bank import AnyAccount, Deposited, Withdrawn
from tests.committing import commit_events
from tests.transaction_ends import NOT_TO_BE_PREVENTED

pytestmark = pytest.mark.filterwarnings("ignore:transaction already deassociated")  # says SQLAlchemy of what handlers do here


class Base(DeclarativeBase):
    """Base of a bank."""


class Account(AnyAccount, Base):
    """Where the money lies."""

    __aggregate_type__ = "ending.Account"


class Deed:
    """What the handlers do once they have counted."""

    do: Callable[[Session], Any]


class _Counting:
    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=0)

    @classmethod
    def _count(cls, recorded: RecordedEvent[Any], session: Session) -> None:
        load_for_update(session, cls, recorded.aggregate_id).number += 1
        Deed.do(session)


class Counted(_Counting, ReadModel, Base):
    """Counts deposits behind the log."""

    __tablename__ = "ending_counted"

    @classmethod
    @handles(Deposited)
    def _deposited(cls, recorded: RecordedEvent[Deposited], session: Session) -> None:
        cls._count(recorded, session)


class CountedParking(_Counting, ReadModel, Base):
    """Likewise, and would park what it cannot take."""

    __tablename__ = "ending_counted_parking"
    __on_error__ = "park"

    @classmethod
    @handles(Deposited)
    def _deposited(cls, recorded: RecordedEvent[Deposited], session: Session) -> None:
        cls._count(recorded, session)


class CountedAtOnce(_Counting, ReadModel, Base):
    """Counts withdrawals with the events."""

    __tablename__ = "ending_counted_at_once"
    __consistency__ = "strong"

    @classmethod
    @handles(Withdrawn)
    def _withdrawn(cls, recorded: RecordedEvent[Withdrawn], session: Session) -> None:
        cls._count(recorded, session)


class Zealous(ReadModel, Base):
    """Another model, which must not suffer."""

    id: Mapped[str]
    number: Mapped[int] = map_from_event(Deposited, reduce=count())


@subscribe("ending.mailer", Deposited, base=Base)
def mail(deposited: RecordedEvent[Deposited], session: Session) -> None:
    Deed.do(session)


def keep_going(session: Session) -> None:
    with suppress(HandlerTransactionError):
        session.commit()


def in_a_savepoint(session: Session) -> None:
    session.begin_nested()
    session.commit()


ENDS: dict[str, Callable[[Session], Any]] = {
    "commit": Session.commit,
    "rollback": Session.rollback,
    "close": Session.close,
    "commit within a savepoint": in_a_savepoint,
    "commit of the connection": lambda session: session.connection().commit(),
    "rollback of the connection": lambda session: session.connection().rollback(),
    "COMMIT": lambda session: session.execute(text(" commit;")),
    "ROLLBACK": lambda session: session.execute(text("ROLLBACK")),
    "COMMIT behind a comment": lambda session: session.execute(text("/* app */ -- of ours\n ; COMMIT")),
}


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def bank(engine: Engine) -> Iterator[Engine]:
    Deed.do = lambda _session: None
    for each in ("a", "b", "c"):
        commit_events(engine, Account, each, Deposited(amount=1))
    yield engine


def numbers(engine: Engine, model: type[Any]) -> dict[str, int]:
    with Session(engine) as session:
        return {row.id: row.number for row in session.scalars(select(model))}


ONCE_EACH = {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("how", ENDS)
def test_the_catch_up_refuses_it_and_counts_each_event_once(bank: Engine, how: str) -> None:
    Deed.do = ENDS[how]
    manager = ReadModelManager(bank, Base)
    for _ in range(2):
        with pytest.raises(ReadModelError, match=r"(?i)commit") as caught:
            manager.catch_up(Counted)
        assert isinstance(caught.value.__cause__, HandlerTransactionError)
    assert numbers(bank, Counted) == {}
    Deed.do = lambda _session: None  # the corrected release
    manager.catch_up(Counted)
    assert numbers(bank, Counted) == ONCE_EACH


@pytest.mark.parametrize("how", ["commit", "rollback of the connection"])
def test_the_worker_goes_on_with_the_others(bank: Engine, how: str) -> None:
    Deed.do = ENDS[how]
    with Worker(bank, Base, retries=RetryPolicy(attempts=2, first_pause=0)) as worker:
        for _ in range(3):
            worker.run_once()
    assert numbers(bank, Zealous) == ONCE_EACH
    assert numbers(bank, Counted) == {}
    stopped = {each.name for each in ReadModelManager(bank, Base).status() if each.state == "stopped"}
    assert {"Counted", "CountedParking", "ending.mailer"} <= stopped  # the event is not at fault: none is put aside


@pytest.mark.parametrize("how", ["commit", "rollback", "COMMIT"])
def test_a_strong_handler_that_does_fails_the_commit(bank: Engine, how: str) -> None:
    Deed.do = ENDS[how]
    with pytest.raises(ReadModelError):
        commit_events(bank, Account, "d", Withdrawn(amount=1))
    assert numbers(bank, CountedAtOnce) == {}
    with Session(bank) as session:
        assert session.get(Account, "d") is None


def release_the_savepoint(session: Session) -> None:
    if (savepoint := session.get_nested_transaction()) is not None:
        savepoint.commit()


def undo_the_savepoint(session: Session) -> None:
    if (savepoint := session.get_nested_transaction()) is not None:
        savepoint.rollback()


@pytest.mark.parametrize(
    "how",
    [*(ENDS[each] for each in ("commit", "rollback", "commit within a savepoint")), release_the_savepoint, undo_the_savepoint],
)
def test_a_strong_handler_cannot_end_the_savepoint_of_an_append(bank: Engine, how: Callable[[Session], Any]) -> None:
    Deed.do = how
    with Session(bank) as session:
        with pytest.raises(ReadModelError) as caught:
            EventSourcedRepository(session, Account).append("d", [Withdrawn(amount=1)], expected_version=0)
        assert isinstance(caught.value.__cause__, HandlerTransactionError)
        session.expunge_all()  # what the handler has added since, in a transaction that it has begun
        session.commit()
        assert session.get(Account, "d") is None
    assert numbers(bank, CountedAtOnce) == {}


@pytest.mark.parametrize("how", [release_the_savepoint, undo_the_savepoint])
def test_a_strong_handler_cannot_end_the_savepoint_of_a_flush(bank: Engine, how: Callable[[Session], Any]) -> None:
    Deed.do = how
    with Session(bank) as session:
        session.begin_nested()
        account = Account(id="d")
        account.apply_event(Withdrawn(amount=1))
        session.add(account)
        with pytest.raises(ReadModelError) as caught:
            session.flush()
        assert isinstance(caught.value.__cause__, HandlerTransactionError)
        session.rollback()
        assert session.get(Account, "d") is None
    assert numbers(bank, CountedAtOnce) == {}


@pytest.mark.parametrize("how", NOT_TO_BE_PREVENTED, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["Counted", "ending.mailer"])
def test_a_commit_that_cannot_be_prevented_is_found(
    bank: Engine, name: str, how: Callable[[Session], None], caplog: pytest.LogCaptureFixture
) -> None:
    Deed.do = how
    for _ in range(2):
        Worker(bank, Base, only=[name], retries=RetryPolicy(attempts=2, first_pause=0)).run_once()
    (status,) = [each for each in ReadModelManager(bank, Base).status() if each.name == name]
    assert (status.state, status.lag_events) == ("stopped", 3)
    assert "ended the transaction" in caplog.text


def test_a_handler_that_takes_no_for_an_answer_counts_once(bank: Engine) -> None:
    Deed.do = keep_going
    ReadModelManager(bank, Base).catch_up(Counted)
    assert numbers(bank, Counted) == ONCE_EACH


def test_a_handler_has_savepoints_and_sessions_of_its_own(bank: Engine) -> None:
    def try_something(session: Session) -> None:
        with suppress(ValueError), session.begin_nested():
            session.execute(text("UPDATE ending_counted SET number = 100"))
            raise ValueError
        with session.begin_nested():
            session.execute(text("UPDATE ending_counted SET number = number"))
        if bank.dialect.name == "postgresql":
            with Session(bank) as other:
                other.execute(text("CREATE TABLE IF NOT EXISTS ending_notes (number INTEGER)"))
                other.commit()

    Deed.do = try_something
    ReadModelManager(bank, Base).catch_up(Counted)
    assert numbers(bank, Counted) == ONCE_EACH
