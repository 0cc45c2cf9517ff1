"""``sa-eventsource export`` and ``import``: files, pipes, and what people are told."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from sa_eventsource.mapping import tables_on
from tests.cli.commands import BASE, call, fail, start, succeed, url_of
from tests.cli.exported_lines import HEADER, exactly, header, line
from tests.cli.test_events import insert_raw
from tests.orders import Base
from tests.parameters import slow_after
from tests.read_models import shop
from tests.session.helpers import stored_events


def lines_of(path: Path) -> list[str]:
    """Read a file's lines."""
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def test_a_log_goes_into_a_file_and_from_it_into_another_database(log: Engine, other_postgres: Engine, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    result = succeed("export", BASE, "--output", str(file), engine=log)
    assert (result.stdout, result.stderr) == ("", f"exported 5 events to {file}\n")
    first, *events = lines_of(file)
    assert json.loads(first)["count"] == 5
    result = succeed("import", BASE, str(file), engine=other_postgres)
    assert (result.stdout, result.stderr) == ("", "imported 5 events\n")
    assert stored_events(other_postgres) == stored_events(log)
    _, *again = succeed("export", BASE, engine=other_postgres).stdout.split("\n")[:-1]
    assert [exactly(each) for each in again] == [exactly(each) for each in events]


def test_a_log_goes_through_a_pipe(postgres_log: Engine, other_postgres: Engine) -> None:
    source = start("export", BASE, engine=postgres_log)
    target = start("import", BASE, "-", engine=other_postgres, stdin=source.stdout)
    _, messages = target.communicate(timeout=60)
    assert (target.returncode, messages) == (0, "imported 5 events\n")
    _, messages = source.communicate(timeout=60)
    assert (source.returncode, messages) == (0, "exported 5 events\n")
    assert stored_events(other_postgres) == stored_events(postgres_log)


def test_events_that_are_there_are_skipped_and_counted(log: Engine) -> None:
    exported = succeed("export", BASE, engine=log).stdout
    assert succeed("import", BASE, "-", engine=log, stdin=exported).stderr == "imported 0 events; 5 events were there already\n"


def test_a_file_that_does_not_fit_imports_nothing(log: Engine, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join([header(2), line(9, version="4"), line(10, version="6")]), encoding="utf-8")
    message = fail("import", BASE, str(file), engine=log, status=1)
    assert message == "line 3, version: Order 'o-1' is at version 4, so that version 5 must come next, not 6"
    assert len(stored_events(log)) == 5


def test_a_file_that_was_cut_off_imports_nothing(log: Engine, other_postgres: Engine) -> None:
    exported = succeed("export", BASE, engine=log).stdout
    cut = "".join(exported.splitlines(keepends=True)[:-2])
    message = fail("import", BASE, "-", engine=other_postgres, stdin=cut, status=1)
    assert message == "line 4: the header says 5 events, and there are 3; the file was cut off"
    assert stored_events(other_postgres) == []


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(empty: Engine) -> None:
    file = "\r\n".join([HEADER, line(1), line(2), ""]).encode("utf-8-sig")
    assert succeed("import", BASE, "-", engine=empty, stdin=file).stderr == "imported 2 events\n"


def test_a_file_that_is_not_utf_8_says_where(empty: Engine) -> None:
    file = "\n".join([HEADER, line(1), line(2, event_data='{"text":"é"}')]).encode("latin-1")
    message = fail("import", BASE, "-", engine=empty, stdin=file, status=1)
    assert message.startswith("line 3: it is not UTF-8: invalid continuation byte at byte ")


def test_a_file_that_is_not_there_is_one_line(empty: Engine, tmp_path: Path) -> None:
    file = tmp_path / "none.jsonl"
    assert fail("import", BASE, str(file), engine=empty, status=1) == f"{file}: No such file or directory"
    assert "No such file or directory" in fail("export", BASE, "--output", str(tmp_path / "no" / "log"), engine=empty, status=1)


def test_an_export_that_fails_leaves_the_file_as_it_was(sqlite_engine: Engine, tmp_path: Path) -> None:
    Base.metadata.create_all(sqlite_engine)
    insert_raw(sqlite_engine, UUID(int=1), data='{"half": ')
    file = tmp_path / "log.jsonl"
    file.write_text("yesterday's", encoding="utf-8")
    message = fail("export", BASE, "--output", str(file), engine=sqlite_engine, status=1)
    assert message.startswith(f"event {UUID(int=1)} at position 1: its event_data is not JSON")
    assert file.read_text(encoding="utf-8") == "yesterday's"
    assert list(tmp_path.glob("*.part")) == []


def test_an_export_can_go_to_a_device(log: Engine) -> None:
    assert succeed("export", BASE, "--output", os.devnull, engine=log).stderr == f"exported 5 events to {os.devnull}\n"


def test_a_reader_that_goes_away_is_no_error(postgres_log: Engine) -> None:
    process = start("export", BASE, engine=postgres_log)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, "")


def test_strong_read_models_are_named_that_took_no_part(engine: Engine) -> None:
    shop.Base.metadata.create_all(engine)
    strong = sorted(name for name, model in tables_on(shop.Base.metadata).read_models.items() if model.is_strong)
    event = line(1, aggregate_type='"shop.Order"', event_type='"shop.OrderPaid"', event_data='{"payment_id":"p-1"}')
    told = succeed("import", "tests.read_models.shop:Base", "-", engine=engine, stdin=f"{HEADER}\n{event}\n").stderr
    assert strong
    assert told == f"imported 1 event\nan import does not write the rows of strong read models; rebuild them: {', '.join(strong)}\n"
    again = succeed("import", "tests.read_models.shop:Base", "-", engine=engine, stdin=f"{HEADER}\n{event}\n").stderr
    assert again == "imported 0 events; 1 event was there already\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize("command", slow_after(1, ["export", "import"]))
def test_progress_is_shown_where_someone_looks(sqlite_log: Engine, tmp_path: Path, command: str) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(succeed("export", BASE, engine=sqlite_log).stdout, encoding="utf-8")
    arguments = ("import", BASE, str(file)) if command == "import" else ("export", BASE)
    ours, theirs = os.openpty()
    environment = os.environ | {"SA_EVENTSOURCE_URL": url_of(sqlite_log), "TERM": "xterm"}
    process = start(*arguments, engine=sqlite_log, env=environment, stderr=theirs, text=False, encoding=None)
    output, _ = process.communicate(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000)
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[" in shown
    assert b"5 events" in shown
    assert b"\x1b" not in output


def test_options_of_no_command_are_refused(log: Engine) -> None:
    assert call("export", BASE, "--parquet", engine=log).exit_code == 2
