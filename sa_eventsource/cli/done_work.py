"""What a command says of what it has done, or has not found: a line on stderr for people, JSON on stdout for programs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

DoneAsJsonOption = Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")]


def say_done(text: str, *, as_json: bool, **members: Any) -> None:
    """Say what was done.

    Args:
        text: For people.
        as_json: Whether it is for a program.
        members: For programs: what ``json.dumps`` takes, and UUIDs, times and paths, which are written as text.
    """
    if as_json:
        typer.echo(json.dumps(members, ensure_ascii=False, default=str))
    else:
        typer.echo(text, err=True)


def say_none(what: str) -> None:
    """Say on stderr that a list is empty, such as ``no event``: a command that prints nothing leaves people in doubt."""
    typer.echo(f"there is {what}", err=True)
