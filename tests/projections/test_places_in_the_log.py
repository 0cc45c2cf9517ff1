"""Subscriptions begin at a place in the log and are sent back to one while workers run; what they had to take is never lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    DeclarationError,
    EventReplayer,
    EventStore,
    Pace,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    RetryPolicy,
    Worker,
    map_from_event,
    subscribe,
    verify,
)
from sa_eventsource.consumers import named_subscriptions
from sa_eventsource.mapping import tables_on
from sa_eventsource.read_models import count
from tests.bank import AnyAccount, Closed, Deposited
from tests.committing import commit_events
from tests.databases import number_waiting
from tests.threads import in_thread
from tests.waiting import wait_until


class Base(DeclarativeBase):
    """Base of a stamp collection."""


class Account(AnyAccount, Base):
    """What is followed: its deposits, and nothing else."""

    __aggregate_type__ = "places.Account"


def deposit(engine: Engine, *amounts: int, account_id: str = "a") -> None:
    """Commit each deposit in a transaction of its own; position and amount are the same in these tests."""
    for amount in amounts:
        commit_events(engine, Account, account_id, Deposited(amount=amount))


class Deposits(ReadModel, Base):
    """A model, which is not sent back."""

    __projection_name__ = "places.deposits"

    id: Mapped[str]
    number: Mapped[int] = map_from_event(Deposited, reduce=count())


taken: list[int] = []
failing: set[int] = set()


@subscribe("places.collector", Deposited, base=Base, batch_size=1)
def collect(deposited: RecordedEvent[Deposited], session: Session) -> None:
    if deposited.event.amount in failing:
        raise RuntimeError("a stamp that sticks")
    taken.append(deposited.event.amount)


@subscribe("places.parker", Deposited, base=Base, on_error="park")
def parks(deposited: RecordedEvent[Deposited], session: Session) -> None:
    collect(deposited, session)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def accounts(engine: Engine) -> Iterator[Engine]:
    taken.clear()
    failing.clear()
    yield engine
    failing.clear()


@contextmanager
def starting(start: Any) -> Iterator[None]:
    """Have the collector begin elsewhere, as if another release had declared it."""
    before: Any = named_subscriptions._declared["places.collector"]
    named_subscriptions._declared["places.collector"] = replace(before, start=start)
    try:
        yield
    finally:
        named_subscriptions._declared["places.collector"] = before


def run(engine: Engine, name: str = "places.collector") -> list[int]:
    """Let it take what there is, and say what that was."""
    taken.clear()
    Worker(engine, Base, only=[name], retries=RetryPolicy(attempts=1, first_pause=0)).run_once()
    return list(taken)


def recorded_at(engine: Engine, position: int) -> datetime:
    with Session(engine) as session:
        found = EventStore(session, Base).events.after_position(position - 1).first()
        assert found is not None
        return found.recorded_at


def await_another_moment(engine: Engine, position: int) -> None:
    """Wait until an event would be recorded later than that one: SQLite's clock counts milliseconds."""
    moment = recorded_at(engine, position) + timedelta(milliseconds=1)
    wait_until(lambda: datetime.now(UTC) > moment)


def lag(engine: Engine, name: str = "places.collector") -> int:
    return next(each.lag_events for each in ReadModelManager(engine, Base).status() if each.name == name)


def test_it_begins_behind_a_position(accounts: Engine) -> None:
    deposit(accounts, 1, 2, 3, 4, 5, 6, 7)
    with starting(2):
        assert lag(accounts) == 5
        assert run(accounts) == [3, 4, 5, 6, 7]
        deposit(accounts, 8)
        assert run(accounts) == [8]
        assert verify(accounts, Base).is_sound


def test_behind_a_position_that_the_log_has_not_reached_it_begins_once_it_has(accounts: Engine) -> None:
    deposit(accounts, 1, 2)
    with starting(4):
        assert (lag(accounts), run(accounts)) == (0, [])
        deposit(accounts, 3, 4, 5)
        assert (lag(accounts), run(accounts)) == (1, [5])


def test_it_begins_with_the_first_event_that_was_recorded_at_a_time_or_later(accounts: Engine) -> None:
    deposit(accounts, 1, 2, 3)
    await_another_moment(accounts, 3)
    deposit(accounts, 4, 5)
    with starting(recorded_at(accounts, 4)):
        assert lag(accounts) == 2
        assert run(accounts) == [4, 5]
        deposit(accounts, 6)
        assert run(accounts) == [6]


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(days=1)])
def test_behind_a_time_of_which_the_log_has_no_event_it_does_not_begin_yet(accounts: Engine, delay: timedelta) -> None:
    deposit(accounts, 1, 2)
    with starting(datetime.now(UTC) + delay):
        assert (lag(accounts), run(accounts)) == (0, [])
        deposit(accounts, 3)
        assert run(accounts) == ([] if delay else [3])


def test_it_begins_with_what_comes_from_now_on(accounts: Engine) -> None:
    deposit(accounts, 1, 2)
    with starting("now"):
        assert (lag(accounts), run(accounts)) == (0, [])
        deposit(accounts, 3)
        assert (lag(accounts), run(accounts)) == (1, [3])


@pytest.mark.parametrize("start", [1, "now"])
def test_what_is_committed_late_is_taken_though_it_lies_before_the_beginning(postgres_engine: Engine, start: Any) -> None:
    with Session(postgres_engine) as late:
        late.add(account := Account(id="late"))
        account.apply_event(Deposited(amount=1))
        late.flush()
        deposit(postgres_engine, 2)
        with starting(start):
            assert run(postgres_engine) == ([] if start == "now" else [2])
            late.commit()
            assert run(postgres_engine) == [1]


def test_a_failure_at_the_first_event_behind_the_beginning_lets_it_begin_there_again(accounts: Engine) -> None:
    deposit(accounts, 1, 2, 3, 4)
    failing.add(3)
    with starting(2):
        assert run(accounts) == []
        failing.clear()
        assert Worker(accounts, Base, only=["places.collector"]).run_once() == 0, "it has stopped"
        EventReplayer(accounts, Base).rewind("places.collector", to=2)
        assert run(accounts) == [3, 4]


@pytest.mark.parametrize(("to", "expected"), [("beginning", [1, 2, 3, 4, 5]), (0, [1, 2, 3, 4, 5]), (3, [4, 5]), (5, []), (99, [])])
def test_it_is_sent_back_to_a_place(accounts: Engine, to: Any, expected: list[int]) -> None:
    deposit(accounts, 1, 2, 3, 4, 5)
    assert run(accounts) == [1, 2, 3, 4, 5]
    assert EventReplayer(accounts, Base).rewind("places.collector", to=to) == len(expected)
    assert lag(accounts) == len(expected)
    assert run(accounts) == expected
    deposit(accounts, 6)
    assert run(accounts) == [6]
    assert verify(accounts, Base).is_sound


def test_it_is_sent_back_to_a_time(accounts: Engine) -> None:
    deposit(accounts, 1, 2)
    await_another_moment(accounts, 2)
    deposit(accounts, 3, 4)
    run(accounts)
    replayer = EventReplayer(accounts, Base)
    assert replayer.rewind("places.collector", to=recorded_at(accounts, 3)) == 2
    assert run(accounts) == [3, 4]
    assert replayer.rewind("places.collector", to=datetime.now(UTC)) == 0
    assert run(accounts) == []


def test_what_it_had_yet_to_take_it_still_has_to_take(postgres_engine: Engine) -> None:
    taken.clear()
    with Session(postgres_engine) as late:
        late.add(account := Account(id="late"))
        account.apply_event(Deposited(amount=1))
        late.flush()
        deposit(postgres_engine, 2, 3)
        assert run(postgres_engine) == [2, 3]
        late.commit()
    assert EventReplayer(postgres_engine, Base).rewind("places.collector", to=2) == 2
    assert run(postgres_engine) == [3, 1], "the late one lies before the place, and had not been taken"


def test_in_the_midst_of_a_backlog_nothing_is_left_out(postgres_engine: Engine) -> None:
    taken.clear()
    deposit(postgres_engine, 1, 2)
    assert run(postgres_engine) == [1, 2]
    deposit(postgres_engine, 3, 4, 5, 6, 7)
    failing.add(6)
    try:
        assert run(postgres_engine) == [3, 4, 5]
    finally:
        failing.clear()
    replayer = EventReplayer(postgres_engine, Base)
    assert replayer.rewind("places.collector", to=6) == 2, "it has come to 5 only, and has stopped there"
    assert run(postgres_engine) == [6, 7]
    assert replayer.rewind("places.collector", to=1) == 6
    assert run(postgres_engine) == [2, 3, 4, 5, 6, 7]


def test_one_that_has_not_begun_goes_back_from_where_it_would_begin(accounts: Engine) -> None:
    deposit(accounts, 1, 2, 3)
    with starting("now"):
        assert EventReplayer(accounts, Base).rewind("places.collector", to=1) == 2
        assert run(accounts) == [2, 3]


def test_one_that_is_to_begin_in_the_future_is_sent_back_all_the_same(accounts: Engine) -> None:
    deposit(accounts, 1, 2, 3)
    with starting(datetime.now(UTC) + timedelta(days=1)):
        replayer = EventReplayer(accounts, Base)
        assert replayer.rewind("places.collector", to=7) == 0
        assert run(accounts) == []
        assert replayer.rewind("places.collector", to=2) == 1
        assert run(accounts) == [3]


def test_what_was_put_aside_stays_aside(accounts: Engine) -> None:
    failing.add(2)
    deposit(accounts, 1, 2, 3)
    deposit(accounts, 4, account_id="b")
    assert run(accounts, "places.parker") == [1, 4]
    failing.clear()
    EventReplayer(accounts, Base).rewind("places.parker", to="beginning")
    assert run(accounts, "places.parker") == [1, 4]


def test_workers_that_run_notice_it(accounts: Engine) -> None:
    deposit(accounts, 1, 2, 3)
    with Session(accounts) as session:
        session.get_one(Account, "a").apply_event(Closed())
        session.commit()
    pace = Pace(longest=0.02, every_follower=0.05)
    with Worker(accounts, Base, only=["places.collector"], pace=pace):
        for _ in range(3):
            wait_until(lambda: taken[-1:] == [3])
            wait_until(lambda: not lag(accounts))
            taken.clear()
            EventReplayer(accounts, Base).rewind("places.collector", to=1)
            wait_until(lambda: taken == [2, 3])


def test_it_waits_for_the_batch_under_way(postgres_engine: Engine) -> None:
    deposit(postgres_engine, 1, 2)
    run(postgres_engine)
    positions = tables_on(Base.metadata).projection_positions
    with postgres_engine.connect() as batch:
        batch.execute(select(positions).with_for_update())
        thread, errors = in_thread(lambda: EventReplayer(postgres_engine, Base).rewind("places.collector", "beginning"))
        wait_until(lambda: number_waiting(postgres_engine))
        batch.rollback()
    thread.join()
    assert errors == []
    assert run(postgres_engine) == [1, 2]


def test_what_cannot_be_sent_back_is_refused(accounts: Engine) -> None:
    replayer = EventReplayer(accounts, Base)
    with pytest.raises(DeclarationError, match=r"'places\.deposits' is a read model; rebuild it instead of sending it back$"):
        replayer.rewind("places.deposits", to=0)
    with pytest.raises(DeclarationError, match=r"no subscription and no reader 'x'\. There are: places\.collector, "):
        replayer.rewind("x", to=0)
    with pytest.raises(TypeError, match='to must be "beginning", a datetime with a time zone, or a position'):
        replayer.rewind("places.collector", to="now")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not -1"):
        replayer.rewind("places.collector", to=-1)
    with pytest.raises(ValueError, match="has no time zone"):
        replayer.rewind("places.collector", to=datetime(2026, 1, 1))  # noqa: DTZ001


def test_one_that_is_no_longer_declared_is_retired_while_others_are(accounts: Engine, request: pytest.FixtureRequest) -> None:
    failing.add(1)
    deposit(accounts, 1)
    run(accounts, "places.parker")
    run(accounts)
    gone = named_subscriptions._declared.pop("places.parker")
    request.addfinalizer(lambda: named_subscriptions._declared.update({"places.parker": gone}))
    replayer = EventReplayer(accounts, Base)
    assert replayer.retire("places.parker") == 0
    with accounts.connect() as connection:
        assert connection.scalars(text("SELECT projection_name FROM projection_positions")).all() == ["places.collector"]
        assert connection.scalar(text("SELECT count(*) FROM parked_events")) == 0
    with pytest.raises(DeclarationError, match="is what the code declares"):
        replayer.retire("places.collector")
