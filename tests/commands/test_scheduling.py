"""Commands for later: in the transaction of the events, at their time, once, and parked when they fail."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from sa_eventsource import (
    AsyncCommands,
    AsyncWorker,
    Command,
    CommandDiscardedError,
    CommandIdConflictError,
    Commands,
    DeclarationError,
    DomainRuleError,
    EventStore,
    Pace,
    RetryPolicy,
    UnknownCommandError,
    Worker,
    async_schedule,
    command_handler,
    event_context,
    schedule,
)
from sa_eventsource.commands import discard_command, retry_command, waiting_commands
from tests.commands.ordering import Annotate, Base, CountNotes, PlaceOrder, WriteNote, notes
from tests.databases import wait_until_alone
from tests.waiting import wait_until

TABLE = Base.metadata.tables["commands"]
ONCE = RetryPolicy(attempts=1)


def later(engine: Engine, command: Any, **options: Any) -> UUID:
    """Schedule a command and commit."""
    with Session(engine) as session:
        command_id = schedule(session, command, base=Base, **options)
        session.commit()
        return command_id


def _has(engine: Engine, number: int) -> bool:
    return len(notes(engine)) == number


def status(engine: Engine, command_id: UUID) -> str | None:
    with engine.connect() as connection:
        return connection.scalar(select(TABLE.c.status).where(TABLE.c.command_id == command_id))


def run_once(engine: Engine, **options: Any) -> None:
    Worker(engine, Base, only=["commands"], **options).run_once()


class TestTime:
    def test_it_runs_when_it_is_due_and_not_before(self, engine: Engine) -> None:
        later(engine, WriteNote(text="now"))
        later(engine, WriteNote(text="past"), at=datetime.now(UTC) - timedelta(days=1))
        later(engine, WriteNote(text="soon"), after=timedelta(hours=1))
        later(engine, WriteNote(text="on a day"), at=datetime.now(UTC) + timedelta(days=1))
        run_once(engine)
        assert notes(engine) == ["now", "past"]
        with engine.begin() as connection:
            connection.execute(update(TABLE).values(due_at=datetime.now(UTC)))
        run_once(engine)
        assert notes(engine) == ["now", "on a day", "past", "soon"]
        run_once(engine)
        assert len(notes(engine)) == 4

    def test_a_worker_that_waits_is_woken(self, engine: Engine) -> None:
        with Worker(engine, Base):
            for number in range(3):
                later(engine, WriteNote(text=str(number)))
                wait_until(partial(_has, engine, number + 1))
            later(engine, WriteNote(text="later"), after=timedelta(milliseconds=200))
            wait_until(partial(_has, engine, 4))

    def test_a_worker_wakes_for_what_another_process_has_scheduled(self, engine: Engine) -> None:
        command_id = later(engine, WriteNote(text="hidden"), after=timedelta(days=1))
        with Worker(engine, Base), engine.connect() as connection:
            # as another process does it: nobody in this one is told
            connection.execute(update(TABLE).where(TABLE.c.command_id == command_id).values(due_at=datetime.now(UTC)))
            connection.commit()
            wait_until(lambda: notes(engine) == ["hidden"])

    def test_a_worker_whose_table_of_commands_is_yet_to_be_made_waits_for_it(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        later(engine, WriteNote(text="x"))
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE commands RENAME TO made_by_the_migration"))
        with Worker(engine, Base, pace=Pace(longest_outage=0.1)):
            wait_until(lambda: "scheduled commands cannot be worked with" in caplog.text)
            with engine.begin() as connection:
                connection.execute(text("ALTER TABLE made_by_the_migration RENAME TO commands"))
            wait_until(partial(_has, engine, 1))

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"at": datetime.now(UTC), "after": timedelta(1)}, TypeError, "not both"),
            ({"at": datetime.now(UTC).replace(tzinfo=None)}, ValueError, "no time zone"),
            ({"at": "tomorrow"}, TypeError, "at must be a datetime"),
            ({"after": 3}, TypeError, "after must be a timedelta"),
            ({"after": timedelta(-1)}, ValueError, "after must be 0 or more"),
            ({"key": ""}, ValueError, "key must have 1 to 255"),
            ({"key": "k" * 256}, ValueError, "key must have 1 to 255"),
            ({"key": 1}, TypeError, "key must be a str"),
            ({"command_id": "1"}, TypeError, "command_id must be a UUID"),
        ],
    )
    def test_wrong_arguments_are_refused(
        self, options: dict[str, Any], error: type[Exception], message: str, sqlite_engine: Engine
    ) -> None:
        with pytest.raises(error, match=message):
            later(sqlite_engine, WriteNote(text="x"), **options)


class TestTransaction:
    def test_nothing_is_scheduled_by_what_is_rolled_back(self, engine: Engine) -> None:
        with Session(engine) as session:
            schedule(session, WriteNote(text="x"), base=Base)
            session.rollback()
        assert notes(engine) == []
        with engine.connect() as connection:
            assert connection.scalar(select(func.count()).select_from(TABLE)) == 0

    def test_a_handler_schedules_in_its_own_base(self, engine: Engine) -> None:
        class Chain(Command[UUID]):
            pass

        @command_handler(Chain)
        def chain(command: Chain, session: Session) -> UUID:
            return schedule(session, WriteNote(text="chained"))

        Commands(engine, Base).handle(Chain())
        run_once(engine)
        assert notes(engine) == ["chained"]

    def test_what_the_handler_did_is_undone_when_it_fails(self, engine: Engine) -> None:
        command_id = later(engine, WriteNote(text="x", fails=True))
        run_once(engine, retries=ONCE)
        assert notes(engine) == []
        assert status(engine, command_id) == "parked"

    def test_events_know_the_command_and_the_context_of_its_scheduling(self, engine: Engine) -> None:
        correlation_id = uuid4()
        with event_context(correlation_id=correlation_id, user="ann"):
            command_id = later(engine, PlaceOrder(customer_id="ann"))
        run_once(engine)
        with Session(engine) as session:
            (recorded,) = EventStore(session, Base).events.all()
        assert (recorded.correlation_id, recorded.causation_id) == (correlation_id, command_id)
        assert recorded.metadata == {"user": "ann"}


class TestIds:
    def test_under_an_id_it_is_there_once(self, engine: Engine) -> None:
        command_id = uuid4()
        for _ in range(2):
            assert later(engine, WriteNote(text="once"), command_id=command_id) == command_id
        run_once(engine)
        later(engine, WriteNote(text="once"), command_id=command_id)
        run_once(engine)
        assert notes(engine) == ["once"]
        with pytest.raises(CommandIdConflictError):
            later(engine, WriteNote(text="twice"), command_id=command_id)
        with pytest.raises(CommandIdConflictError):
            later(engine, WriteNote(text="twice"), command_id=command_id, key="k")

    def test_what_is_handled_by_hand_does_not_run_again(self, engine: Engine) -> None:
        commands, command = Commands(engine, Base), PlaceOrder(customer_id="ann")
        command_id = later(engine, command, after=timedelta(days=1))
        first = commands.handle(command, command_id=command_id)
        assert not first.is_repetition
        with engine.begin() as connection:
            connection.execute(update(TABLE).values(due_at=datetime.now(UTC)))
        run_once(engine)
        assert commands.handle(command, command_id=command_id).result == first.result
        with Session(engine) as session:
            assert len(EventStore(session, Base).events.all()) == 1

    def test_what_has_run_gives_its_outcome(self, engine: Engine) -> None:
        command = PlaceOrder(customer_id="ann")
        command_id = later(engine, command)
        run_once(engine)
        handled = Commands(engine, Base).handle(command, command_id=command_id)
        assert handled.is_repetition
        assert isinstance(handled.result, UUID)
        assert handled.token is not None


class TestKeys:
    def test_a_key_replaces_what_is_scheduled_under_it(self, engine: Engine) -> None:
        first = later(engine, WriteNote(text="first"), key="k", after=timedelta(days=1))
        second = later(engine, WriteNote(text="second"), key="k")
        later(engine, WriteNote(text="other"), key="j")
        assert (status(engine, first), status(engine, second)) == ("discarded", "scheduled")
        run_once(engine)
        assert notes(engine) == ["other", "second"]

    def test_what_has_run_is_not_replaced(self, engine: Engine) -> None:
        for each in ("first", "second"):
            later(engine, WriteNote(text=each), key="k")
            run_once(engine)
        assert notes(engine) == ["first", "second"]

    def test_under_a_key_and_an_id_it_is_there_once(self, engine: Engine) -> None:
        command_id = uuid4()
        for _ in range(2):
            later(engine, WriteNote(text="once"), key="k", command_id=command_id)
            run_once(engine)
        assert notes(engine) == ["once"]


class TestFailures:
    def test_it_is_tried_again_and_then_parked(self, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
        command_id = later(engine, WriteNote(text="x", fails=True))
        with Worker(engine, Base, retries=RetryPolicy(attempts=3, first_pause=0.01)):
            wait_until(lambda: status(engine, command_id) == "parked")
        with Session(engine) as session:
            (parked,) = waiting_commands(session, Base, only_parked=True)
        assert (parked.attempts, parked.command_id, parked.command_type) == (3, command_id, "ordering.WriteNote")
        assert parked.error is not None
        assert "the ink is dry" in parked.error
        said = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
        assert [("tried again" in each, "parked" in each) for each in said] == [(True, False), (True, False), (False, True)]

    def test_a_rule_that_refuses_is_not_asked_again(self, engine: Engine) -> None:
        class Refuse(Command[None]):
            pass

        @command_handler(Refuse)
        def refuse(command: Refuse, session: Session) -> None:
            raise DomainRuleError("never")

        command_id = later(engine, Refuse())
        run_once(engine)
        assert status(engine, command_id) == "parked"

    def test_one_that_fails_is_in_nobody_s_way(self, engine: Engine) -> None:
        later(engine, WriteNote(text="x", fails=True))
        for number in range(3):
            later(engine, WriteNote(text=str(number)))
        run_once(engine)
        assert notes(engine) == ["0", "1", "2"]

    def test_a_conflict_is_run_again_at_once_and_counts_for_nothing(self, postgres_engine: Engine) -> None:
        commands, attempts = Commands(postgres_engine, Base), []
        order_id = commands.handle(PlaceOrder(customer_id="ann")).result

        class Race(Command[None]):
            pass

        @command_handler(Race)
        def race(command: Race, session: Session) -> None:
            attempts.append(1)
            if len(attempts) < 3:
                from tests.commands.ordering import Order
                from tests.shop import NoteAdded

                order = session.get_one(Order, order_id)
                commands.handle(Annotate(order_id=order_id))
                order.apply_event(NoteAdded(text="urgent"))

        command_id = later(postgres_engine, Race())
        run_once(postgres_engine, retries=ONCE)
        assert (status(postgres_engine, command_id), len(attempts)) == ("done", 3)

    def test_values_that_no_longer_fit_are_parked(self, engine: Engine) -> None:
        command_id = later(engine, WriteNote(text="x"))
        with engine.begin() as connection:
            connection.execute(update(TABLE).values(command_data={"txet": "x"}))
        run_once(engine)
        assert status(engine, command_id) == "parked"

    def test_one_without_a_handler_is_left_to_others(self, engine: Engine) -> None:
        command_id = later(engine, WriteNote(text="x"))
        with engine.begin() as connection:
            connection.execute(update(TABLE).values(command_type="another.Service"))
        run_once(engine)
        assert status(engine, command_id) == "scheduled"

    def test_a_retry_runs_it_and_a_discard_ends_it(self, engine: Engine) -> None:
        failing = WriteNote(text="x", fails=True)
        retried, discarded = later(engine, failing), later(engine, failing)
        run_once(engine, retries=ONCE)
        with Session(engine) as session:
            assert discard_command(session, Base, discarded)
            assert retry_command(session, Base, retried)
            assert not retry_command(session, Base, discarded)
            assert not discard_command(session, Base, uuid4())
            session.commit()
        with engine.begin() as connection:
            connection.execute(update(TABLE).where(TABLE.c.command_id == retried).values(command_data={"text": "mended"}))
        run_once(engine, retries=ONCE)
        assert notes(engine) == ["mended"]
        later(engine, failing, command_id=discarded)
        run_once(engine)
        with Session(engine) as session:
            assert waiting_commands(session, Base) == []
        with pytest.raises(CommandDiscardedError):
            Commands(engine, Base).handle(failing, command_id=discarded)
        assert Commands(engine, Base).prune(older_than=timedelta(0)) == 2


class TestWorkers:
    def test_several_share_what_is_due(self, postgres_engine: Engine) -> None:
        with Session(postgres_engine) as session:
            for number in range(200):
                schedule(session, WriteNote(text=f"{number:03}"), base=Base)
            session.commit()
        workers = [Worker(postgres_engine, Base) for _ in range(4)]
        with workers[0], workers[1], workers[2], workers[3]:
            wait_until(lambda: len(notes(postgres_engine)) >= 200)
        assert notes(postgres_engine) == [f"{number:03}" for number in range(200)]

    def test_several_do_nothing_twice_on_sqlite(self, sqlite_engine: Engine) -> None:
        with Session(sqlite_engine) as session:
            for number in range(30):
                schedule(session, WriteNote(text=f"{number:03}"), base=Base)
            session.commit()
        with Worker(sqlite_engine, Base), Worker(sqlite_engine, Base):
            wait_until(lambda: len(notes(sqlite_engine)) >= 30)
        assert notes(sqlite_engine) == [f"{number:03}" for number in range(30)]

    def test_a_worker_for_other_things_leaves_them(self, engine: Engine) -> None:
        command_id = later(engine, WriteNote(text="x"))
        Worker(engine, Base, only=["commands_order_list"]).run_once()
        assert status(engine, command_id) == "scheduled"
        assert Worker(engine, Base).names == ("commands_order_list", "commands")
        assert Worker(engine, Base, only=["commands"]).names == ("commands",)

    def test_a_base_without_the_table_has_no_such_companion(self, engine: Engine) -> None:
        class OtherBase(DeclarativeBase):
            pass

        assert Worker(engine, OtherBase).names == ()

    def test_a_coroutine_function_is_left_to_an_async_worker(self, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
        command_id = later(engine, CountNotes())
        run_once(engine)
        assert status(engine, command_id) == "scheduled"
        assert "ordering.CountNotes are left alone" in caplog.text

    def test_nothing_is_said_of_a_coroutine_function_whose_commands_are_not_due(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        later(engine, CountNotes(), after=timedelta(hours=1))
        later(engine, WriteNote(text="x"))
        run_once(engine)
        assert notes(engine) == ["x"]
        assert "left alone" not in caplog.text

    async def test_an_async_worker_runs_both_kinds(self, async_engine: AsyncEngine) -> None:
        maker = async_sessionmaker(async_engine)
        commands = AsyncCommands(maker, Base)
        async with AsyncWorker(maker, Base, retries=ONCE), maker() as session:
            counting = await async_schedule(session, CountNotes(), base=Base)
            ordering = await async_schedule(session, PlaceOrder(customer_id="ann"), base=Base, after=timedelta(milliseconds=50))
            failing = await async_schedule(session, WriteNote(text="x", fails=True), base=Base)
            await session.commit()
            done = {counting: "done", ordering: "done", failing: "parked"}
            while await _statuses(session) != done:
                await session.rollback()
        assert (await commands.handle(CountNotes(), command_id=counting)).result == 1


async def _statuses(session: AsyncSession) -> dict[UUID, str]:
    found = await session.execute(select(TABLE.c.command_id, TABLE.c.status))
    return {row.command_id: row.status for row in found}


@pytest.mark.parametrize("is_analyzed", [True, False])
def test_each_is_claimed_by_its_id_however_many_wait(is_analyzed: bool, postgres_engine: Engine) -> None:
    """As long as few were scheduled when the table was analyzed, the planner takes a partial index for as short as a row."""
    Base.metadata.create_all(postgres_engine)
    later(postgres_engine, WriteNote(text="first"))
    run_once(postgres_engine)
    with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if is_analyzed:
            connection.execute(text("VACUUM ANALYZE commands"))
        connection.execute(text(_FILL))  # others, whose handlers are elsewhere
    with Session(postgres_engine) as session:
        for each in range(20):
            schedule(session, WriteNote(text=str(each)), base=Base)
        session.commit()
    before = _entries_read(postgres_engine)
    run_once(postgres_engine)
    assert _has(postgres_engine, 21)
    assert _entries_read(postgres_engine) - before < 20_000  # 40,000 more where each claim walks such an index


_FILL = """
    INSERT INTO commands (command_id, command_type, command_data, status, due_at)
    SELECT gen_random_uuid(), 'another.Service', '{}', 'scheduled', '2026-01-01' FROM generate_series(1, 2000)
"""


def _entries_read(engine: Engine) -> int:
    """How many entries of indexes on the conditions of commands were read; a connection tells when it ends."""
    engine.dispose()
    wait_until_alone(engine)
    with engine.connect() as connection:
        return connection.scalar(text(_READ)) or 0


_READ = """
    SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes WHERE relname = 'commands' AND indexrelname LIKE 'ix\\_commands\\_%'
"""


class TestWhichTable:
    def test_a_command_needs_a_handler(self, engine: Engine) -> None:
        class Unhandled(Command[None]):
            pass

        with pytest.raises(UnknownCommandError):
            later(engine, Unhandled())

    def test_of_several_bases_one_must_be_named(self, engine: Engine) -> None:
        from sa_eventsource import EventSourceOptions
        from sa_eventsource.mapping import tables_of_base

        class OtherBase(DeclarativeBase):
            __eventsource__ = EventSourceOptions(commands="commands")

        tables_of_base("test", OtherBase)
        with Session(engine) as session, pytest.raises(DeclarationError, match="base=Base"):
            schedule(session, WriteNote(text="x"))

    def test_a_base_without_the_table_is_refused(self, engine: Engine) -> None:
        class OtherBase(DeclarativeBase):
            pass

        with Session(engine) as session, pytest.raises(DeclarationError, match='commands="commands"'):
            schedule(session, WriteNote(text="x"), base=OtherBase)

    def test_another_session_is_refused(self, engine: Engine) -> None:
        with pytest.raises(TypeError, match="takes a Session"):
            schedule(sessionmaker(engine), WriteNote(text="x"))  # type: ignore[arg-type]


def test_the_partial_index_serves_the_question(postgres_engine: Engine) -> None:

    with postgres_engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO commands (command_id, command_type, command_data, status, due_at)
                SELECT gen_random_uuid(), 'ordering.WriteNote', '{"text": "x"}',
                       CASE WHEN n % 100 = 0 THEN 'scheduled' ELSE 'done' END, now() + n * interval '1 second'
                FROM generate_series(1, 20000) AS n
            """)
        )
    with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE commands"))
        plan = connection.scalars(
            text("""
                EXPLAIN SELECT command_id FROM commands WHERE status = 'scheduled' AND due_at <= statement_timestamp()
                AND command_type IN ('ordering.WriteNote') ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
            """)
        ).all()
    assert any("ix_commands_due_at" in line for line in plan), plan
