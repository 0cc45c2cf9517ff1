"""A time-out does not overtake an event that was recorded before it was due, and that its process has yet to take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import Session

from sa_eventsource import (
    AsyncWorker,
    EventReplayer,
    Pace,
    ReadModelManager,
    RetryPolicy,
    Worker,
    schedule,
)
from sa_eventsource.commands import retry_command
from sa_eventsource.consumers import consumers_on
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import Clearances, CommandBacklog, drop_stream, parked_streams, resume, retry_stream
from tests.cli.commands import succeed
from tests.committing import commit_events
from tests.databases import configure_sqlite
from tests.process_managers.bookings import BOOKED, Account, Base, Booking, Stay, Wave, broken, paid, waved
from tests.statement_log import record_executions
from tests.waiting import wait_until

COMMANDS = Base.metadata.tables["commands"]
EVENTS = Base.metadata.tables["events"]
NAME = "bookings.Stay"
LONG_AGO = datetime.now(UTC) - timedelta(hours=2)


@pytest.fixture(autouse=True)
def _clean(request: pytest.FixtureRequest) -> Iterator[None]:
    for name in ("engine", "postgres_engine"):
        if name in request.fixturenames:
            Base.metadata.create_all(request.getfixturevalue(name))
    yield
    broken.clear()
    waved.clear()


def book(engine: Engine, *bookings: str) -> None:
    """Book rooms two hours ago, so that the time for the payment is over by now."""
    for each in bookings:
        commit_events(engine, Booking, each, BOOKED, occurred_at=LONG_AGO)


def pay(engine: Engine, booking: str) -> None:
    commit_events(engine, Account, f"account of {booking}", paid(booking))


def follow(engine: Engine) -> None:
    """Let the process manager take events, and run no commands."""
    Worker(engine, Base, only=[NAME], retries=RetryPolicy(attempts=1)).run_once()


def run_commands(engine: Engine) -> None:
    """Run the commands that are due, and let nobody take events."""
    Worker(engine, Base, only=["commands"], retries=RetryPolicy(attempts=1)).run_once()


def make_due(engine: Engine, *, at: datetime | None = None) -> None:
    """Have the time-outs due at a moment, or by now."""
    with engine.begin() as connection:
        due_at = connection.scalar(select(func.max(EVENTS.c.recorded_at))) if at is None else at
        connection.execute(update(COMMANDS).where(COMMANDS.c.status == "scheduled").values(due_at=due_at))


def stages(engine: Engine) -> dict[str, str]:
    with Session(engine) as session:
        return {each.id: each.stage for each in session.scalars(select(Stay).order_by(Stay.id))}


def consumer() -> Any:
    return next(each for each in consumers_on(tables_on(Base.metadata)) if each.name == NAME)


def test_who_has_paid_in_time_keeps_the_room(engine: Engine) -> None:
    """Ten rooms are booked; the worker is away while payments arrive in time; then whichever of its parts wakes first."""
    bookings = [f"b-{number}" for number in range(10)]
    book(engine, *bookings)
    follow(engine)
    for each in bookings[::2]:
        pay(engine, each)
    make_due(engine)
    run_commands(engine)
    assert set(stages(engine).values()) == {"waiting"}
    for _ in range(2):
        Worker(engine, Base).run_once()
    assert list(stages(engine).values()) == ["paid", "cancelled"] * 5


def test_other_commands_wait_for_nobody(engine: Engine) -> None:
    book(engine, *(f"b-{number}" for number in range(120)))  # more than one look finds
    follow(engine)
    pay(engine, "b-1")
    make_due(engine)
    with Session(engine) as session:
        schedule(session, Wave(), base=Base)
        session.commit()
    run_commands(engine)
    assert waved == [1]
    assert set(stages(engine).values()) == {"waiting"}


class TestWhatIsWaitedFor:
    def test_what_was_recorded_after_the_due_time_is_not(self, engine: Engine) -> None:
        book(engine, "b-1")
        follow(engine)
        make_due(engine)
        pay(engine, "b-1")  # too late
        run_commands(engine)
        assert stages(engine) == {"b-1": "cancelled"}

    def test_a_transaction_that_is_open_is_waited_for_though_nobody_sees_what_it_has_recorded(
        self, postgres_engine: Engine
    ) -> None:
        book(postgres_engine, "b-1")
        follow(postgres_engine)
        with Session(postgres_engine) as session:
            account = Account(id="a-1")
            account.apply_event(paid("b-1"))
            session.add(account)
            session.flush()
            make_due(postgres_engine, at=datetime.now(UTC))
            for _ in range(2):
                Worker(postgres_engine, Base).run_once()
            assert stages(postgres_engine) == {"b-1": "waiting"}
            (held,) = backlog(postgres_engine).held
            assert "has written events, and not committed them yet" in held.awaits
            session.commit()
        Worker(postgres_engine, Base).run_once()
        assert stages(postgres_engine) == {"b-1": "paid"}

    def test_a_transaction_that_began_later_or_writes_no_events_is_not(self, postgres_engine: Engine) -> None:
        book(postgres_engine, "b-1")
        follow(postgres_engine)
        with postgres_engine.begin() as stranger:
            stranger.execute(select(func.pg_current_xact_id()))
            stranger.execute(select(EVENTS))
            make_due(postgres_engine)
            with Session(postgres_engine) as session:
                account = Account(id="a-1")
                account.apply_event(paid("b-1"))
                session.add(account)
                session.flush()
                run_commands(postgres_engine)
                assert stages(postgres_engine) == {"b-1": "cancelled"}

    def test_one_whose_beginning_is_not_to_be_seen_is_waited_for_once(self, postgres_engine: Engine) -> None:
        """As of a transaction of another role: what it has recorded may be older than all that was asked; a later one's is not."""
        book(postgres_engine, "b-1", "b-2")
        follow(postgres_engine)
        clearances = Clearances(tables_on(Base.metadata))

        def upto(now: datetime) -> datetime | None:
            with Session(other) as session:
                (clearance,) = clearances.find(session, [NAME], now)
            return clearance.upto

        with postgres_engine.begin() as connection:
            role = f"clerk_{uuid4().hex}"
            connection.execute(text(f"CREATE ROLE {role} LOGIN"))
            connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
        other = create_engine(postgres_engine.url, connect_args={"options": f"-c role={role}"})
        try:
            first, second = (Session(postgres_engine) for _ in range(2))
            _record_payment(first, "b-1")
            now = datetime.now(UTC)
            assert upto(now) is None
            _record_payment(second, "b-2")
            assert upto(now + timedelta(seconds=1)) is None
            first.commit()
            follow(postgres_engine)
            assert upto(now + timedelta(seconds=2)) == now - timedelta(microseconds=1)
            second.rollback()
            wait_until(lambda: upto(now + timedelta(seconds=3)) == now + timedelta(seconds=3))
        finally:
            other.dispose()
            with postgres_engine.begin() as connection:
                connection.execute(text(f"DROP OWNED BY {role}"))
                connection.execute(text(f"DROP ROLE {role}"))

    def test_a_process_manager_that_was_sent_back_is_waited_for(self, engine: Engine) -> None:
        book(engine, "b-1")
        follow(engine)
        pay(engine, "b-1")
        make_due(engine)
        follow(engine)
        EventReplayer(engine, Base).rewind(NAME, to="beginning")
        run_commands(engine)
        assert (backlog(engine).due, len(backlog(engine).held)) == (0, 1)
        for _ in range(2):
            Worker(engine, Base).run_once()
        assert (stages(engine), backlog(engine).scheduled) == ({"b-1": "paid"}, 0)

    def test_one_that_was_parked_and_is_retried_is_a_time_out_still(self, engine: Engine) -> None:
        book(engine, "b-1")
        follow(engine)
        pay(engine, "b-1")
        with engine.begin() as connection:
            connection.execute(update(COMMANDS).values(status="parked"))
        with Session(engine) as session:
            assert retry_command(session, Base, session.scalars(select(COMMANDS.c.command_id)).one())
            session.commit()
        run_commands(engine)
        assert stages(engine) == {"b-1": "waiting"}

    def test_time_outs_of_before_there_was_a_column_run_when_they_are_due(self, engine: Engine) -> None:
        book(engine, "b-1")
        follow(engine)
        pay(engine, "b-1")
        make_due(engine)
        with engine.begin() as connection:
            connection.execute(update(COMMANDS).values(process_type=None, process_id=None))
        run_commands(engine)
        assert stages(engine) == {"b-1": "cancelled"}


class TestWhoCannotGoOn:
    def test_time_outs_of_one_that_has_stopped_wait_and_that_is_a_problem(self, engine: Engine) -> None:
        broken.add("b-1")
        book(engine, "b-1", "b-2")
        follow(engine)
        pay(engine, "b-1")
        make_due(engine)
        Worker(engine, Base, retries=RetryPolicy(attempts=1)).run_once()
        assert set(stages(engine).values()) == {"waiting"}
        assert [each for each in problems(engine) if each.startswith("2 time-outs of bookings.Stay wait, due for ")]
        assert problems(engine)[0].endswith(": it has yet to take 1 event, and is stopped")
        broken.clear()
        with Session(engine) as session:
            resume(session, consumer())
        for _ in range(2):
            Worker(engine, Base).run_once()
        assert (stages(engine), problems(engine)) == ({"b-1": "paid", "b-2": "cancelled"}, [])

    def test_what_was_due_before_the_event_that_stopped_it_is_run(self, engine: Engine) -> None:
        broken.add("b-1")
        book(engine, "b-1")
        follow(engine)
        make_due(engine)
        pay(engine, "b-1")
        Worker(engine, Base, retries=RetryPolicy(attempts=1)).run_once()
        assert stages(engine) == {"b-1": "cancelled"}

    @pytest.mark.parametrize("settle", [retry_stream, drop_stream])
    def test_a_process_that_has_parked_has_its_time_outs_wait_and_no_other(
        self, settle: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Stay, "__on_error__", "park")
        broken.add("b-1")
        book(engine, "b-1", "b-2", "b-3")
        follow(engine)
        for each in ("b-1", "b-2"):
            pay(engine, each)
        make_due(engine)
        for _ in range(2):
            Worker(engine, Base, retries=RetryPolicy(attempts=1)).run_once()
        assert stages(engine) == {"b-1": "waiting", "b-2": "paid", "b-3": "cancelled"}
        assert [each.partition(", due")[0] for each in problems(engine)] == [
            "1 time-out of bookings.Stay waits",
            "bookings.Stay has parked 1 event",
        ]
        assert problems(engine)[0].endswith(": 1 of them for events that are parked")
        broken.clear()
        with Session(engine) as session:
            (stream,) = parked_streams(session, consumer())
            settle(session, consumer(), stream)
        for _ in range(2):
            Worker(engine, Base).run_once()
        assert stages(engine)["b-1"] == ("paid" if settle is retry_stream else "cancelled")
        assert problems(engine) == []

    def test_an_event_of_which_nobody_can_say_for_whom_it_is_holds_up_all(
        self, postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Stay, "__on_error__", "park")
        book(postgres_engine, "b-1", "b-2")
        follow(postgres_engine)
        pay(postgres_engine, "b-1")
        with postgres_engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(update(EVENTS).where(EVENTS.c.event_type == "bank.Deposited").values(event_data={}))
        make_due(postgres_engine)
        Worker(postgres_engine, Base, retries=RetryPolicy(attempts=1)).run_once()
        assert set(stages(postgres_engine).values()) == {"waiting"}
        assert problems(postgres_engine)[0].endswith(": 2 of them for events that are parked")

    def test_those_of_one_that_is_not_declared_here_are_left_to_others_until_it_is_retired(self, engine: Engine) -> None:
        book(engine, "b-1")
        follow(engine)
        make_due(engine)
        with engine.begin() as connection:
            connection.execute(update(COMMANDS).values(process_type="bookings.Former"))
        run_commands(engine)
        assert stages(engine) == {"b-1": "waiting"}
        (problem,) = problems(engine)
        assert "bookings.Former waits" in problem
        assert "nothing of this name is declared here" in problem
        EventReplayer(engine, Base).retire("bookings.Former")
        run_commands(engine)
        assert (stages(engine), problems(engine)) == ({"b-1": "cancelled"}, [])

    def test_those_of_one_whose_log_was_moved_wait(self, postgres_engine: Engine) -> None:
        book(postgres_engine, "b-1")
        follow(postgres_engine)
        make_due(postgres_engine)
        positions = Base.metadata.tables["projection_positions"]
        with postgres_engine.begin() as connection:
            connection.execute(update(positions).values(cluster="another"))
        run_commands(postgres_engine)
        assert stages(postgres_engine) == {"b-1": "waiting"}
        assert "its checkpoint cannot be used, as its own status says" in problems(postgres_engine)[0]


class TestWorkers:
    def test_one_that_follows_and_runs_takes_events_first(self, engine: Engine) -> None:
        bookings = [f"b-{number}" for number in range(10)]
        book(engine, *bookings)
        follow(engine)
        for each in bookings[::2]:
            pay(engine, each)
        make_due(engine)
        with Worker(engine, Base):
            wait_until(lambda: "waiting" not in stages(engine).values())
        assert list(stages(engine).values()) == ["paid", "cancelled"] * 5

    async def test_an_async_one_does_too(self, async_engine: AsyncEngine) -> None:
        async with async_engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        engine = create_engine(async_engine.url.set(drivername=async_engine.url.drivername.replace("+aiosqlite", "")))
        configure = configure_sqlite if engine.dialect.name == "sqlite" else lambda _engine: None
        configure(engine)
        book(engine, "b-1", "b-2")
        follow(engine)
        pay(engine, "b-1")
        make_due(engine)
        async with AsyncWorker(async_sessionmaker(async_engine), Base):
            await asyncio.to_thread(wait_until, lambda: "waiting" not in stages(engine).values())
        assert stages(engine) == {"b-1": "paid", "b-2": "cancelled"}
        engine.dispose()

    def test_a_time_out_that_was_held_back_runs_soon_after_its_event_is_taken(self, postgres_engine: Engine) -> None:
        book(postgres_engine, "b-1", "b-2")
        follow(postgres_engine)
        pay(postgres_engine, "b-1")
        make_due(postgres_engine)
        with Worker(postgres_engine, Base, only=["commands"], pace=Pace(longest=600)), Worker(postgres_engine, Base, only=[NAME]):
            wait_until(lambda: "waiting" not in stages(postgres_engine).values())


class TestStatus:
    def test_what_waits_is_neither_due_nor_overdue_and_is_shown(self, engine: Engine) -> None:
        book(engine, "b-1")
        follow(engine)
        pay(engine, "b-1")
        make_due(engine, at=datetime.now(UTC))
        found = backlog(engine)
        assert (found.scheduled, found.due, found.overdue, found.lag_seconds, found.due_types) == (1, 0, 0, 0.0, ())
        assert [(each.process_type, each.number, each.is_stuck) for each in found.held] == [(NAME, 1, False)]
        assert problems(engine) == []  # its process manager comes to it
        (problem,) = ReadModelManager(engine, Base).problems(max_lag_seconds=0.001)[:1]
        assert "1 time-out of bookings.Stay waits, due for " in problem
        shown = succeed("status", "tests.process_managers.bookings:Base", engine=engine).stdout
        assert "it has yet to take 1 event" in " ".join(shown.split())

    def test_the_list_of_commands_names_the_process(self, engine: Engine) -> None:
        book(engine, "b-1")
        follow(engine)
        shown = succeed("commands", "list", "tests.process_managers.bookings:Base", "--json", engine=engine).stdout
        assert (json.loads(shown)["process_type"], json.loads(shown)["process_id"]) == (NAME, "b-1")


def backlog(engine: Engine) -> CommandBacklog:
    found = ReadModelManager(engine, Base).commands()
    assert found is not None
    return found


def problems(engine: Engine) -> list[str]:
    return ReadModelManager(engine, Base).problems()


def _record_payment(session: Session, booking: str) -> None:
    account = Account(id=f"account of {booking}")
    account.apply_event(paid(booking))
    session.add(account)
    session.flush()


def test_a_look_does_not_walk_through_those_that_are_held_back(postgres_engine: Engine) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO commands (command_id, command_type, command_data, status, due_at, process_type, process_id)
                SELECT gen_random_uuid(), 'bookings.Wave', '{}', 'scheduled', now() - interval '1 hour', 'bookings.Gone', n::text
                FROM generate_series(1, 20000) AS n
            """)
        )
        connection.execute(text("ANALYZE commands"))
    with record_executions(postgres_engine) as executed:
        run_commands(postgres_engine)
    asked = [each for each in executed if "FROM commands" in each[0]]
    assert len(asked) >= 3
    with postgres_engine.connect() as connection:
        for statement, parameters in asked:
            (plan,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
            assert rows_read(plan["Plan"]) < 1000, statement
    assert backlog(postgres_engine).held[0].number == 20_000


def rows_read(node: dict[str, Any]) -> float:
    """Count the rows that a node of an executed plan has read, and those below it."""
    own: float = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return own + sum(rows_read(each) for each in node.get("Plans", ()))
