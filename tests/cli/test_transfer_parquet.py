"""``sa-eventsource export --format parquet`` and ``import`` of such a file: files, pipes, and what people are told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from uuid import UUID

import pytest
from pyarrow import parquet
from sqlalchemy import Engine

from tests.cli.commands import BASE, call, fail, start, succeed, url_of
from tests.cli.parquet_files import made, row
from tests.cli.test_events import insert_raw
from tests.parameters import slow_after
from tests.processes import finish
from tests.session.helpers import stored_events


def test_a_log_goes_into_a_file_and_from_it_into_another_database(log: Engine, other_postgres: Engine, tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    result = succeed("export", BASE, "--format", "parquet", "--output", str(file), engine=log)
    assert (result.stdout, result.stderr) == ("", f"exported 5 events to {file}\n")
    assert parquet.read_metadata(file).num_rows == 5
    result = succeed("import", BASE, str(file), engine=other_postgres)
    assert (result.stdout, result.stderr) == ("", "imported 5 events\n")
    assert stored_events(other_postgres) == stored_events(log)
    assert succeed("import", BASE, str(file), engine=log).stderr == "imported 0 events; 5 events were there already\n"


def test_a_log_goes_through_a_pipe(sqlite_log: Engine, other_postgres: Engine) -> None:
    source = start("export", BASE, "--format", "parquet", engine=sqlite_log, text=False, encoding=None)
    target = start("import", BASE, "-", engine=other_postgres, stdin=source.stdout)
    _, messages = target.communicate(timeout=60)
    assert (target.returncode, messages) == (0, "imported 5 events\n")
    _, messages = source.communicate(timeout=60)
    assert (source.returncode, messages) == (0, b"exported 5 events\n")
    assert stored_events(other_postgres) == stored_events(sqlite_log)


def test_a_pipe_may_give_one_byte_at_first(sqlite_log: Engine, other_postgres: Engine) -> None:
    content = call("export", BASE, "--format", "parquet", engine=sqlite_log).stdout_bytes
    target = start("import", BASE, "-", engine=other_postgres, stdin=-1, text=False, encoding=None, bufsize=0)
    assert target.stdin is not None
    target.stdin.write(content[:1])
    _, messages = target.communicate(content[1:], timeout=60)
    assert (target.returncode, messages) == (0, b"imported 5 events\n")


def test_a_file_that_does_not_fit_imports_nothing(log: Engine, tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    file.write_bytes(made(row(9, version=4), row(10, version=6)).getvalue())
    message = fail("import", BASE, str(file), engine=log, status=1)
    assert message == "row 2, version: Order 'o-1' is at version 4, so that version 5 must come next, not 6"
    assert len(stored_events(log)) == 5


def test_a_file_that_was_cut_off_imports_nothing(log: Engine, other_postgres: Engine) -> None:
    content = succeed("export", BASE, "--format", "parquet", engine=log).stdout_bytes
    message = fail("import", BASE, "-", engine=other_postgres, stdin=content[:-100], status=1)
    assert message == "the file: its end is missing; the file was cut off"
    assert stored_events(other_postgres) == []


def test_an_export_that_fails_leaves_the_file_as_it_was(sqlite_engine: Engine, tmp_path: Path) -> None:
    insert_raw(sqlite_engine, UUID(int=1), data='{"half": ')
    file = tmp_path / "log.parquet"
    file.write_text("yesterday's", encoding="utf-8")
    message = fail("export", BASE, "--format", "parquet", "--output", str(file), engine=sqlite_engine, status=1)
    assert message.startswith(f"event {UUID(int=1)} at position 1: its event_data is not JSON")
    assert file.read_text(encoding="utf-8") == "yesterday's"
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(postgres_log: Engine) -> None:
    process = start("export", BASE, "--format", "parquet", engine=postgres_log)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, "")


@pytest.mark.slow
@pytest.mark.parametrize("command", slow_after(1, ["export", "import"]))
def test_progress_is_shown_where_someone_looks(sqlite_log: Engine, tmp_path: Path, command: str) -> None:
    file = tmp_path / "log.parquet"
    succeed("export", BASE, "--format", "parquet", "--output", str(file), engine=sqlite_log)
    arguments = ("import", BASE, str(file)) if command == "import" else ("export", BASE, "--format", "parquet")
    ours, theirs = os.openpty()
    environment = os.environ | {"SA_EVENTSOURCE_URL": url_of(sqlite_log), "TERM": "xterm"}
    process = start(*arguments, engine=sqlite_log, env=environment, stderr=theirs, text=False, encoding=None)
    output, _ = process.communicate(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000)
    os.close(ours)
    assert process.returncode == 0
    assert b"5 events" in shown
    assert output == b"" or output.startswith(b"PAR1")


def test_an_unknown_format_is_refused(log: Engine) -> None:
    assert call("export", BASE, "--format", "csv", engine=log).exit_code == 2


_WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None  # as where it is not installed
from sa_eventsource.cli import app
app()
"""


@pytest.mark.parametrize("command", slow_after(1, ["export", "import"]))
def test_the_extra_that_is_missing_is_named(sqlite_log: Engine, tmp_path: Path, command: str) -> None:
    file = tmp_path / "log.parquet"
    file.write_bytes(made(row(1)).getvalue())
    arguments = ["import", BASE, str(file)] if command == "import" else ["export", BASE, "--format", "parquet"]
    done = finish([sys.executable, "-c", _WITHOUT_PYARROW, *arguments], env=os.environ | {"SA_EVENTSOURCE_URL": url_of(sqlite_log)})
    assert done.returncode == 1
    said = "error: sa_eventsource.transfer.parquet needs pyarrow, which is not installed: pip install 'sa_eventsource[parquet]'\n"
    assert done.stderr == said
    lines = finish(
        [sys.executable, "-c", _WITHOUT_PYARROW, "export", BASE], env=os.environ | {"SA_EVENTSOURCE_URL": url_of(sqlite_log)}
    )
    assert (lines.returncode, lines.stderr) == (0, "exported 5 events\n")
