"""``sa-eventsource adopt``: a log that was moved here from another database cluster."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy.orm import Session

from sa_eventsource.checkpoints import adopt
from sa_eventsource.cli.errors import UsageError
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("adopt")(adopt_log)


def adopt_log(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    last_position: Annotated[
        int | None, typer.Option(metavar="POSITION", show_default=False, help="The last position that was brought here; else all.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="The transaction ids still hold: pg_upgrade, or a physical copy.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Settle a log that came from another database cluster, where workers say that they cannot tell what is new.

    A dump that is restored before anybody writes to it needs no such thing. Events that were appended here afterwards lie behind
    --last-position: look for it with "events".
    """
    if keep and last_position is not None:
        raise UsageError("--keep and --last-position exclude each other: either the transaction ids hold, or new ones are given")
    with open_target(base, url) as target, Session(target.engine) as session:
        if keep:
            what = "note this cluster in all checkpoints, and keep the transaction ids"
        else:
            upto = "the whole log" if last_position is None else f"the events up to position {last_position}"
            what = f"give {upto} transaction ids that hold here, and translate all checkpoints"
        if not yes:
            typer.confirm(f"This will {what}. Writers wait until it is done. Go on?", abort=True, err=True)
        try:
            number = adopt(session, target.base, last_position=last_position, keep=keep)
        except ValueError as error:
            raise UsageError(str(error)) from error
    typer.echo(f"done; {number} events were given new transaction ids", err=True)
