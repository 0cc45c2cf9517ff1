"""The reference of the command line says of every command and every option what the help says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sa_eventsource.cli import app

PAGE = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text(encoding="utf-8")


def commands(group: Any, path: str = "sa-eventsource") -> Iterator[tuple[str, Any]]:
    """List the commands, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


@pytest.mark.parametrize(("name", "command"), [pytest.param(*each, id=each[0]) for each in commands(typer.main.get_command(app))])
def test_each_command_is_there_with_its_options(name: str, command: Any) -> None:
    heading = f" `{name}`\n"
    assert heading in PAGE
    section = PAGE.partition(heading)[2].partition("\n## ")[0].partition("\n### ")[0]
    for parameter in command.params:
        for option in parameter.opts:
            if option.startswith("-"):
                assert f"`{option}" in section, option
        assert parameter.help in section
    for paragraph in command.help.split("\n\n"):
        assert paragraph in " ".join(section.split())


def test_all_commands_are_listed() -> None:
    (listed,) = re.findall(r"^\*\*Commands\*\*: (`new`.*)$", PAGE, re.MULTILINE)
    group: Any = typer.main.get_command(app)
    assert set(re.findall(r"`(\S+)`", listed)) == set(group.commands)
