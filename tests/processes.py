"""Processes that tests start: none outlives its test, whatever becomes of the test or of the tests, and an interrupt reaches it.

A process gets a session of its own, so that what it starts in turn ends with it. ``start`` and ``finish`` start a program;
``fork`` runs a function in a process that has imported the large packages already, which takes a tenth of the time.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

_forking = multiprocessing.get_context("forkserver")
# The library is not among them: each process imports it anew, as it would be imported anywhere.
_forking.set_forkserver_preload([
    "alembic.command",
    "psycopg",
    "pydantic",
    "rich.console",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
    "tenacity",
    "typer",
])  # fmt: skip

_started: list[subprocess.Popen[Any] | BaseProcess] = []


@cache
def _guardian() -> subprocess.Popen[str]:
    """A process that learns when this one is gone."""
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guardian.py"))]
    guardian = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    atexit.register(_leave, guardian)
    return guardian


def guard(what: str, about: object) -> None:
    """Tell the guardian: ``started`` and ``ended`` a process, or the folder of a ``server``."""
    channel = _guardian().stdin
    assert channel is not None
    channel.write(f"{what} {about}\n")
    channel.flush()


def _note(process: subprocess.Popen[Any] | BaseProcess) -> None:
    _started.append(process)
    guard("started", process.pid)


@contextmanager
def _interruptible() -> Iterator[None]:
    """What is started for the block heeds SIGINT, which a shell's background job ignores, and all that it starts."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def start(command: Sequence[object], **options: Any) -> subprocess.Popen[Any]:
    """Start a program, in the project's folder unless another is given; the end of the test ends it."""
    given: dict[str, Any] = {"cwd": ROOT, "stdin": subprocess.DEVNULL} | options
    with _interruptible():
        process: subprocess.Popen[Any] = subprocess.Popen([*map(str, command)], start_new_session=True, **given)
    _note(process)
    return process


def finish(command: Sequence[object], *, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, for so many seconds at the most; give its status and what it wrote."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"} | options
    process = start(command, **given)
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        end(process)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def fork(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Run a function of a module in a process; the end of the test ends it."""
    process = _forking.Process(target=_in_a_session, args=(function, arguments))
    process.start()
    _note(process)
    return process


def _in_a_session(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    function(*arguments)


def pipe() -> tuple[Any, Any]:
    """Two ends of a channel, to read from and to write to, that forked processes take as an argument."""
    return _forking.Pipe()


def end(process: subprocess.Popen[Any] | BaseProcess) -> None:
    """Kill a process and what it has started, if they still run."""
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    if isinstance(process, subprocess.Popen):
        process.wait(timeout=60)
        for each in (process.stdin, process.stdout, process.stderr):
            if each is not None:
                each.close()
    else:
        process.join(timeout=60)
    if process in _started:
        _started.remove(process)
        guard("ended", process.pid)


def end_all() -> None:
    """Kill all that still runs."""
    while _started:
        end(_started[-1])


def _leave(guardian: subprocess.Popen[str]) -> None:
    """Leave nothing, the guardian included: it learns of the end from its input."""
    end_all()
    guardian.communicate(timeout=60)


@dataclass(frozen=True)
class Finished:
    """How a forked program ended."""

    returncode: int | None
    stdout: str
    stderr: str


def finish_forked(program: Callable[..., object], *arguments: Any, folder: Path, environment: Mapping[str, str]) -> Finished:
    """Run a function as a program of its own, with warnings as errors, in a folder and an environment."""
    output, errors = folder / "forked.out", folder / "forked.err"
    process = fork(_as_program, program, arguments, folder, dict(environment), output, errors)
    process.join(timeout=120)
    code = process.exitcode
    end(process)
    return Finished(code, output.read_text(encoding="utf-8"), errors.read_text(encoding="utf-8"))


def _as_program(
    program: Callable[..., object],
    arguments: tuple[Any, ...],
    folder: Path,
    environment: dict[str, str],
    output: Path,
    errors: Path,
) -> None:
    for path, stream in ((output, sys.stdout), (errors, sys.stderr)):
        stream.flush()
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    warnings.resetwarnings()
    warnings.simplefilter("error")
    code = 0
    try:
        program(*arguments)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    # What an interpreter does when it ends: a connection that was left open is told of on stderr.
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    raise SystemExit(code)


def run_script(script: Path, *arguments: str) -> None:
    """Run a script as ``python script arguments ...`` does."""
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
