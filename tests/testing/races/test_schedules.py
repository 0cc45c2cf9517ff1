"""One run: whose turn it is, who waits, how it ends, and what is left when it is given up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Collection, Iterator
from queue import Empty
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, func, select, text, update
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from sa_eventsource import ActorHungError, JoinedTransactionError, RaceFoundError, ScheduleError, StrayStatementError
from sa_eventsource.testing.races import ActorOutcome, StepKind, races, stops
from sa_eventsource.testing.races.lock_watch import LockWatch
from sa_eventsource.testing.races.scheduled_actors import ScheduledActor
from sa_eventsource.testing.races.turn_taking import TurnTaking
from tests.testing.races.bank import Row, UniqueName
from tests.waiting import wait_until

LEFT = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND (state <> 'idle' OR wait_event_type = 'Lock')
"""


def two_rows(session: Session) -> tuple[int, int]:
    first, second = Row(), Row()
    session.add_all([first, second])
    session.flush()
    return first.id, second.id


def anything(_: Session, __: Any) -> None:
    """Hold always."""


def add(session: Session, ids: tuple[int, int]) -> None:
    session.execute(update(Row).where(Row.id == ids[0]).values(balance=Row.balance + 1))
    session.commit()


def add_to_the_second(session: Session, ids: tuple[int, int]) -> None:
    session.execute(update(Row).where(Row.id == ids[1]).values(balance=Row.balance + 1))
    session.commit()


@pytest.fixture
def nothing_left(postgres_engine: Engine) -> Iterator[None]:
    """Nothing of a run is left: no thread, no listener, no transaction, no connection that is in use."""
    yield
    assert [each.name for each in threading.enumerate() if each.name.startswith("races")] == []
    assert "_has_events" not in postgres_engine.__dict__
    assert "_has_events" not in postgres_engine.dialect.__dict__
    assert postgres_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    with create_engine(postgres_engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        wait_until(lambda: connection.scalar(text(LEFT)) == 0)


pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_schedule_is_followed_and_reported_step_by_step(postgres_engine: Engine) -> None:
    def look(session: Session, ids: tuple[int, int]) -> int:
        balance = session.scalar(select(Row.balance).where(Row.id == ids[0]))
        session.rollback()
        return balance or 0

    seen = []

    def fails(_: Session, __: Any, outcomes: tuple[ActorOutcome, ...]) -> bool:
        seen.append([each.value for each in outcomes])
        return False

    with pytest.raises(RaceFoundError, match="it returned False") as caught:
        races(two_rows, [add, look], invariant=fails, sessions=postgres_engine, schedule="ABAB")
    assert [(each.actor, each.kind) for each in caught.value.steps] == [
        ("A", StepKind.STATEMENT),
        ("B", StepKind.STATEMENT),
        ("A", StepKind.COMMIT),
        ("B", StepKind.ROLLBACK),
    ]
    assert seen == [[None, 100]]
    with pytest.raises(RaceFoundError):
        races(two_rows, [add, look], invariant=fails, sessions=postgres_engine, schedule="AABB")
    assert seen[1:] == [[None, 101]]


def test_who_waits_for_a_lock_goes_on_when_it_is_free(postgres_engine: Engine) -> None:
    def fails(session: Session, ids: tuple[int, int]) -> None:
        assert session.get_one(Row, ids[0]).balance == 0

    with pytest.raises(RaceFoundError, match="assert 102 == 0") as caught:
        races(two_rows, [add, add], invariant=fails, sessions=postgres_engine, schedule="ABAB")
    assert [each.waited_for for each in caught.value.steps] == ["", "A", "", ""]
    assert "[waits for A] UPDATE accounts SET" in caught.value.table


@pytest.mark.parametrize(
    ("schedule", "step", "reason"),
    [
        ("ABB", 3, "B waits for a lock"),
        ("AAA", 3, "A has ended"),
        ("AC", 2, "there is no such actor"),
        ("A1", 2, "there is no such actor"),
        ("AABBA", 5, "all actors have ended"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(postgres_engine: Engine, schedule: str, step: int, reason: str) -> None:
    with pytest.raises(ScheduleError, match=reason) as caught:
        races(two_rows, [add, add], invariant=anything, sessions=postgres_engine, schedule=schedule)
    assert (caught.value.schedule, caught.value.step) == (schedule, step)


def test_an_error_of_an_actor_is_reported_with_its_schedule(postgres_engine: Engine) -> None:
    def fail_if_there_is_more(session: Session, ids: tuple[int, int]) -> None:
        if session.scalar(select(Row.balance).where(Row.id == ids[0])) != 100:
            raise LookupError("more than there was")

    with pytest.raises(RaceFoundError, match=r"B \(fail_if_there_is_more\) failed: LookupError: more than") as caught:
        races(two_rows, [add, fail_if_there_is_more], invariant=anything, sessions=postgres_engine)
    assert caught.value.actor == "B"
    assert caught.value.schedule == "AABB"
    assert isinstance(caught.value.__cause__, LookupError)

    report = races(two_rows, [add, fail_if_there_is_more], invariant=anything, sessions=postgres_engine, expected=LookupError)
    assert report.is_exhaustive


def test_an_error_of_the_database_is_no_conflict_unless_it_says_so(postgres_engine: Engine) -> None:
    def take(session: Session, name: str) -> None:
        session.add(UniqueName(name=name))
        session.commit()

    def name(_: Session) -> str:
        return uuid4().hex

    with pytest.raises(RaceFoundError, match="UniqueViolation"):
        races(name, [take, take], invariant=anything, sessions=postgres_engine)


def test_a_broken_invariant_without_a_race_is_called_that(postgres_engine: Engine) -> None:
    def broken(_: Session, __: Any) -> bool:
        return False

    with pytest.raises(RaceFoundError, match="this is no race") as caught:
        races(two_rows, [add, add], invariant=broken, sessions=postgres_engine)
    assert caught.value.schedule == "AABB"


def both_ways(first: int) -> Any:
    def transfer(session: Session, ids: tuple[int, int]) -> None:
        for number in (ids[first], ids[1 - first]):
            session.execute(update(Row).where(Row.id == number).values(balance=Row.balance + 1))
        session.commit()

    return transfer


def test_a_deadlock_is_found_as_such(postgres_engine: Engine) -> None:
    actors = [both_ways(0), both_ways(1)]
    report = races(two_rows, actors, invariant=anything, sessions=postgres_engine)
    assert report.is_exhaustive
    assert report.deadlocks > 0
    assert report.conflicts == report.deadlocks

    with pytest.raises(RaceFoundError, match=r"deadlock: A \(transfer\) and B \(transfer\) wait for each other") as caught:
        races(two_rows, actors, invariant=anything, sessions=postgres_engine, deadlocks_are_legal=False)
    assert caught.value.schedule.startswith("ABBA")
    assert caught.value.is_repeatable
    assert "DeadlockDetected" in caught.value.table


def test_a_deadlock_may_end_while_it_is_looked_for(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "_ASK_AS_SUPERUSER", "SHOW transaction_isolation; SET LOCAL deadlock_timeout = '200ms'")
    blockers = LockWatch.blockers

    def when_it_has_ended(watch: LockWatch, pids: Collection[int]) -> dict[int, frozenset[int]]:
        if len(pids) > 1:
            wait_until(lambda: len(watch.locks(pids).waiting) < len(pids))
        return blockers(watch, pids)

    monkeypatch.setattr(LockWatch, "blockers", when_it_has_ended)
    actors = [both_ways(0), both_ways(1)]
    report = races(two_rows, actors, invariant=anything, sessions=postgres_engine, schedule="ABBA")
    assert (report.deadlocks, report.conflicts) == (1, 1)


def test_conflicts_can_be_forbidden(postgres_engine: Engine) -> None:
    with pytest.raises(RaceFoundError, match="could not serialize access"):
        races(
            two_rows,
            [add, add],
            invariant=anything,
            sessions=postgres_engine.execution_options(isolation_level="REPEATABLE READ"),
            conflicts_are_legal=False,
        )


def test_steps_on_different_tables_are_run_in_one_order(postgres_engine: Engine) -> None:
    def take(session: Session, _: Any) -> None:
        session.add(UniqueName(name=uuid4().hex))
        session.commit()

    report = races(two_rows, [add, take], invariant=anything, sessions=postgres_engine)
    assert (report.followed, report.is_exhaustive) == (("AABB",), True)


def test_readers_do_not_meet(postgres_engine: Engine) -> None:
    def look(session: Session, ids: tuple[int, int]) -> None:
        session.get_one(Row, ids[0])
        session.get_one(Row, ids[1])

    assert races(two_rows, [look, look, look], invariant=anything, sessions=postgres_engine).schedules == 1


def test_an_actor_may_use_several_connections(postgres_engine: Engine) -> None:
    maker = sessionmaker(postgres_engine)

    def add_twice(_: Session, ids: tuple[int, int]) -> None:
        with maker() as one, maker() as other:
            one.get_one(Row, ids[0], with_for_update=True).balance += 1
            other.get_one(Row, ids[1], with_for_update=True).balance += 1
            one.commit()
            other.commit()

    def adds_up(session: Session, ids: tuple[int, int]) -> None:
        assert [session.get_one(Row, each).balance for each in ids] == [102, 102]

    report = races(two_rows, [add_twice, add_twice], invariant=adds_up, sessions=maker)
    assert report.is_exhaustive
    assert report.schedules > 5


def test_an_actor_that_waits_for_its_own_connection_is_told(postgres_engine: Engine) -> None:
    def lock_twice(session: Session, ids: tuple[int, int]) -> None:
        session.get_one(Row, ids[0], with_for_update=True)
        with Session(postgres_engine) as other:
            other.get_one(Row, ids[0], with_for_update=True)

    with pytest.raises(ActorHungError, match="one of its connections waits for a lock that another one of its own holds") as caught:
        races(two_rows, [lock_twice, add], invariant=anything, sessions=postgres_engine)
    assert caught.value.actor == "A"


def test_an_actor_that_hangs_is_told_with_the_place(postgres_engine: Engine) -> None:
    comes = threading.Event()

    def hang(session: Session, ids: tuple[int, int]) -> None:
        session.get_one(Row, ids[0], with_for_update=True)
        comes.wait()
        session.get_one(Row, ids[1])

    with pytest.raises(ActorHungError, match=r"no progress in 2 s; it is at .*, in wait\(\)") as caught:
        races(two_rows, [add, hang], invariant=anything, sessions=postgres_engine, step_timeout=2)
    assert (caught.value.actor, caught.value.schedule) == ("B", "AAB")
    assert caught.value.statement is not None
    with Session(postgres_engine) as session:  # its lock is gone
        session.execute(update(Row).values(balance=1))
        session.commit()
    comes.set()
    for thread in threading.enumerate():
        if thread.name.startswith("races"):
            thread.join(60)


def test_a_lock_that_no_actor_holds_is_told(postgres_engine: Engine) -> None:
    with Session(postgres_engine) as session:
        ids = two_rows(session)
        session.commit()
    stranger = create_engine(postgres_engine.url, poolclass=NullPool)
    with Session(stranger) as session:
        session.get_one(Row, ids[0], with_for_update=True)
        with pytest.raises(ActorHungError, match="held by no actor, but by the server processes"):
            races(lambda _: ids, [add, add], invariant=anything, sessions=postgres_engine, step_timeout=2)


def test_an_actor_that_leaves_a_transaction_open_is_told(postgres_engine: Engine) -> None:
    left: list[Session] = []

    def leave_open(_: Session, ids: tuple[int, int]) -> None:
        left.append(Session(postgres_engine))
        left[-1].get_one(Row, ids[0], with_for_update=True)

    with pytest.raises(ActorHungError, match="an actor holds which has ended without closing its transaction"):
        races(two_rows, [leave_open, add], invariant=anything, sessions=postgres_engine)
    for session in left:
        session.close()


def test_actors_without_an_end_are_told(postgres_engine: Engine) -> None:
    def ask_again_and_again(session: Session, ids: tuple[int, int]) -> None:
        while session.scalar(select(Row.balance).where(Row.id == ids[0])) == 100:
            session.rollback()

    with pytest.raises(ActorHungError, match="there is no end after 40 steps"):
        races(two_rows, [ask_again_and_again, add], invariant=anything, sessions=postgres_engine, max_steps=40)


def test_a_statement_from_elsewhere_is_told(postgres_engine: Engine) -> None:
    def with_a_helper(session: Session, ids: tuple[int, int]) -> None:
        def help_out() -> None:
            with postgres_engine.connect() as connection:
                connection.execute(text("SELECT 'from elsewhere'"))

        helper = threading.Thread(target=help_out, name="a helper")
        helper.start()
        helper.join()

    with pytest.raises(StrayStatementError, match="from elsewhere") as caught:
        races(two_rows, [with_a_helper, add], invariant=anything, sessions=postgres_engine)
    assert caught.value.thread == "a helper"


def test_an_interrupt_ends_all(postgres_engine: Engine) -> None:
    def interrupt(session: Session, ids: tuple[int, int]) -> None:
        session.get_one(Row, ids[0], with_for_update=True)
        signal.raise_signal(signal.SIGINT)
        session.get_one(Row, ids[1], with_for_update=True)

    with pytest.raises(KeyboardInterrupt):
        races(two_rows, [add, interrupt, add], invariant=anything, sessions=postgres_engine)
    with Session(postgres_engine) as session:
        assert session.scalar(select(func.count()).select_from(Row).where(Row.balance > 100)) == 1


def test_two_actors_at_least(postgres_engine: Engine) -> None:
    with pytest.raises(ValueError, match="two to 8 actors, not 1"):
        races(two_rows, [add], invariant=anything, sessions=postgres_engine)


def test_sqlite_is_refused(sqlite_engine: Engine) -> None:
    with pytest.raises(ValueError, match="needs PostgreSQL"):
        races(two_rows, [add, add], invariant=anything, sessions=sqlite_engine)


def test_sessions_within_a_transaction_are_refused(postgres_engine: Engine) -> None:
    with postgres_engine.begin() as connection, pytest.raises(JoinedTransactionError):
        races(two_rows, [add, add], invariant=anything, sessions=sessionmaker(connection))


def test_the_same_seed_draws_the_same_schedules(postgres_engine: Engine) -> None:
    def several(session: Session, ids: tuple[int, int]) -> None:
        for _ in range(4):
            add(session, ids)

    def run(seed: int) -> tuple[str, ...]:
        report = races(two_rows, [several, several], invariant=anything, sessions=postgres_engine, schedules=20, seed=seed)
        assert not report.is_exhaustive
        return report.followed

    first = run(1)
    assert len(first) == 20
    assert run(1) == first
    other = run(2)
    assert other[:10] == first[:10]  # in order of switches
    assert other[10:] != first[10:]  # drawn


def test_threads_are_gone_when_a_run_has_ended(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = ScheduledActor.finish

    def finish_late(self: ScheduledActor) -> None:
        finish(self)
        time.sleep(0.02)

    monkeypatch.setattr(ScheduledActor, "finish", finish_late)
    races(two_rows, [add, both_ways(0)], invariant=anything, sessions=postgres_engine, schedule="AB")


def test_an_interrupt_that_comes_as_an_actor_stops_ends_it(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = TurnTaking._take_arrival

    def interrupted(self: TurnTaking, timeout: float) -> bool:
        if len(self._run.happenings) >= 2:
            try:
                self._arrivals.get(timeout=timeout)  # and it is not noted
            except Empty:
                return False
            monkeypatch.setattr(TurnTaking, "_take_arrival", taken)
            raise KeyboardInterrupt
        return taken(self, timeout)

    monkeypatch.setattr(TurnTaking, "_take_arrival", interrupted)
    with pytest.raises(KeyboardInterrupt):
        races(two_rows, [add, both_ways(0)], invariant=anything, sessions=postgres_engine, schedule="AB")
