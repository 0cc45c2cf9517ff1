"""Each command has a transaction of its own, which its handler cannot end, and runs again only where nothing of it is committed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, create_engine, event, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource import (
    Announcer,
    AsyncCommands,
    AsyncWorker,
    Command,
    CommandDiscardedError,
    Commands,
    ConcurrencyError,
    HandlerTransactionError,
    Pace,
    RetryPolicy,
    Worker,
    async_schedule,
    command_handler,
    schedule,
)
from sa_eventsource.commands import waiting_commands
from tests.commands.ordering import Base, Note, Order, WriteNote, notes
from tests.databases import number_waiting
from tests.shop import OrderPlaced
from tests.transaction_ends import NOT_TO_BE_PREVENTED
from tests.waiting import wait_until

TABLE = Base.metadata.tables["commands"]
ONCE = RetryPolicy(attempts=1)


class Do(Command[str | None]):
    """Do what the test says."""

    __command_type__ = "own_transactions.Do"
    what: str = ""


class DoAsync(Command[None]):
    """Do what the test says, in a coroutine."""

    __command_type__ = "own_transactions.DoAsync"


deed: list[Callable[[Session, str], Any]] = []
async_deed: list[Callable[[AsyncSession], Any]] = []


@command_handler(Do)
def do(command: Do, session: Session) -> str | None:
    result: str | None = deed[0](session, command.what)
    return result


@command_handler(DoAsync)
async def do_async(command: DoAsync, session: AsyncSession) -> None:
    await async_deed[0](session)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    deed.clear()
    async_deed.clear()


def later(engine: Engine, *commands: Command[Any], **options: Any) -> list[UUID]:
    with Session(engine) as session:
        ids = [schedule(session, each, base=Base, **options) for each in commands]
        session.commit()
        return ids


def run_once(engine: Engine, **options: Any) -> None:
    Worker(engine, Base, only=["commands"], **options).run_once()


def statuses(engine: Engine) -> dict[UUID, str]:
    with engine.connect() as connection:
        return {row.command_id: row.status for row in connection.execute(select(TABLE.c.command_id, TABLE.c.status))}


class TestNothingLeaks:
    def test_what_a_handler_sets_for_its_transaction_ends_with_it(self, postgres_engine: Engine) -> None:
        seen = []

        def set_locally(session: Session, what: str) -> None:
            seen.append(session.scalar(text("SHOW lock_timeout")))
            session.execute(text("SET LOCAL lock_timeout = '7s'"))

        deed.append(set_locally)
        later(postgres_engine, *(Do(what=str(number)) for number in range(8)))
        run_once(postgres_engine)
        assert seen == ["0"] * 8

    def test_a_handler_sees_nothing_of_one_that_was_due_with_it_in_its_session(self, engine: Engine) -> None:
        sessions: set[int] = set()

        def add(session: Session, what: str) -> None:
            assert not session.info.get("mark")
            session.info["mark"] = True
            assert not list(session.identity_map.values())
            sessions.add(id(session.get_transaction()))
            session.add(Note(text=what))
            session.flush()

        deed.append(add)
        later(engine, *(Do(what=str(number)) for number in range(4)))
        run_once(engine, retries=ONCE)
        assert notes(engine) == list("0123")

    def test_one_that_fails_undoes_nothing_of_others(self, engine: Engine) -> None:
        runs: list[str] = []

        def fail_at_two(session: Session, what: str) -> None:
            runs.append(what)
            session.add(Note(text=what))
            if what == "2":
                raise ValueError(what)

        deed.append(fail_at_two)
        later(engine, *(Do(what=str(number)) for number in range(4)))
        run_once(engine, retries=ONCE)
        assert (sorted(runs), notes(engine)) == (list("0123"), list("013"))


def _by_connection(session: Session) -> None:
    session.connection().commit()


def _by_text(session: Session) -> None:
    session.execute(text("COMMIT"))


def _by_connection_rollback(session: Session) -> None:
    session.connection().rollback()


def _by_nested(session: Session) -> None:
    session.begin_nested()
    session.add(Note(text="nested"))
    session.commit()


def _behind_a_comment(session: Session) -> None:
    session.execute(text("/* app */ -- of ours\n COMMIT"))


ENDINGS = [
    _behind_a_comment,
    _by_connection,
    _by_text,
    _by_connection_rollback,
    _by_nested,
    Session.commit,
    Session.rollback,
    Session.close,
]


class TestTheTransactionIsTheLibrarys:
    @pytest.mark.filterwarnings("ignore:transaction already deassociated")  # SQLAlchemy's, of the rollback on the connection
    @pytest.mark.parametrize("ending", ENDINGS, ids=lambda each: each.__name__.strip("_"))
    def test_a_handler_that_ends_it_has_done_nothing(self, ending: Callable[[Session], None], engine: Engine) -> None:
        def end(session: Session, what: str) -> None:
            session.add(Note(text=what))
            session.flush()
            ending(session)
            session.add(Note(text="after"))

        deed.append(end)
        command_id = uuid4()
        for _ in range(2):  # its id is not taken by what was refused
            with pytest.raises(HandlerTransactionError):
                Commands(engine, Base).handle(Do(what="before"), command_id=command_id)
        later(engine, Do(what="before"))
        run_once(engine, retries=ONCE)
        assert notes(engine) == []
        assert list(statuses(engine).values()) == ["parked"]

    @pytest.mark.parametrize("how", NOT_TO_BE_PREVENTED, ids=lambda each: each.__name__)
    @pytest.mark.parametrize("has_id", [True, False])
    def test_a_commit_that_cannot_be_prevented_is_no_outcome(
        self, has_id: bool, how: Callable[[Session], None], engine: Engine
    ) -> None:
        def end(session: Session, what: str) -> None:
            session.add(Note(text=what))
            session.flush()
            how(session)

        deed.append(end)
        command_id = uuid4() if has_id else None
        for _ in range(2):
            with pytest.raises(HandlerTransactionError, match="ended the transaction"):
                Commands(engine, Base).handle(Do(what="half"), command_id=command_id)
        deed[:] = [lambda session, what: "mended"]
        handled = Commands(engine, Base).handle(Do(what="half"), command_id=command_id)
        assert (handled.result, handled.is_repetition, notes(engine)) == ("mended", False, ["half", "half"])

    @pytest.mark.parametrize("how", NOT_TO_BE_PREVENTED, ids=lambda each: each.__name__)
    def test_nor_is_it_one_of_a_command_that_was_due(self, how: Callable[[Session], None], engine: Engine) -> None:
        deed.append(lambda session, what: how(session))
        (command_id,) = later(engine, Do())
        run_once(engine, retries=ONCE)
        assert statuses(engine) == {command_id: "parked"}

    def test_what_needs_no_transaction_has_none(self, postgres_database_url: str) -> None:
        engine = create_engine(postgres_database_url, isolation_level="AUTOCOMMIT")
        Base.metadata.create_all(engine)
        deed.append(lambda session, what: session.scalar(text("SELECT 'fine'")))
        assert Commands(engine, Base).handle(Do()).result == "fine"
        engine.dispose()

    def test_a_handler_may_commit_on_connections_of_its_own(self, postgres_engine: Engine) -> None:
        def elsewhere(session: Session, what: str) -> None:
            with postgres_engine.begin() as connection:
                connection.execute(insert(Note).values(text="elsewhere"))
            Commands(postgres_engine, Base).handle(WriteNote(text="by another command"))
            session.add(Note(text="here"))

        deed.append(elsewhere)
        Commands(postgres_engine, Base).handle(Do())
        assert notes(postgres_engine) == ["by another command", "elsewhere", "here"]

    def test_a_savepoint_that_is_left_open_is_released(self, engine: Engine) -> None:
        def leave_open(session: Session, what: str) -> None:
            session.begin_nested()
            order = Order()
            order.apply_event(OrderPlaced(customer_id="ann", total=Decimal(1)))
            session.add(order)

        deed.append(leave_open)
        handled = Commands(engine, Base).handle(Do(), command_id=uuid4())
        assert handled.token is not None
        assert Commands(engine, Base).handle(Do(), command_id=handled.command_id).token == handled.token

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    def test_what_ends_the_program_leaves_nothing(self, error: type[BaseException], engine: Engine) -> None:
        def end(session: Session, what: str) -> None:
            session.add(Note(text="x"))
            session.flush()
            raise error

        deed.append(end)
        with pytest.raises(error):
            Commands(engine, Base).handle(Do(), command_id=uuid4())
        assert (notes(engine), statuses(engine)) == ([], {})

    def test_a_worker_that_is_interrupted_leaves_nothing(self, engine: Engine) -> None:
        def interrupt(session: Session, what: str) -> None:
            session.add(Note(text="x"))
            session.flush()
            raise KeyboardInterrupt

        deed.append(interrupt)
        (scheduled,) = later(engine, Do())
        with pytest.raises(KeyboardInterrupt):
            run_once(engine)
        assert (notes(engine), statuses(engine)) == ([], {scheduled: "scheduled"})


class TestNothingRunsAgainThatIsCommitted:
    def test_a_conflict_that_is_raised_after_the_commit_is_raised(self, engine: Engine) -> None:
        runs = []

        def add(session: Session, what: str) -> None:
            runs.append(what)
            session.add(Note(text=what))

        def complain(_session: Session) -> None:
            raise ConcurrencyError("Order", "1", expected_version=1)

        deed.append(add)
        maker = sessionmaker(engine)
        event.listen(maker, "after_commit", complain)
        with pytest.raises(ConcurrencyError):
            Commands(maker, Base).handle(Do(what="once"))
        assert (runs, notes(engine)) == (["once"], ["once"])

    def test_a_connection_that_is_lost_with_the_commit_is_tried_again_by_its_id(self, postgres_engine: Engine) -> None:
        """The outcome is unknown to whoever asked; under the id it is the first outcome, done now or then."""

        def add(session: Session, what: str) -> str:
            session.add(Note(text=what))
            return f"noted {what}"

        def lose(connection: Any) -> None:
            raw = connection.connection.driver_connection
            raw.execute("COMMIT")
            raw.close()

        deed.append(add)
        event.listen(postgres_engine, "commit", lose)
        command_id = uuid4()
        with pytest.raises(Exception, match="closed"):
            Commands(postgres_engine, Base).handle(Do(what="x"), command_id=command_id)
        event.remove(postgres_engine, "commit", lose)
        handled = Commands(postgres_engine, Base).handle(Do(what="x"), command_id=command_id)
        assert (handled.is_repetition, handled.result, notes(postgres_engine)) == (True, "noted x", ["x"])

    def test_a_worker_whose_connection_is_lost_with_the_commit_goes_on(
        self, postgres_engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        losses = [1]

        def lose(connection: Any) -> None:
            if losses and notes(other) == [] and connection.engine is postgres_engine:
                raw = connection.connection.driver_connection
                if raw.execute("SELECT count(*) FROM notes").fetchone()[0]:
                    losses.pop()
                    raw.execute("COMMIT")
                    raw.close()

        other = create_engine(postgres_engine.url)
        deed.append(lambda session, what: session.add(Note(text=what)))
        later(postgres_engine, Do(what="1"), Do(what="2"))
        event.listen(postgres_engine, "commit", lose)
        run_once(postgres_engine)
        event.remove(postgres_engine, "commit", lose)
        assert notes(other) == ["1", "2"]
        assert set(statuses(other).values()) == {"done"}
        assert not losses
        assert "has failed" not in caplog.text  # it has not: its commit was there
        other.dispose()


class TestWorkers:
    def test_one_that_finds_only_what_another_is_at_does_not_ask_all_the_time(self, postgres_database_url: str) -> None:
        engines = [create_engine(postgres_database_url) for _ in range(2)]
        begun, go_on, asked = threading.Event(), threading.Event(), []

        def wait(session: Session, what: str) -> None:
            begun.set()
            assert go_on.wait(60)

        deed.append(wait)
        event.listen(engines[1], "before_cursor_execute", lambda *_: asked.append(1))
        pace = Pace(shortest=0.1, longest=0.1)
        with Worker(engines[0], Base, only=["commands"]):
            later(engines[0], Do())
            assert begun.wait(60)
            with Worker(engines[1], Base, only=["commands"], pace=pace):
                wait_until(lambda: asked)
                threading.Event().wait(0.5)  # how often it asks within half a second
            go_on.set()
        assert len(asked) < 50
        for engine in engines:
            engine.dispose()

    def test_one_that_hears_of_commits_looks_seldom_and_is_woken(self, postgres_database_url: str) -> None:
        engines = [create_engine(postgres_database_url) for _ in range(2)]
        Base.metadata.create_all(engines[0])
        asked: list[str] = []
        deed.append(lambda session, what: session.add(Note(text=what)))
        event.listen(engines[1], "before_cursor_execute", lambda _c, _cursor, statement, *_: asked.append(statement))
        pace = Pace(shortest=0.001, longest=0.001, listening=60)
        with Worker(engines[1], Base, only=["commands"], pace=pace, listen=True), Announcer(engines[0]):
            wait_until(lambda: _listeners(engines[0]))
            del asked[:]
            threading.Event().wait(0.5)  # how often it asks within half a second
            assert len(asked) < 60
            later(engines[0], Do(what="woken"))
            wait_until(lambda: notes(engines[0]) == ["woken"])
        for engine in engines:
            engine.dispose()

    def test_a_database_of_the_handlers_own_that_is_away_is_the_handlers_failure(self, engine: Engine) -> None:
        nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1")

        def ask(session: Session, what: str) -> None:
            if what == "away":
                with nowhere.connect():
                    raise AssertionError
            session.add(Note(text=what))

        deed.append(ask)
        away, here = later(engine, Do(what="away"), Do(what="here"))
        run_once(engine, retries=ONCE)
        assert statuses(engine) == {away: "parked", here: "done"}

    @pytest.mark.slow  # PostgreSQL looks for deadlocks after a second
    def test_handlers_that_lock_each_other_out_are_run_again(
        self, postgres_engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        both_have_one = threading.Barrier(2)
        runs: list[str] = []

        def lock_both(session: Session, what: str) -> None:
            runs.append(what)
            for number, note in enumerate(what):
                session.execute(update(Note).where(Note.id == int(note)).values(text=Note.text + what))
                if number == 0 and len(runs) <= 2:
                    both_have_one.wait(60)

        with Session(postgres_engine) as session:
            session.add_all([Note(id=1, text=""), Note(id=2, text="")])
            session.commit()
        deed.append(lock_both)
        with Worker(postgres_engine, Base, retries=ONCE), Worker(postgres_engine, Base, retries=ONCE):
            later(postgres_engine, Do(what="12"), Do(what="21"))
            wait_until(lambda: set(statuses(postgres_engine).values()) == {"done"})
        assert len(runs) == 3
        assert {frozenset((each[:2], each[2:])) for each in notes(postgres_engine)} == {frozenset(("12", "21"))}
        assert "has failed" not in caplog.text

    @pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
    def test_several_share_what_is_due_at_higher_isolation(self, level: str, postgres_database_url: str) -> None:
        engine = create_engine(postgres_database_url, isolation_level=level, pool_size=20)
        later(engine, *(WriteNote(text=f"{number:02}") for number in range(40)))
        with Worker(engine, Base), Worker(engine, Base):
            wait_until(lambda: set(statuses(engine).values()) == {"done"})
        assert notes(engine) == [f"{number:02}" for number in range(40)]
        engine.dispose()

    async def test_a_task_of_the_handlers_own_that_was_cancelled_is_the_handlers_failure(self, async_engine: AsyncEngine) -> None:
        async def wait_in_vain(session: AsyncSession) -> None:
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task

        async_deed.append(wait_in_vain)
        maker = async_sessionmaker(async_engine)
        async with AsyncWorker(maker, Base, retries=ONCE), maker() as session:
            await async_schedule(session, DoAsync(), base=Base)
            await session.commit()
            while await session.scalar(select(TABLE.c.status)) != "parked":
                await session.rollback()

    async def test_a_caller_that_is_cancelled_has_done_nothing(self, async_engine: AsyncEngine) -> None:
        begun = asyncio.Event()

        async def wait(session: AsyncSession) -> None:
            session.add(Note(text="x"))
            await session.flush()
            begun.set()
            await asyncio.Event().wait()

        async_deed.append(wait)
        maker = async_sessionmaker(async_engine)
        task = asyncio.create_task(AsyncCommands(maker, Base).handle(DoAsync(), command_id=uuid4()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with maker() as session:
            assert await session.scalar(select(func.count()).select_from(Note)) == 0
            assert await session.scalar(select(func.count()).select_from(TABLE)) == 0


class TestTimes:
    @pytest.mark.parametrize("after", [timedelta.max, timedelta(days=365 * 8000), timedelta(days=3_000_000)])
    def test_a_delay_beyond_all_time_is_refused(self, after: timedelta, engine: Engine) -> None:
        with pytest.raises(ValueError, match="cannot be read back from a database"):
            later(engine, WriteNote(text="x"), after=after)

    def test_a_far_moment_stands_in_nobody_s_way(self, engine: Engine) -> None:
        later(engine, WriteNote(text="far"), after=timedelta(days=365 * 7000))
        later(engine, WriteNote(text="now"))
        run_once(engine)
        assert notes(engine) == ["now"]

    @pytest.mark.parametrize(
        ("local", "utc"),
        [
            (datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
            (datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
            (datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
            (datetime(2026, 5, 4, 12, tzinfo=timezone(timedelta(hours=-9, minutes=-30))), datetime(2026, 5, 4, 21, 30, tzinfo=UTC)),
        ],
        ids=["first of two", "second of two", "one that is left out", "an odd zone"],
    )
    def test_a_moment_is_the_same_in_every_zone(self, local: datetime, utc: datetime, engine: Engine) -> None:
        later(engine, WriteNote(text="x"), at=local)
        with Session(engine) as session:
            (waiting,) = waiting_commands(session, Base)
        assert waiting.due_at == utc

    def test_pruning_goes_by_the_database_s_clock(self, postgres_engine: Engine) -> None:
        commands = Commands(postgres_engine, Base)
        commands.handle(WriteNote(text="x"), command_id=uuid4())
        assert commands.prune(older_than=timedelta.max) == 0
        with postgres_engine.begin() as connection:
            connection.execute(update(TABLE).values(handled_at=func.clock_timestamp() - timedelta(hours=2)))
        assert commands.prune(older_than=timedelta(hours=3)) == 0
        assert commands.prune(older_than=timedelta(hours=1)) == 1


class TestKeys:
    def test_what_was_replaced_is_known_by_its_id(self, engine: Engine) -> None:
        first, second = uuid4(), uuid4()
        later(engine, WriteNote(text="first"), key="k", command_id=first)
        later(engine, WriteNote(text="second"), key="k", command_id=second)
        assert statuses(engine) == {first: "discarded", second: "scheduled"}
        run_once(engine)
        later(engine, WriteNote(text="first"), key="k", command_id=first)  # as from an event that is taken once more
        run_once(engine)
        assert notes(engine) == ["second"]
        with pytest.raises(CommandDiscardedError, match="under its key"):
            Commands(engine, Base).handle(WriteNote(text="first"), command_id=first)

    def test_a_command_that_schedules_the_next_under_its_own_key_is_done(self, engine: Engine) -> None:
        def again(session: Session, what: str) -> None:
            session.add(Note(text=what))
            schedule(session, Do(what=f"{what}+"), key="daily", after=timedelta(days=1))

        deed.append(again)
        (first,) = later(engine, Do(what="1"), key="daily")
        run_once(engine)
        assert statuses(engine)[first] == "done"
        with engine.begin() as connection:
            connection.execute(update(TABLE).where(TABLE.c.status == "scheduled").values(due_at=datetime.now(UTC)))
        run_once(engine)
        assert notes(engine) == ["1", "1+"]
        assert sorted(statuses(engine).values()) == ["done", "done", "scheduled"]

    def test_replacing_one_that_runs_waits_and_is_a_new_one(self, postgres_engine: Engine) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def wait(session: Session, what: str) -> None:
            session.add(Note(text=what))
            if what == "first":
                begun.set()
                assert go_on.wait(60)

        deed.append(wait)
        later(postgres_engine, Do(what="first"), key="k")
        with Worker(postgres_engine, Base, only=["commands"]):
            assert begun.wait(60)
            replacing = threading.Thread(target=later, args=(postgres_engine, Do(what="second")), kwargs={"key": "k"})
            replacing.start()
            wait_until(lambda: number_waiting(postgres_engine))
            go_on.set()
            replacing.join()
            wait_until(lambda: len(notes(postgres_engine)) == 2)
        assert notes(postgres_engine) == ["first", "second"]

    def test_many_who_schedule_the_same_have_it_once(self, postgres_engine: Engine) -> None:
        options = {"key": "k", "command_id": UUID(int=1)}
        errors: list[BaseException] = []

        def schedule_and_run() -> None:
            try:
                later(postgres_engine, WriteNote(text="once"), **options)
                run_once(postgres_engine)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=schedule_and_run) for _ in range(12)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert (errors, notes(postgres_engine), statuses(postgres_engine)) == ([], ["once"], {UUID(int=1): "done"})

    def test_many_who_replace_each_other_leave_one(self, postgres_engine: Engine) -> None:
        threads = [
            threading.Thread(target=later, args=(postgres_engine, WriteNote(text=str(number))), kwargs={"key": "k"})
            for number in range(12)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(statuses(postgres_engine).values()) == ["discarded"] * 11 + ["scheduled"]


def _listeners(engine: Engine) -> int:
    with engine.connect() as connection:
        question = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"
        return connection.scalar(text(question)) or 0
