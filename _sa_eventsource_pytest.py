"""The pytest plugin of sa_eventsource: options and fixtures. Whatever they need is imported when a test asks for one of them.

It is a module of its own, outside of the package, as pytest imports it in every run of whoever has the package installed: importing
the package itself takes the better part of a second, and would come before coverage is measured.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FOLDER = pytest.StashKey[Path]()
_WORKER_INPUT = "sa_eventsource_folder"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare how a project says which declarative base is tested, and on which server."""
    group = parser.getgroup("sa_eventsource", "sa_eventsource: tests on PostgreSQL")
    group.addoption("--eventsource-base", metavar="MODULE:NAME", help="the declarative base, such as shop.models:Base")
    group.addoption(
        "--eventsource-url",
        metavar="URL",
        help="SQLAlchemy URL of a database on a PostgreSQL server where databases may be created; an embedded server by default",
    )
    parser.addini("eventsource_base", "the declarative base, such as shop.models:Base")
    parser.addini("eventsource_url", "SQLAlchemy URL of a database on the PostgreSQL server to use; an embedded one by default")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the embedded server is, or will be: all share one."""
    node.workerinput[_WORKER_INPUT] = str(_server_folder(node.config))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the embedded server, if there was one."""
    folder = config.stash.get(_FOLDER, None)
    if folder is None or hasattr(config, "workerinput"):
        return
    if (folder / "postmaster.pid").exists():
        _implementation("embedded_server").stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _server_folder(config: pytest.Config) -> Path:
    """Get the folder of the embedded server, made at the first call."""
    given: Path | None = config.stash.get(_FOLDER, None)
    if given is None:
        worker_input = getattr(config, "workerinput", {})
        # Not in pytest's folder, which is closed to the user that the server runs as where the tests run as root.
        given = Path(worker_input.get(_WORKER_INPUT) or tempfile.mkdtemp(prefix="sa_eventsource_"))
        config.stash[_FOLDER] = given
    return given


def _implementation(name: str) -> Any:
    return import_module(f"sa_eventsource.testing.pytest_support.{name}")


@pytest.fixture(scope="session")
def eventsource_base(pytestconfig: pytest.Config) -> Any:
    """The declarative base that is tested: the ini option ``eventsource_base``, or this fixture overridden in ``conftest.py``."""
    return _implementation("declared_base").base_named_by(pytestconfig)


@pytest.fixture(scope="session")
def eventsource_server(pytestconfig: pytest.Config) -> Iterator[str]:
    """SQLAlchemy URL of the server's maintenance database: the one that is named, or an embedded server."""
    with _implementation("embedded_server").server(pytestconfig, lambda: _server_folder(pytestconfig)) as url:
        yield url


@pytest.fixture(scope="session")
def eventsource_create_tables(eventsource_base: Any) -> Callable[[Any], None]:
    """What puts the tables into the template database: ``create_all`` of the base; override it to migrate instead."""
    create: Callable[[Any], None] = eventsource_base.metadata.create_all
    return create


@pytest.fixture(scope="session")
def eventsource_template(eventsource_server: str, eventsource_create_tables: Callable[[Any], None]) -> Iterator[Any]:
    """The template database, which each test that commits gets a clone of."""
    with _implementation("template_database").template(eventsource_server, eventsource_create_tables) as made:
        yield made


@pytest.fixture
def eventsource_url(eventsource_template: Any) -> Iterator[str]:
    """SQLAlchemy URL of a database of the test's own: a clone of the template, dropped at the end."""
    with eventsource_template.clone() as url:
        yield url


@pytest.fixture
def eventsource_engine(eventsource_url: str) -> Iterator[Any]:
    """Engine on a database of the test's own, in which it may commit and others see what it commits."""
    with _implementation("template_database").engine(eventsource_url) as made:
        yield made


@pytest.fixture
def eventsource_sessions(eventsource_engine: Any) -> Any:
    """What makes sessions on the test's own database: a ``sessionmaker``."""
    return _implementation("template_database").session_maker(eventsource_engine)


@pytest.fixture
def eventsource_session(request: pytest.FixtureRequest, eventsource_template: Any) -> Iterator[Any]:
    """Session whose commits are rolled back at the end, together with all else: quick, and for what takes no other connection."""
    support = _implementation("rolled_back")
    support.refuse_beside_worker(request)
    with support.session(eventsource_template) as made:
        yield made


@pytest.fixture
def eventsource_worker(request: pytest.FixtureRequest, eventsource_base: Any) -> Any:
    """Lets read models, subscriptions, processes and commands do what there is to do, until idle: ``eventsource_worker.run()``."""
    _implementation("rolled_back").refuse_beside_session(request)
    return _implementation("idle_worker").IdleWorker(request.getfixturevalue("eventsource_engine"), eventsource_base)


@pytest.fixture
def eventsource_async_engine(eventsource_url: str) -> Any:
    """Asynchronous engine on a database of the test's own."""
    return _implementation("for_asyncio").async_engine(eventsource_url)


@pytest.fixture
def eventsource_async_sessions(eventsource_async_engine: Any) -> Any:
    """What makes asynchronous sessions on the test's own database."""
    return _implementation("for_asyncio").async_session_maker(eventsource_async_engine)


@pytest.fixture
def eventsource_async_session(request: pytest.FixtureRequest, eventsource_template: Any) -> Iterator[Any]:
    """Asynchronous session whose commits are rolled back at the end. As ``eventsource_session``."""
    _implementation("rolled_back").refuse_beside_worker(request)
    with _implementation("for_asyncio").async_session(eventsource_template) as made:
        yield made


@pytest.fixture
def eventsource_async_worker(request: pytest.FixtureRequest, eventsource_base: Any) -> Any:
    """As ``eventsource_worker``, for handlers that are coroutine functions too: ``await eventsource_async_worker.run()``."""
    _implementation("rolled_back").refuse_beside_session(request)
    engine = request.getfixturevalue("eventsource_async_engine")
    return _implementation("for_asyncio").AsyncIdleWorker(engine, eventsource_base)


@pytest.fixture
def eventsource_races(eventsource_engine: Any) -> Any:
    """``races()`` on the test's own database: ``eventsource_races(setup, [transfer, transfer], invariant=...)``."""
    return _implementation("own_races").races_on(eventsource_engine)


@pytest.fixture
def eventsource_async_races(eventsource_async_sessions: Any) -> Any:
    """``async_races()`` on the test's own database. As ``eventsource_races``."""
    return _implementation("own_races").async_races_on(eventsource_async_sessions)


@pytest.fixture
def assert_statements(request: pytest.FixtureRequest) -> Any:
    """Checks how many statements a block sends to the database: a function that makes a context manager."""
    return _implementation("statement_counts").StatementCounts(request)
