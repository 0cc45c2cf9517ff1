"""What all commands share: the application, the base, the URL, and how errors are shown."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData

from sa_eventsource.cli.target import make_engine
from tests.cli.commands import BASE, ROOT, call, fail, start, succeed
from tests.orders import Base

pytestmark = pytest.mark.slow_on_sqlite


def test_no_arguments_show_the_commands() -> None:
    result = call()
    for command in ("events", "show", "export", "import"):
        assert command in result.output


def test_the_version_is_that_of_the_package() -> None:
    result = call("--version")
    assert result.exit_code == 0
    assert result.stdout == f"sa_eventsource {version('sa_eventsource')}\n"


@pytest.mark.parametrize("command", ["events", "show", "export", "import"])
def test_each_command_has_help(command: str) -> None:
    result = call(command, "--help", TERM="dumb")
    assert result.exit_code == 0
    assert "MODULE:BASE" in result.output


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("tests.orders", "does not name a declarative base; write MODULE:NAME"),
        (":Base", "does not name a declarative base"),
        ("./app/models.py:Base", "'./app/models.py' is a file; name the module: app.models:Base"),
        (
            "no_such_module_at_all:Base",
            "No module named 'no_such_module_at_all'; run it in the folder that has 'no_such_module_at_all'",
        ),
        ("tests.nowhere:Base", "No module named 'tests.nowhere'"),
        ("tests.orders:Bass", "module 'tests.orders' has no 'Bass'; did you mean 'Base'?"),
        ("tests.orders:nothing_like_it", "module 'tests.orders' has no 'nothing_like_it'"),
        ("tests.shop:LINES", "tests.shop:LINES is not a declarative base: it has no metadata"),
        ("tests.cli.commands:ROOT.parent", "is not a declarative base"),
    ],
)
def test_a_base_that_is_none_is_refused_in_one_line(sqlite_engine: Engine, base: str, message: str) -> None:
    assert message in fail("events", base, engine=sqlite_engine, status=2)


def test_a_module_that_fails_says_why(sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_application.py").write_text("raise RuntimeError('no\\nconfiguration')\n")
    monkeypatch.chdir(tmp_path)
    message = fail("events", "broken_application:Base", engine=sqlite_engine, status=2)
    assert message == "cannot import 'broken_application': RuntimeError: no configuration"


def test_a_base_without_aggregates_knows_where_its_log_lies(log: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare_application.py").write_text(
        "from sqlalchemy.orm import DeclarativeBase\nclass Base(DeclarativeBase):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    assert len(succeed("events", "bare_application:Base", engine=log).stdout.splitlines()) == 5
    message = fail("show", "bare_application:Base", "Order", "o-1", engine=log, status=2)
    assert "there are: none; name a module that imports the aggregates" in message


def test_an_aggregate_stands_for_its_base(log: Engine) -> None:
    assert len(succeed("events", "tests.orders:Order", engine=log).stdout.splitlines()) == 5


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (None, "no database is named; pass --url or set SA_EVENTSOURCE_URL"),
        ("secret-word", "the URL cannot be read"),
        ("mysql://host/name", "events are stored in PostgreSQL or SQLite, not in mysql"),
        ("postgresql+nonsense://host/name", "the driver of postgresql+nonsense is not there"),
        ("postgresql+psycopg2://host/name", "this library's driver is psycopg: write postgresql+psycopg://"),
        ("postgresql+asyncpg://host/name", "write postgresql+psycopg://"),
        ("postgresql+psycopg_async://host/name", "is asynchronous, and the command line is not; write postgresql+psycopg://"),
        ("sqlite+aiosqlite:///:memory:", "sqlite+aiosqlite is asynchronous, and the command line is not; write sqlite://"),
        ("sqlite:////no/such/file.db", "there is no file '/no/such/file.db'"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_one_line(url: str | None, message: str) -> None:
    refusal = fail("events", BASE, *(() if url is None else ("--url", url)), status=2)
    assert message in refusal
    assert "secret-word" not in refusal


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgresql_without_a_driver_means_psycopg(scheme: str) -> None:
    engine = make_engine(f"{scheme}://ann:secret@host/shop")
    assert engine.url.drivername == "postgresql+psycopg"
    assert engine.url.query["application_name"] == "sa-eventsource"


def test_the_url_may_be_an_option(postgres_log: Engine) -> None:
    url = postgres_log.url.set(drivername="postgresql").render_as_string(hide_password=False)
    result = call("events", BASE, "--url", url)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 5


def test_a_server_that_does_not_answer_is_one_line() -> None:
    result = call("events", BASE, "--url", "postgresql://ann@127.0.0.1:1/shop?connect_timeout=2")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "connection" in result.stderr


def test_missing_tables_are_said_to_be_missing(engine: Engine) -> None:
    Base.metadata.drop_all(engine)
    assert "create the tables first" in fail("events", BASE, engine=engine, status=1)


def test_traceback_shows_where_an_error_was_raised(log: Engine) -> None:
    result = call("--traceback", "show", BASE, "Order", "nobody", engine=log)
    assert type(result.exception).__name__ == "AggregateNotFoundError"
    process = start("--traceback", "show", BASE, "Order", "nobody", engine=log)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"^Traceback .*AggregateNotFoundError", errors, re.MULTILINE | re.DOTALL)


def test_the_module_runs_from_the_current_directory(log: Engine) -> None:
    assert (ROOT / "tests").is_dir()
    process = start("events", BASE, engine=log)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert len(output.splitlines()) == 5


class NoBase:
    """Has a metadata, but is not a declarative base."""

    metadata = MetaData()


def test_a_metadata_without_a_log_is_refused(sqlite_engine: Engine) -> None:
    message = fail("events", "tests.cli.test_application:NoBase", engine=sqlite_engine, status=2)
    assert message.endswith("has no event-sourcing tables, and is not a declarative base on which they could be put")
