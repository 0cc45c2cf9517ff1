"""The pytest plugin in tests of an application: a database for each test, rolled-back sessions, workers, statement counts."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest_plugins = ["pytester"]

MODELS = """
from datetime import timedelta
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session
from sa_eventsource import (
    AggregateRoot, After, Command, DomainEvent, EventSourceOptions, ProcessManager, ReadModel, applies, command_handler,
    map_from_event, reacts, schedule, subscribe,
)

class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")

class Placed(DomainEvent):
    total: int

class Cancelled(DomainEvent):
    pass

class Awaited(DomainEvent):
    pass

class Order(AggregateRoot, Base):
    status: str = "new"

    def place(self, total):
        self.apply_event(Placed(total=total))

    @applies(Placed)
    def _placed(self, event):
        self.status = "placed"

    @applies(Cancelled)
    def _cancelled(self, event):
        self.status = "cancelled"

class OrderList(ReadModel, Base):
    id: Mapped[str]
    total: Mapped[int] = map_from_event(Placed)
    status: Mapped[str] = map_from_event({Placed: "placed", Cancelled: "cancelled"})

class Strong(ReadModel, Base):
    __consistency__ = "strong"
    id: Mapped[str]
    total: Mapped[int] = map_from_event(Placed)

class Cancel(Command[None]):
    order_id: str

class Ring(Command[None]):
    order_id: str

class Fulfilment(ProcessManager, Base):
    @reacts(Placed)
    def on_placed(self, event):
        return [Awaited(), After(timedelta(minutes=30), Cancel(order_id=self.id))]

    @applies(Awaited)
    def _awaited(self, event):
        pass

rung = []

@command_handler(Cancel)
def cancel(command, session):
    session.get_one(Order, command.order_id).apply_event(Cancelled())

@command_handler(Ring)
async def ring(command, session: AsyncSession):
    await session.get_one(Order, command.order_id)
    rung.append(command.order_id)

@subscribe("greeting", Placed, base=Base)
def greet(event, session):
    if event.event.total > 1000:
        raise ValueError("too much to greet")
"""

INI = """
[pytest]
eventsource_base = models:Base
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings =
    error
    ignore:XDG_RUNTIME_DIR is not set
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An application's folder, with its models and an ini file."""
    pytester.makepyfile(models=MODELS)
    pytester.makefile(".ini", pytest=INI)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(pytester.path)]))
    monkeypatch.delenv("SA_EVENTSOURCE_TEST_URL", raising=False)
    return pytester


def run(project: pytest.Pytester, test: str, *options: str) -> pytest.RunResult:
    """Run a module of tests as its owner would, in a process of its own."""
    project.makepyfile(test_it=test)
    is_installed = any(each.value == "_sa_eventsource_pytest" for each in entry_points(group="pytest11"))
    plugin = () if is_installed else ("-p", "_sa_eventsource_pytest")
    return project.runpytest_subprocess(*plugin, "-p", "no:pytest_alembic", *options, timeout=120)


TESTS = """
from datetime import timedelta
import pytest
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.orm import Session
from sa_eventsource import schedule
from models import *

def place(session, order_id, total=5):
    order = Order(id=order_id)
    order.place(total)
    session.add(order)
    session.commit()

@pytest.mark.parametrize("number", [1, 2])
def test_commits_are_rolled_back(eventsource_session, number):
    place(eventsource_session, "o-1")
    assert eventsource_session.get_one(Order, "o-1").status == "placed"
    assert eventsource_session.get_one(Strong, "o-1").total == 5
    eventsource_session.get_one(Order, "o-1").place(6)
    eventsource_session.rollback()
    assert eventsource_session.get_one(Order, "o-1").version == 1

@pytest.mark.parametrize("number", [1, 2])
def test_each_test_has_a_database(eventsource_sessions, eventsource_engine, number):
    with eventsource_sessions() as session:
        place(session, "o-1")
    with Session(eventsource_engine) as session:
        assert session.get_one(Order, "o-1").version == 1
        assert session.execute(text("SELECT count(*) FROM events")).scalar_one() == 1

def test_a_worker_runs_until_nothing_follows(eventsource_sessions, eventsource_worker):
    with eventsource_sessions() as session:
        place(session, "o-1")
        eventsource_worker.run()
        assert session.get_one(OrderList, "o-1").status == "placed"
        session.rollback()
        eventsource_worker.run(after=timedelta(minutes=29))
        assert session.get_one(Order, "o-1", populate_existing=True).status == "placed"
        session.rollback()
        eventsource_worker.run(after=timedelta(minutes=1))
        session.expire_all()
        assert session.get_one(Order, "o-1").status == "cancelled"
        assert session.get_one(OrderList, "o-1").status == "cancelled"

def test_what_could_not_be_done_is_an_error(eventsource_sessions, eventsource_worker):
    with eventsource_sessions() as session:
        place(session, "o-1", 2000)
    with pytest.raises(AssertionError, match="greeting could not go on: (?s:.*)too much to greet"):
        eventsource_worker.run()
    eventsource_worker.run(check=False)

def test_a_command_that_failed_is_an_error(eventsource_sessions, eventsource_worker):
    with eventsource_sessions() as session:
        schedule(session, Cancel(order_id="nothing"))
        session.commit()
    with pytest.raises(AssertionError, match="Cancel was not handled: (?s:.*)NoResultFound"):
        eventsource_worker.run()

def test_a_command_that_has_to_be_awaited_is_not_forgotten(eventsource_sessions, eventsource_worker):
    with eventsource_sessions() as session:
        schedule(session, Ring(order_id="o-1"))
        session.commit()
    with pytest.raises(AssertionError, match="Ring is due.*eventsource_async_worker"):
        eventsource_worker.run()

def test_statements_are_counted(eventsource_session, assert_statements):
    with assert_statements(2) as sent:  # the event, and the row of the strong model
        place(eventsource_session, "o-1")
    assert sent[0].startswith("INSERT INTO events")
    eventsource_session.expunge_all()
    with assert_statements(at_most=1):
        eventsource_session.get_one(Order, "o-1")
    with pytest.raises(AssertionError, match=r"expected 0, but 1 statement went to the database\\n  1. SELECT"):
        with assert_statements(0):
            eventsource_session.execute(text("SELECT 1"))
    with pytest.raises(ZeroDivisionError):
        with assert_statements(5):
            1 / 0
    with pytest.raises(TypeError):
        with assert_statements():
            pass

def test_of_an_engine_that_is_named(eventsource_url, assert_statements):
    with pytest.raises(TypeError, match="name it"):
        with assert_statements(0):
            pass
    engine = create_engine(eventsource_url)
    with assert_statements(1, engine), engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()

@pytest.mark.parametrize("number", [1, 2])
async def test_asynchronous_commits_are_rolled_back(eventsource_async_session, assert_statements, number):
    order = Order(id="a-1")
    order.place(5)
    eventsource_async_session.add(order)
    with assert_statements(2):
        await eventsource_async_session.commit()
    assert order.version == 1, "which is not expired, as it could not be loaded here"
    assert (await eventsource_async_session.get_one(Order, "a-1")).version == 1
    order.place(6)
    await eventsource_async_session.flush()

async def test_an_asynchronous_worker(eventsource_async_sessions, eventsource_async_worker):
    async with eventsource_async_sessions() as session:
        order = Order(id="a-1")
        order.place(5)
        session.add(order)
        await session.run_sync(schedule, Ring(order_id="a-1"))
        await session.commit()
        await eventsource_async_worker.run(after=timedelta(minutes=30))
        assert (await session.get_one(OrderList, "a-1")).status == "cancelled"
    assert rung == ["a-1"]
    async with eventsource_async_sessions() as session:
        order = Order(id="a-2")
        order.place(5000)
        session.add(order)
        await session.commit()
    with pytest.raises(AssertionError, match="greeting could not go on"):
        await eventsource_async_worker.run()
"""


def test_the_fixtures(project: pytest.Pytester, postgres_url: str) -> None:
    run(project, TESTS, f"--eventsource-url={postgres_url}").assert_outcomes(passed=13)


@pytest.mark.slow
def test_workers_of_xdist_share_an_embedded_server(project: pytest.Pytester) -> None:
    result = run(project, TESTS, "-n2")
    result.assert_outcomes(passed=13)


def test_a_worker_beside_a_rolled_back_session_is_refused(project: pytest.Pytester, postgres_url: str) -> None:
    test = """
    def test_it(eventsource_session, eventsource_worker): pass
    def test_turned_round(eventsource_worker, eventsource_session): pass
    async def test_async(eventsource_async_session, eventsource_async_worker): pass
    """
    result = run(project, test, f"--eventsource-url={postgres_url}")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        [
            "eventsource_worker cannot follow what eventsource_session writes*create_savepoint*",
            "    def test_it(eventsource_sessions, eventsource_worker):",
            "        with eventsource_sessions() as session:",
            "    async def test_it(eventsource_async_sessions, eventsource_async_worker):",
            "        await eventsource_async_worker.run()",
        ]
    )


def test_the_base_is_named_or_overridden(project: pytest.Pytester, postgres_url: str) -> None:
    test = "def test_it(eventsource_session): pass"
    project.makefile(".ini", pytest=INI.replace("eventsource_base = models:Base", ""))
    result = run(project, test, f"--eventsource-url={postgres_url}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*Say which declarative base is tested: eventsource_base = *"])
    result = run(project, test, f"--eventsource-url={postgres_url}", "--eventsource-base=models:Order.nothing")
    result.stdout.fnmatch_lines(["*'models:Order.nothing' is not a declarative base*"])
    project.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def eventsource_base():
            from models import Base
            return Base

        @pytest.fixture(scope="session")
        def eventsource_create_tables(eventsource_base):
            def create(engine):
                eventsource_base.metadata.create_all(engine)
                with engine.begin() as connection:
                    connection.exec_driver_sql("CREATE TABLE of_a_migration (id int)")
            return create
        """
    )
    migrated = """
    def test_it(eventsource_engine):
        with eventsource_engine.connect() as connection:
            assert connection.exec_driver_sql("TABLE of_a_migration").all() == []
    """
    run(project, migrated, f"--eventsource-url={postgres_url}").assert_outcomes(passed=1)


def test_a_run_that_asks_for_nothing_imports_nothing(project: pytest.Pytester) -> None:
    test = "import sys\ndef test_it(): assert not {'sa_eventsource', 'sqlalchemy', 'pydantic'} & sys.modules.keys()"
    run(project, test, "-p", "no:hypothesispytest").assert_outcomes(passed=1)


def test_a_failing_scenario_points_at_the_test(project: pytest.Pytester) -> None:
    test = """
    from models import *
    from sa_eventsource.testing import scenario

    def test_it():
        scenario(Order).when(lambda order: order.place(5)).then(Placed(total=6))
    """
    result = run(project, test)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       scenario(Order).when(lambda order: order.place(5)).then(Placed(total=6))",
            "E       AssertionError: other events than expected",
            "E         1. Placed.total: expected 6, is 5",
            "E       -     total=6,",
            "E       [+]     total=5,",
            "test_it.py:5: AssertionError",
        ]
    )
    result.stdout.no_fnmatch_line("*scenarios.py*")


def test_races_run_on_the_database_of_the_test(project: pytest.Pytester) -> None:
    test = """
import pytest
from models import Order
from sa_eventsource import RaceFoundError

def placed(session):
    order = Order()
    order.place(1)
    session.add(order)
    return order.id

def place_again(session, order_id):
    session.get_one(Order, order_id).place(2)
    session.commit()

def test_conflicts_are_found(eventsource_races):
    report = eventsource_races(placed, [place_again, place_again], invariant=lambda session, order_id: True)
    assert report.is_exhaustive and report.conflicts
    with pytest.raises(RaceFoundError):
        eventsource_races(
            placed, [place_again, place_again], invariant=lambda session, order_id: True, conflicts_are_legal=False
        )

async def test_conflicts_are_found_by_tasks(eventsource_async_races):
    async def setup(session):
        return placed(session)

    async def again(session, order_id):
        (await session.get_one(Order, order_id)).place(2)
        await session.commit()

    async def fine(session, order_id):
        return True

    report = await eventsource_async_races(setup, [again, again], invariant=fine)
    assert report.is_exhaustive and report.conflicts
"""
    run(project, test).assert_outcomes(passed=2)
