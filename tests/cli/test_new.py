"""``sa-eventsource new``: what it writes runs, is typed and formatted, and nobody's files are overwritten."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from sqlalchemy import create_engine

from tests.cli.commands import ROOT, call, fail
from tests.processes import finish

NAME = "corner_shop"
ONLY_OURS = ("--disable-plugin-autoload", "-p", "_sa_eventsource_pytest", "-p", "no:cacheprovider", "-q")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that was just written."""
    monkeypatch.chdir(tmp_path)
    result = call("new", NAME)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "pip install --editable '.[dev]'" in result.stderr
    return tmp_path / NAME


def run(project: Path, *command: object, url: str | None = None) -> str:
    """Run a tool of this environment in the project, where neither project has been installed; give what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in {"SA_EVENTSOURCE_URL", "FORCE_COLOR"}}
    environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{project}", "MYPYPATH": str(ROOT)}
    environment |= {} if url is None else {"SA_EVENTSOURCE_URL": url}
    # mypy without a cache reads all of SQLAlchemy: minutes, where much else runs
    done = finish([sys.executable, "-m", *command], cwd=project, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_nothing_is_left_of_the_template_s_name(project: Path) -> None:
    files = [each for each in project.rglob("*") if each.is_file()]
    assert {each.name for each in files} >= {"orders.py", "order_list.py", "test_orders.py", "compose.yaml", "README.md", "env.py"}
    assert not [each for each in files if "project_name" in str(each) or "project_name" in each.read_text(encoding="utf-8")]
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["name"] == NAME


def test_its_tests_pass_on_a_server_that_is_named(project: Path, postgres_database_url: str) -> None:
    output = run(project, "pytest", *ONLY_OURS, "--eventsource-url", postgres_database_url)
    assert re.search(r"^6 passed", output, re.MULTILINE), output


def test_its_migrations_and_its_worker_run(project: Path, postgres_database_url: str) -> None:
    run(project, "alembic", "upgrade", "head", url=postgres_database_url)
    assert "No new upgrade operations" in run(project, "alembic", "check", url=postgres_database_url)
    assert "the worker has come: 0" in run(project, NAME, url=postgres_database_url)
    assert "took 2 events" in run(project, "sa_eventsource.cli", "run", "--once", f"{NAME}.models:Base", url=postgres_database_url)
    assert re.search(r"paid +56\.90 +Ann", run(project, NAME, url=postgres_database_url))
    run(project, "alembic", "downgrade", "base", url=postgres_database_url)


@pytest.fixture
def tables() -> None:
    """None: the project's migrations make its own."""


def test_its_tools_find_nothing(project: Path) -> None:
    run(project, "ruff", "check", "--no-cache")
    run(project, "ruff", "format", "--check", "--no-cache")
    assert "no issues found" in run(project, "mypy", "--cache-dir", os.devnull)


def test_a_long_name_changes_no_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "a" * 30):
        assert call("new", name).exit_code == 0
        run(tmp_path / name, "ruff", "check", "--no-cache")
        run(tmp_path / name, "ruff", "format", "--check", "--no-cache")


def test_its_compose_file_starts_the_worker_behind_the_migrations(project: Path) -> None:
    services = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert services["worker"]["command"] == ["sa-eventsource", "run", f"{NAME}.models:Base"]
    assert services["worker"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert services["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    # The server that prepares the database listens on the socket alone: who is asked there is not yet the one to migrate.
    assert "--host 127.0.0.1" in " ".join(services["database"]["healthcheck"]["test"])
    url = services["worker"]["environment"]["SA_EVENTSOURCE_URL"]
    assert create_engine(url).url.database == services["database"]["environment"]["POSTGRES_DB"] == NAME


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-shop", "write lower-case letters, digits and underscores, such as my_shop"),
        ("Shop", "such as shop"),
        ("../shop", "such as shop"),
        ("2fast", "is not a name for a package; write lower-case letters, digits and underscores"),
        ("", "is not a name for a package"),
        ("shöp", "is not a name for a package"),
        ("class", "is a keyword of Python"),
        ("match", "is a keyword of Python"),
        ("json", "is the name of a module"),
        ("tests", "is the name of a module"),
        ("s" * 31, "has 31 characters; a name has at most 30"),
    ],
)
def test_a_name_that_no_package_can_have_is_refused(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fail("new", name, status=2)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_not_touched(project: Path) -> None:
    readme = project / "README.md"
    readme.write_text("mine", encoding="utf-8")
    assert "'corner_shop' is not empty" in fail("new", NAME, status=2)
    assert readme.read_text(encoding="utf-8") == "mine"


def test_a_file_of_that_name_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).write_text("mine", encoding="utf-8")
    assert "is not a folder" in fail("new", NAME, status=2)
    assert (tmp_path / NAME).read_text(encoding="utf-8") == "mine"


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    assert call("new", NAME).exit_code == 0
    assert (tmp_path / NAME / "pyproject.toml").exists()


def test_the_wheel_brings_the_template() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    brought = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert brought["docs/examples/project_template"] == "sa_eventsource/project_template"
    assert (ROOT / "docs/examples/project_template/pyproject.toml").is_file()
