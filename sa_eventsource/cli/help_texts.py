"""What the help of every command says and shows."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    import typer


def example(*lines: str) -> str:
    """Give the epilogue of a command: a call of it to copy, whose lines fit a terminal with 80 columns."""
    call = escape("\n".join(lines))
    return f"Example: [cyan]sa-eventsource {call}[/cyan]"


def let_paragraphs_flow(app: typer.Typer) -> None:
    """Give each command of an application its docstring as its help, a line a paragraph: the terminal breaks them."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.help = _flowing(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            let_paragraphs_flow(group.typer_instance)


def _flowing(function: Callable[..., object]) -> str:
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)
