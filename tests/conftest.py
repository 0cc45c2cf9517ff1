"""Fixtures that all tests share: databases, engines, and a record of the statements that go to them."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, MetaData, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from sa_eventsource.events.event_types import revision
from tests.database_roles import ROLES_OF_THE_RUN, drop_roles
from tests.databases import DatabasePool, EmbeddedServer, configure_sqlite, own_server, sqlite_file_with
from tests.processes import end_all, guard
from tests.shared_domains import changes_of_shared_events
from tests.statement_log import record_statements

settings.register_profile("default", deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), max_examples=25, derandomize=True, print_blob=True)
settings.register_profile("again", settings.get_profile("ci"), max_examples=10)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_POSTGRESQL_FIXTURES = {"postgres_url", "postgres_databases", "postgres_database_url", "postgres_engine", "preparing_server"}
_BOTH = ["postgresql", "sqlite"]
_SERVER_FOLDER = pytest.StashKey[Path]()

_OF_TERMINALS = ("CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "LINES", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE")
"""What rich and Typer go by, and pytest too: whoever runs the tests in colour does not mean the programs that they run."""


def pytest_configure(config: pytest.Config) -> None:
    """Make a folder for the embedded server, which the workers of pytest-xdist share, and heed interrupts, which tests send."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in _OF_TERMINALS:
        os.environ.pop(each, None)
    worker_input = getattr(config, "workerinput", None)
    # Not in pytest's folder, which is closed to the user that the server runs as where the tests run as root.
    config.stash[_SERVER_FOLDER] = Path(
        worker_input["server_folder"] if worker_input else tempfile.mkdtemp(prefix="sa_eventsource_")
    )
    if not worker_input:
        guard("server", config.stash[_SERVER_FOLDER])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where the embedded server is, or will be."""
    node.workerinput["server_folder"] = str(node.config.stash[_SERVER_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the embedded server; stop it first where a worker died and left it running."""
    folder = config.stash.get(_SERVER_FOLDER, None)
    if folder is None or hasattr(config, "workerinput"):
        return
    if (folder / "postmaster.pid").exists():
        EmbeddedServer(folder).stop_for_all()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from what is imported, all of which stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a PostgreSQL server, so that it can be run on another one (``-m database``), and what is slow on SQLite."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} has another name in each process; use ids=plainly of tests.parameters")
        fixtures = set(getattr(item, "fixturenames", ()))
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if fixtures & _POSTGRESQL_FIXTURES or "postgresql" in parameters.values():
            item.add_marker(pytest.mark.database)
        if "sqlite" in parameters.values() and item.get_closest_marker("slow_on_sqlite"):
            item.add_marker(pytest.mark.slow)


_tests_run = itertools.count(1)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    """Take what earlier tests left, such as their classes, out of the garbage collector's rounds.

    Each round over all of it takes a second in the end, and there are many rounds: they were a third of the processor's time.
    What a test makes itself is collected as usual.
    """
    if next(_tests_run) % 25 == 1:
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """End the processes of a test before its fixtures go: none is in the way of emptying the database that it worked in."""
    end_all()


@pytest.fixture(autouse=True)
def _shared_events_stay_as_they_are() -> Iterator[None]:
    """A test declares events of its own where it needs further kinds, or upcasters."""
    before = revision()
    yield
    assert revision() == before or not [*changes_of_shared_events()]


@pytest.fixture(scope="session")
def postgres_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """URL of a PostgreSQL server: the one named by SA_EVENTSOURCE_TEST_URL, or else an embedded one."""
    named = os.environ.get("SA_EVENTSOURCE_TEST_URL")
    if named:
        yield named
        return
    server = EmbeddedServer(pytestconfig.stash[_SERVER_FOLDER])  # which other workers use too
    try:
        server.stop_waiting_for_the_disk()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def preparing_server() -> Iterator[EmbeddedServer]:
    """A further embedded server, which has prepared transactions."""
    with own_server() as server:
        server.stop_waiting_for_the_disk()
        engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("ALTER SYSTEM SET max_prepared_transactions = 20"))
        engine.dispose()
        server.crash()
        server.restart()
        yield server


@pytest.fixture
def preparing_engine(preparing_server: EmbeddedServer) -> Iterator[Engine]:
    """Engine on an empty PostgreSQL database that has prepared transactions."""
    pool = DatabasePool(preparing_server.url)
    with pool.database() as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()
    pool.close()


@pytest.fixture(scope="session")
def postgres_databases(postgres_url: str) -> Iterator[DatabasePool]:
    """Empty databases, for tests that need more than one: ``with postgres_databases.database() as url:``."""
    pool = DatabasePool(postgres_url)
    yield pool
    pool.close()
    engine = create_engine(postgres_url)
    drop_roles(engine, *ROLES_OF_THE_RUN)
    engine.dispose()


@pytest.fixture
def tables() -> MetaData | None:
    """The tables that a test's databases have from the beginning; a folder or a module says which.

    They are there in a quarter of the time that ``create_all`` takes.
    """
    return None


@pytest.fixture
def postgres_database_url(postgres_databases: DatabasePool, tables: MetaData | None) -> Iterator[str]:
    """URL of a PostgreSQL database of the test's own, without a row."""
    with postgres_databases.database(tables) as url:
        yield url


@pytest.fixture
def postgres_engine(postgres_database_url: str) -> Iterator[Engine]:
    """Engine on a PostgreSQL database of the test's own, without a row."""
    engine = create_engine(postgres_database_url, pool_size=20)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite_file(tmp_path: Path, tables: MetaData | None) -> Path:
    """A SQLite file of the test's own, without a row."""
    path = tmp_path / "test.db"
    if tables is not None:
        path.write_bytes(sqlite_file_with(tables))
    return path


@pytest.fixture
def sqlite_engine(sqlite_file: Path) -> Iterator[Engine]:
    """Engine on a SQLite file of the test's own, without a row."""
    engine = create_engine(f"sqlite:///{sqlite_file}")
    configure_sqlite(engine)
    yield engine
    engine.dispose()


@pytest.fixture(params=_BOTH)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Engine on a database of each kind in turn, without a row."""
    found: Engine = request.getfixturevalue("postgres_engine" if request.param == "postgresql" else "sqlite_engine")
    return found


@pytest.fixture(params=_BOTH)
async def async_engine(request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """Asynchronous engine on a database of each kind in turn, without a row."""
    if request.param == "postgresql":
        url = make_url(request.getfixturevalue("postgres_database_url"))
        engine = create_async_engine(url, poolclass=NullPool)
    else:
        engine = create_async_engine(f"sqlite+aiosqlite:///{request.getfixturevalue('sqlite_file')}", poolclass=NullPool)
        configure_sqlite(engine.sync_engine)
    yield engine
    await engine.dispose()


@pytest.fixture
def statements() -> Callable[[Engine], AbstractContextManager[list[str]]]:
    """``with statements(engine) as log:`` records SQL statements, with BEGIN, COMMIT, ROLLBACK and savepoints."""
    return record_statements


@pytest.fixture
def server_version(postgres_engine: Engine) -> int:
    """The server's major version."""
    with postgres_engine.connect() as connection:
        number = connection.scalar(text("SELECT current_setting('server_version_num')::int"))
        assert number is not None
        return int(number) // 10000
