"""Readers: code that asks for the next events by itself gets each once, with its own transaction, whatever commits late."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AsyncEventStore,
    AutocommitError,
    DeclarationError,
    DomainEvent,
    EventDecodeError,
    EventReplayer,
    EventStore,
    MovedLogError,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    Worker,
    map_from_event,
    subscribe,
    verify,
)
from sa_eventsource.mapping import tables_on
from tests.bank import AnyAccount, Deposited, Withdrawn
from tests.committing import commit_events, commit_stored
from tests.databases import number_waiting
from tests.threads import in_thread, together
from tests.waiting import wait_until


class Base(DeclarativeBase):
    """Base of a bank whose code asks for events by itself."""


class Counted(DomainEvent):
    """The money was counted."""

    __event_type__ = "readers.Counted"
    amount: int


class CountedAgain(Counted):
    """And once more."""

    __event_type__ = "readers.CountedAgain"


class Account(AnyAccount, Base):
    """What is followed."""

    __aggregate_type__ = "readers.Account"
    __ignored_events__ = (Counted, CountedAgain)


class LastDeposits(ReadModel, Base):
    """A model, whose name no reader can have."""

    __projection_name__ = "readers.last_deposits"

    id: Mapped[str]
    amount: Mapped[int] = map_from_event(Deposited)


class Receipt(Base):
    """What the reader writes with its progress."""

    __tablename__ = "readers_receipts"

    amount: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


@subscribe("readers.auditor", Withdrawn, base=Base)
def audit(withdrawn: RecordedEvent[Withdrawn], session: Session) -> None:
    """Do nothing, once an event."""


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


def happen(engine: Engine, *events: DomainEvent | int) -> None:
    """Commit events of one account, each in a transaction of its own; a number stands for a deposit."""
    for each in events:
        commit_events(engine, Account, "a", Deposited(amount=each) if isinstance(each, int) else each)


def amounts(events: Sequence[RecordedEvent[Any]]) -> list[int]:
    return [each.event.amount for each in events]


def follow(engine: Engine, **options: Any) -> list[int]:
    """Ask once, and commit."""
    with Session(engine) as session:
        found = amounts(EventStore(session, Base).follow("dock", **options))
        session.commit()
    return found


def test_each_event_comes_once_and_in_batches(engine: Engine) -> None:
    happen(engine, 1, 2, 3, 4, 5)
    assert [follow(engine, batch=2) for _ in range(4)] == [[1, 2], [3, 4], [5], []]
    happen(engine, 6)
    assert follow(engine, batch=2) == [6]


def test_nothing_means_that_nothing_is_new_though_a_batch_was_just_full(engine: Engine) -> None:
    happen(engine, 1, 2)
    assert follow(engine, batch=2) == [1, 2]
    happen(engine, 3)
    assert follow(engine, batch=2) == [3]


def test_batches_of_one_transaction_follow_one_another(engine: Engine) -> None:
    happen(engine, 1, 2, 3)
    with Session(engine) as session:
        store = EventStore(session, Base)
        assert [amounts(store.follow("dock", batch=2)) for _ in range(3)] == [[1, 2], [3], []]
        session.rollback()
        assert amounts(store.follow("dock")) == [1, 2, 3]


def test_the_commit_keeps_the_progress_with_what_was_written_and_a_rollback_neither(engine: Engine) -> None:
    happen(engine, 1, 2)
    with Session(engine) as session:
        for ending in (session.rollback, session.commit, session.commit):
            session.add_all(Receipt(amount=each.event.amount) for each in EventStore(session, Base).follow("dock", Deposited))
            ending()
    with Session(engine) as session:
        assert session.scalars(select(Receipt.amount).order_by(Receipt.amount)).all() == [1, 2]


def test_a_savepoint_that_is_rolled_back_gives_the_events_again(postgres_engine: Engine) -> None:
    happen(postgres_engine, 1)
    with Session(postgres_engine) as session:
        store = EventStore(session, Base)
        with session.begin_nested() as savepoint:
            assert amounts(store.follow("dock")) == [1]
            savepoint.rollback()
        assert amounts(store.follow("dock")) == [1]


def test_what_commits_late_comes_late_and_is_not_passed_over(postgres_engine: Engine) -> None:
    with Session(postgres_engine) as late:
        late.add(account := Account(id="late"))
        account.deposit(1)
        late.flush()
        happen(postgres_engine, 2)
        assert follow(postgres_engine) == [2]
        late.commit()
    with Session(postgres_engine) as session:
        paged = EventStore(session, Base).events.after_position(2).all()
    assert (paged, follow(postgres_engine)) == ([], [1])


def test_who_asks_under_the_same_name_waits_and_gets_what_follows(postgres_engine: Engine) -> None:
    happen(postgres_engine, 1, 2, 3)
    others: list[int] = []
    with Session(postgres_engine) as session:
        assert amounts(EventStore(session, Base).follow("dock", batch=2)) == [1, 2]
        thread, _ = in_thread(lambda: others.extend(follow(postgres_engine)))
        wait_until(lambda: number_waiting(postgres_engine))
        assert others == []
        assert amounts(EventStore(session, Base).follow("another name")) == [1, 2, 3], "which waits for nobody"
        session.commit()
    thread.join()
    assert others == [3]


def test_two_who_begin_under_one_name_at_the_same_time_share_the_log(postgres_engine: Engine) -> None:
    happen(postgres_engine, *range(40))
    found: list[list[int]] = []
    gate = threading.Barrier(4)

    def run() -> None:
        gate.wait()
        while batch := follow(postgres_engine, batch=3):
            found.append(batch)

    together(*[run] * 4)
    assert sorted(amount for batch in found for amount in batch) == list(range(40))


def test_under_repeatable_read_one_of_two_is_refused_and_nothing_is_lost(postgres_engine: Engine) -> None:
    happen(postgres_engine, 1)
    strict = postgres_engine.execution_options(isolation_level="REPEATABLE READ")
    with Session(strict) as session:
        session.scalar(select(func.count()).select_from(tables_on(Base.metadata).events))
        assert follow(postgres_engine) == [1]
        happen(postgres_engine, 2)
        with pytest.raises(OperationalError, match="could not serialize"):
            EventStore(session, Base).follow("dock")
        session.rollback()
        assert amounts(EventStore(session, Base).follow("dock")) == [2]


def test_what_the_transaction_has_written_itself_comes_to_a_later_one(postgres_engine: Engine) -> None:
    with Session(postgres_engine) as session:
        session.add(account := Account(id="own"))
        account.deposit(1)
        session.flush()
        assert EventStore(session, Base).follow("dock") == []
        session.commit()
        assert amounts(EventStore(session, Base).follow("dock")) == [1]


def test_event_types_are_chosen_with_those_that_inherit_from_them(engine: Engine) -> None:
    happen(engine, Counted(amount=1), Withdrawn(amount=5), CountedAgain(amount=2), Withdrawn(amount=6))
    with Session(engine) as session:
        store = EventStore(session, Base)
        assert amounts(store.follow("dock", Counted)) == [1, 2]
        assert amounts(store.follow("meter", Withdrawn)) == [5, 6]
        assert amounts(store.follow("careful", CountedAgain)) == [2]
        with pytest.raises(TypeError, match="pass DomainEvent classes"):
            store.follow("dock", "Counted")  # type: ignore[call-overload]


@pytest.mark.parametrize(("start", "expected"), [("beginning", [1, 2, 3]), (1, [2, 3]), ("now", []), (9, [])])
def test_a_new_name_begins_where_it_is_told_to(engine: Engine, start: Any, expected: list[int]) -> None:
    happen(engine, 1, 2, 3)
    assert follow(engine, start=start) == expected
    happen(engine, 4)
    assert follow(engine, start=start) == ([] if start == 9 else [4])


def test_it_begins_at_a_time(engine: Engine) -> None:
    happen(engine, 1)
    moment = datetime.now(UTC)
    assert follow(engine, start=moment) == []
    happen(engine, 2, 3)
    assert follow(engine, start=moment) == [2, 3]


def test_an_event_that_cannot_be_read_moves_nothing(engine: Engine) -> None:
    happen(engine, 1)
    commit_stored(engine, Account, "b", "bank.Deposited", {})
    with Session(engine) as session:
        store = EventStore(session, Base)
        with pytest.raises(EventDecodeError):
            store.follow("dock")
        session.commit()
        assert amounts(store.follow("dock", batch=1)) == [1]
        session.commit()
        assert session.scalar(select(tables_on(Base.metadata).projection_positions.c.last_processed_position)) == 1


async def test_an_async_session_follows_as_well(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        session.add(account := Account(id="a"))
        for amount in (1, 2, 3):
            account.deposit(amount)
        await session.commit()
        store = AsyncEventStore(session, Base)
        assert amounts(await store.follow("dock", Deposited, batch=2)) == [1, 2]
        await session.commit()
        assert amounts(await store.follow("dock")) == [3]
        await session.rollback()
        assert amounts(await store.follow("dock")) == [3]


def test_without_a_base_it_follows_the_tables_of_the_default_names(engine: Engine) -> None:
    happen(engine, 1)
    with Session(engine) as session:
        assert amounts(EventStore(session).follow("dock")) == [1]
        session.commit()
    assert follow(engine) == []


@pytest.mark.parametrize("name", ["readers.last_deposits", "readers.auditor", "", "a#1", "x" * 256])
def test_a_name_that_another_has_or_nobody_can_have_is_refused(engine: Engine, name: str) -> None:
    with Session(engine) as session, pytest.raises(DeclarationError):
        EventStore(session, Base).follow(name)


def test_a_name_that_another_has_is_refused_where_only_the_database_tells(engine: Engine) -> None:
    happen(engine, Withdrawn(amount=1))
    Worker(engine, Base).run_once()
    with Session(engine) as session:
        for name in ("readers.auditor", "readers.last_deposits"):
            with pytest.raises(DeclarationError, match="a read model or a subscription has that name"):
                EventStore(session).follow(name)


def test_a_subscription_under_the_name_of_a_reader_says_what_to_do(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    happen(engine, Withdrawn(amount=1))
    with Session(engine) as session:
        EventStore(session).follow("readers.auditor")
        session.commit()
    assert Worker(engine, Base, only=["readers.auditor"]).run_once() == 0
    assert (
        "readers.auditor does not follow: subscription 'readers.auditor': the checkpoint under that name is that of a reader"
        in caplog.text
    )


def test_wrong_arguments_are_refused(engine: Engine) -> None:
    with Session(engine) as session:
        store = EventStore(session, Base)
        with pytest.raises(ValueError, match="batch must be how many events at most"):
            store.follow("dock", batch=0)
        with pytest.raises(TypeError, match="batch must be"):
            store.follow("dock", batch="all")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match='start must be "beginning", "now"'):
            store.follow("dock", start="later")  # type: ignore[call-overload]


def test_in_autocommit_mode_it_is_refused(postgres_engine: Engine) -> None:
    with Session(postgres_engine.execution_options(isolation_level="AUTOCOMMIT")) as session, pytest.raises(AutocommitError):
        EventStore(session, Base).follow("dock")


def status(engine: Engine) -> dict[str, tuple[str, str, int, int]]:
    found = ReadModelManager(engine, Base).status()
    return {each.name: (each.kind, each.state, each.position, each.lag_events) for each in found if each.kind == "reader"}


def test_the_status_shows_it(engine: Engine) -> None:
    happen(engine, 1, 2, 3)
    assert status(engine) == {}
    follow(engine, batch=2)
    assert status(engine) == {"dock": ("reader", "running", 2, 1)}
    follow(engine)
    assert status(engine) == {"dock": ("reader", "running", 3, 0)}
    assert verify(engine, Base).is_sound
    assert verify(engine, Base).findings == ()


def test_types_that_it_does_not_ask_for_are_no_lag_once_it_has_asked(engine: Engine) -> None:
    happen(engine, 1, 2)
    with Session(engine) as session:
        store = EventStore(session, Base)
        assert store.follow("meter", Withdrawn) == []
        session.commit()
        happen(engine, 3)
        assert status(engine)["meter"][3] == 1
        assert store.follow("meter", Withdrawn) == []
        session.commit()
    assert status(engine)["meter"][3] == 0
    happen(engine, Withdrawn(amount=1))
    with Session(engine) as session:
        assert len(EventStore(session, Base).follow("meter", Withdrawn)) == 1
    assert verify(engine, Base).findings == ()


def test_it_is_sent_back_and_retired(engine: Engine) -> None:
    happen(engine, 1, 2, 3)
    follow(engine)
    replayer = EventReplayer(engine, Base)
    assert replayer.rewind("dock", to=1) == 2
    assert follow(engine) == [2, 3]
    assert replayer.retire("dock") == 0
    assert status(engine) == {}
    assert follow(engine) == [1, 2, 3]


def test_a_log_of_another_cluster_is_not_followed(postgres_engine: Engine) -> None:
    happen(postgres_engine, 1)
    follow(postgres_engine)
    happen(postgres_engine, 2)
    positions = tables_on(Base.metadata).projection_positions
    with postgres_engine.begin() as connection:
        connection.execute(update(positions).values(cluster="1"))
    with Session(postgres_engine) as session, pytest.raises(MovedLogError):
        EventStore(session, Base).follow("dock")
