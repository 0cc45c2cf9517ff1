"""Running the command line in tests: in this process, and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from sa_eventsource.cli import app
from tests import processes
from tests.processes import ROOT

__all__ = ["BASE", "ROOT", "call", "fail", "start", "succeed", "url_of"]

BASE = "tests.orders:Base"


def url_of(engine: Engine) -> str:
    """Give an engine's URL, with the password."""
    return engine.url.render_as_string(hide_password=False)


def call(*arguments: str, engine: Engine | None = None, stdin: str | bytes | None = None, **environment: str) -> Result:
    """Run a command in this process."""
    url = {} if engine is None else {"SA_EVENTSOURCE_URL": url_of(engine)}
    runner = CliRunner(env={"SA_EVENTSOURCE_URL": None, **url, **environment})
    return runner.invoke(app, list(arguments), input=stdin)


def succeed(*arguments: str, engine: Engine, stdin: str | bytes | None = None) -> Result:
    """Run a command that must succeed."""
    result = call(*arguments, engine=engine, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def fail(*arguments: str, engine: Engine | None = None, status: int, stdin: str | bytes | None = None) -> str:
    """Run a command that must fail, with one line on stderr: that line."""
    result = call(*arguments, engine=engine, stdin=stdin)
    assert result.exit_code == status, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def start(*arguments: str, engine: Engine, **options: Any) -> subprocess.Popen[Any]:
    """Start a command in a process of its own, in the project's folder, with pipes unless options say otherwise."""
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    return processes.start(
        [sys.executable, "-W", "error", "-m", "sa_eventsource.cli", *arguments],
        **{"env": os.environ | {"SA_EVENTSOURCE_URL": url_of(engine)}, **given, **options},
    )
