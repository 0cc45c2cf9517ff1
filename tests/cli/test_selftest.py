"""``sa-eventsource selftest``: what it prints, its exit status, and that it leaves nothing when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, text

from sa_eventsource import SelftestError
from sa_eventsource.cli import selftest_command
from sa_eventsource.selftest import Report, Verdict
from tests.cli.commands import call, fail, start, url_of

PREFIX = "sa_eventsource_selftest_"
HELD = Verdict.of("committed", "Every committed event is in the log, once", 10, "events", [])
BROKEN = Verdict.of(
    "once", "Each event is taken exactly once", 20, "events taken", [f"event {number} twice" for number in range(25)]
)
UNTESTED = Verdict.of("conflicts", "Of those that append at one version, one wins", 0, "conflicts", [])


def schemas(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text(f"SELECT nspname FROM pg_namespace WHERE starts_with(nspname, '{PREFIX}')")))


@pytest.fixture
def report_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have a run find what the test says, and keep what it was called with."""
    called: dict[str, Any] = {}

    def find(*verdicts: Verdict, kept: Path | None = None) -> dict[str, Any]:
        def run(url: str, **options: Any) -> Report:
            called.update(options, url=url)
            options["progress"]("writing", 0.5, 12)
            return Report(42, 3.0, "18.0", f"{PREFIX}00", {"events": 12, "processes killed": 2}, verdicts, kept)

        monkeypatch.setattr(selftest_command, "run_selftest", run)
        return called

    return find


URL = "postgresql://ann@127.0.0.1:1/shop"


def test_guarantees_that_held_are_listed_with_what_they_were_tested_on(report_of: Any) -> None:
    called = report_of(HELD)
    result = call("selftest", "--url", f"{URL}?prepare_threshold=none", "--seed", "42", "--seconds", "3")
    assert result.exit_code == 0
    assert "10 events" in result.stdout
    assert "held" in result.stdout
    assert "PostgreSQL 18.0, 3 s, seed 42: 12 events, 2 processes killed" in result.stdout
    assert result.stderr == "writing (12 events)\n"
    assert (called["seed"], called["seconds"], called["keep"]) == (42, 3.0, False)
    assert called["connect_args"] == {"prepare_threshold": None}
    assert called["url"].startswith("postgresql+psycopg://ann@127.0.0.1:1/shop")


def test_a_broken_guarantee_is_shown_with_what_broke_it_and_is_status_1(report_of: Any) -> None:
    report_of(HELD, BROKEN)
    result = call("selftest", "--url", URL)
    assert result.exit_code == 1
    assert "Each event is taken exactly once: broken 25 times\n  event 0 twice\n" in result.stdout
    assert "  and 5 more\n" in result.stdout


def test_a_guarantee_that_was_not_tested_is_status_2(report_of: Any) -> None:
    report_of(HELD, UNTESTED)
    result = call("selftest", "--url", URL)
    assert result.exit_code == 2
    assert "not tested" in result.stdout
    assert "run it for longer, with --seconds" in result.stderr


def test_json_says_the_same(report_of: Any, tmp_path: Path) -> None:
    report_of(HELD, BROKEN, kept=tmp_path)
    result = call("selftest", "--url", URL, "--json", "--keep")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["seed"], found["is_broken"], found["kept"]) == (42, True, str(tmp_path))
    assert [(each["name"], each["ruling"], each["count"]) for each in found["verdicts"]] == [
        ("committed", "held", 10),
        ("once", "broken", 20),
    ]


def test_what_was_kept_is_named(report_of: Any, tmp_path: Path) -> None:
    report_of(HELD, kept=tmp_path)
    assert f"kept: schema {PREFIX}00, journals in {tmp_path}" in call("selftest", "--url", URL, "--keep").stdout


def test_a_test_that_cannot_run_is_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_url: str, **_: Any) -> Report:
        raise SelftestError("a privilege is missing")

    monkeypatch.setattr(selftest_command, "run_selftest", run)
    assert fail("selftest", "--url", URL, status=2) == "the self-test could not run to its end: a privilege is missing"


def test_sqlite_is_refused(sqlite_engine: Engine) -> None:
    with sqlite_engine.begin():
        pass
    assert "the self-test needs PostgreSQL" in fail("selftest", engine=sqlite_engine, status=2)
    assert "the self-test needs PostgreSQL" in fail("selftest", "--url", "sqlite:///not_there.db", status=2)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_leaves_nothing(postgres_engine: Engine, number: signal.Signals, status: int, tmp_path: Path) -> None:
    process = _at_work(postgres_engine, tmp_path)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert errors.endswith("error: stopped before the end; what it created is dropped\n")
    assert schemas(postgres_engine) == []
    assert list(tmp_path.iterdir()) == []
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sa-eventsource'"
    end = time.monotonic() + 60
    with postgres_engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        while connection.scalar(text(others)):
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.slow
def test_no_process_outlives_a_run_that_is_killed(postgres_engine: Engine, tmp_path: Path) -> None:
    process = _at_work(postgres_engine, tmp_path)
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 6
    process.kill()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
    process.communicate()


def _at_work(engine: Engine, folder: Path) -> subprocess.Popen[Any]:
    """Start a run that keeps its files in a folder, and wait until workers take what writers write."""
    environment = os.environ | {"SA_EVENTSOURCE_URL": url_of(engine), "TMPDIR": str(folder)}
    process = start("selftest", "--seconds", "60", engine=engine, env=environment)
    end = time.monotonic() + 60
    while not _has_events(engine):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


def _has_events(engine: Engine) -> bool:
    with engine.connect() as connection:
        return any(connection.scalar(text(f"SELECT count(*) FROM {each}.taken")) for each in schemas(engine))
