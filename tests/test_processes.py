"""What tests start ends with them, and heeds an interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import processes
from tests.processes import end, end_all, finish, finish_forked, fork, pipe, start

SLEEP = "import time; time.sleep(1000)"
WITH_A_CHILD = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid, flush=True); {SLEEP}"

LEAVES_ALL = """
import os, signal, sys
from pathlib import Path
from tests.processes import start

def test_it(postgres_database_url: str, pytestconfig, request) -> None:
    child = start([sys.executable, "-c", "import time; time.sleep(1000)"])
    folder = str(Path(postgres_database_url.partition("host=")[2].replace("%2F", "/")))
    Path(os.environ["TOLD"]).write_text(f"{child.pid} {os.getpid()} {folder}")
    signal.pause()
"""


def is_there(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until_gone(pid: int) -> None:
    if is_there(pid):
        psutil.Process(pid).wait(timeout=30)


def test_what_a_process_has_started_ends_with_it() -> None:
    process = start([sys.executable, "-c", WITH_A_CHILD], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert is_there(child)
    end(process)
    wait_until_gone(child)


def test_one_that_takes_too_long_is_ended() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        finish([sys.executable, "-c", WITH_A_CHILD], timeout=1)
    assert processes._started == []


def test_what_is_forgotten_is_ended() -> None:
    ours, theirs = pipe()
    forgotten: list[Any] = [start([sys.executable, "-c", SLEEP]), fork(_wait, theirs)]
    assert ours.recv() == "there"
    end_all()
    assert not any(is_there(each.pid) for each in forgotten)


def test_an_interrupt_is_heeded_also_where_the_tests_ignore_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start(
            [sys.executable, "-c", f"print('there', flush=True); {SLEEP}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT


def test_a_forked_program_is_one_of_its_own(tmp_path: Path) -> None:
    done = finish_forked(_speak, "x", folder=tmp_path, environment={"ONLY": "this"})
    assert (done.returncode, done.stdout) == (3, f"x {tmp_path} {{'ONLY': 'this'}}\n")
    failed = finish_forked(_warn, folder=tmp_path, environment={})
    assert failed.returncode == 1
    assert "UserWarning: careless" in failed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_tests_that_are_ended_leave_nothing(tmp_path: Path, how: signal.Signals) -> None:
    """Neither their processes nor their server."""
    file, told = tmp_path / "test_stopped.py", tmp_path / "told"
    file.write_text(LEAVES_ALL)
    environment = {name: each for name, each in os.environ.items() if not name.startswith(("SA_EVENTSOURCE", "PYTEST"))}
    plugins = [each for name in ("tests.conftest", "no:cacheprovider", "no:xdist", "no:cov") for each in ("-p", name)]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "-c", processes.ROOT / "pyproject.toml", file]
    running = start(command, env=environment | {"TOLD": str(told)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (told.exists() and told.read_text()):
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    child, _, folder = told.read_text().split()
    server = int((Path(folder) / "postmaster.pid").read_text().split()[0])
    assert is_there(int(child))
    assert is_there(server)
    running.send_signal(how)
    output, _ = running.communicate(timeout=60)
    wait_until_gone(int(child))
    wait_until_gone(server)
    limit = time.monotonic() + 30
    while Path(folder).exists():
        assert time.monotonic() < limit, output
        time.sleep(0.02)


def _wait(channel: Any) -> None:
    channel.send("there")
    signal.pause()


def _speak(word: str) -> None:
    print(word, Path.cwd(), {name: os.environ[name] for name in os.environ})
    sys.exit(3)


def _warn() -> None:
    warnings.warn("careless", stacklevel=1)
