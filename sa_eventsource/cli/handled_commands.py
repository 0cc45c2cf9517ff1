"""``sa-eventsource commands``: what to do about commands that have a row."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.commands import Commands


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Look after commands that were handled under an id, or are scheduled.")
    group.command("prune")(prune)
    app.add_typer(group, name="commands")


def prune(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    older_than: Annotated[float, typer.Option(metavar="DAYS", min=0, help="For how many days they have been done at least.")],
) -> None:
    """Forget commands that were done long ago: under its id, such a command would be done again."""
    with open_target(base, url) as target:
        number = Commands(target.engine, target.base).prune(older_than=timedelta(days=older_than))
    typer.echo(f"forgot {number} commands", err=True)
