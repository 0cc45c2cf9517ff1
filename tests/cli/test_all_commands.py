"""What holds of every command: an example in its help, JSON, completion, tables of 80 columns, colours that can be switched off."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
import typer.main
from rich.console import Console
from sqlalchemy import Engine

from sa_eventsource.cli import app
from sa_eventsource.cli.progress_bars import Bars
from sa_eventsource.cli.terminal_tables import cell, table_or_blocks
from tests.cli.commands import BASE, call, succeed

WIDTH = 80
IS_JSON_ALREADY = {"personal-data", "heads", "prove", "check-proof"}
ANOTHER_DOCUMENT = {"export", "public-keys", "schema docs"}
LOGS = {"run", "publish", "browse"}
"""They print nothing but what a worker logs, or an address, and, where it is asked for, the AsyncAPI document, which is JSON."""


def all_commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """List the commands, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from all_commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(all_commands(typer.main.get_command(app)))
each_command = pytest.mark.parametrize("name", COMMANDS)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@each_command
def test_its_help_has_an_example_that_fits_80_columns_and_can_be_parsed(name: str) -> None:
    shown = plain(call(*name.split(), "--help", COLUMNS=str(WIDTH), TERMINAL_WIDTH=str(WIDTH)).output)
    assert max(map(len, shown.splitlines())) <= WIDTH
    lines = [line.strip() for line in shown.partition("Example: ")[2].strip().splitlines()]
    assert lines, "there is no example"
    assert all(line.endswith("\\") for line in lines[:-1]), "the example does not fit a line"
    words = [str(uuid4()) if each.startswith("$") else each for each in shlex.split("\n".join(lines).replace("\\\n", " "))]
    assert words[: 1 + len(name.split())] == ["sa-eventsource", *name.split()]
    with COMMANDS[name].make_context(name, words[1 + len(name.split()) :]) as context:
        assert context.params


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if "\n\n" in command.help])
def test_paragraphs_of_its_help_are_as_wide_as_the_terminal(name: str) -> None:
    shown = plain(call(*name.split(), "--help", COLUMNS=str(WIDTH), TERMINAL_WIDTH=str(WIDTH)).output)
    lines = [line.strip() for line in shown.partition("Usage:")[2].partition("╭")[0].splitlines()[1:]]
    for line, following in pairwise(lines):
        if line and following:
            assert len(line) + len(f" {following.split()[0]}") > WIDTH - 2, f"broken too early: {line!r}"


def test_the_commands_are_listed_under_headings() -> None:
    shown = plain(call("--help", COLUMNS=str(WIDTH), TERMINAL_WIDTH=str(WIDTH)).output)
    headings = re.findall(r"╭─ (.+?) ─+╮", shown)
    assert headings[0] == "Options"
    assert len(headings) > 2
    assert "Commands" not in headings, "a command has no heading"


@each_command
def test_it_prints_json_for_programs(name: str) -> None:
    has_option = any("--json" in each.opts for each in COMMANDS[name].params)
    assert has_option is (name not in IS_JSON_ALREADY | ANOTHER_DOCUMENT | LOGS)


def test_what_prints_json_in_any_case_says_so() -> None:
    for name in IS_JSON_ALREADY - {"check-proof"}:
        assert "as JSON" in COMMANDS[name].help, name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    words = "sa-eventsource ev"
    asked: Any = {
        "_SA_EVENTSOURCE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    assert "events" in call(**asked).output


def coloured(text: str) -> list[str]:
    """List the escapes that set a colour; bold and dim are none."""
    numbers = re.findall(r"\x1b\[([0-9;]*)m", text)
    return [each for each in numbers if any(part in {*map(str, (*range(30, 49), *range(90, 108)))} for part in each.split(";"))]


@pytest.mark.parametrize("arguments", [("events", BASE), ("show", BASE, "Order", "o-1"), ("events", "--help")])
def test_no_color_switches_colours_off(arguments: tuple[str, ...], sqlite_log: Engine) -> None:
    terminal: Any = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert coloured(call(*arguments, engine=sqlite_log, **terminal).output)
    assert not coloured(call(*arguments, engine=sqlite_log, **terminal, NO_COLOR="1").output)


LONG = "a_name_that_somebody_took_pains_with_and_that_is_longer_than_others"


@pytest.mark.parametrize("width", [20, WIDTH, 200])
def test_tables_cut_no_name(width: int) -> None:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - closed with the test
    rows = [{"name": cell(f"{LONG}_{number}"), "id": cell(LONG), "error": cell(None), "n": cell(7)} for number in (1, 2)]
    with console.file:
        console.print(table_or_blocks(console, rows, ("name", "id", "error", "n"), numbers=("n",)))
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    assert "error" not in shown
    together = re.sub(r"\s", "", shown)
    assert together.count(LONG) == 4
    assert f"{LONG}_2" in together


def test_a_table_is_one_where_it_fits() -> None:
    console = Console(width=WIDTH)
    with console.capture() as shown:
        console.print(table_or_blocks(console, [{"name": cell("orders"), "n": cell(7)}], ("name", "n"), numbers=("n",)))
    assert [line.split() for line in shown.get().splitlines() if line.strip()][0::2] == [["name", "n"], ["orders", "7"]]


def test_bars_show_rate_and_time_left_on_a_terminal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Bars() as bars:
        bars.show("rows", 1, 4)
    assert capfd.readouterr().err == "", "stderr is no terminal"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with Bars() as bars:
        for done in range(1, 4):
            bars.show("rows", done, 4)
    shown = plain(capfd.readouterr().err)
    assert re.search(r"rows .* 3/4 +[\d,]+/s +0:00:00 +0:00:0\d", shown), shown


def test_what_was_done_is_json(engine: Engine, tmp_path: Any) -> None:
    succeed("export", BASE, "--output", str(tmp_path / "log.jsonl"), engine=engine)
    result = succeed("import", BASE, str(tmp_path / "log.jsonl"), "--json", engine=engine)
    assert (json.loads(result.stdout), result.stderr) == ({"added": 0, "skipped": 0}, "")
