"""``sa-eventsource forget`` and ``rotate-master-key``: what becomes of the keys of personal data."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.cli.times import for_people
from sa_eventsource.events import event_context
from sa_eventsource.privacy import forget, rotate_master_key


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("forget")(forget_subject)
    app.command("rotate-master-key")(rotate)


def forget_subject(  # noqa: PLR0913 - by keyword
    base: BaseArgument,
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", show_default=False, help="Whom: what events hold to say whose a personal field is.")
    ],
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", show_default=False, help="Why, for the record, which is kept for good.")],
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Who does it, for the record.")] = None,
    url: UrlOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Destroy the keys of someone's personal data: from then on it is read as its placeholders, everywhere.

    The application and workers may run. It cannot be undone.
    """
    with open_target(base, url) as target:
        if not yes:
            typer.confirm(f"All personal data of {subject} will be lost. Go on?", abort=True, err=True)
        with Session(target.engine) as session, nullcontext() if user is None else event_context(user=user):
            done = forget(session, subject, reason=reason, base=target.base)
            session.commit()
    if done.is_repeated:
        typer.echo(f"{subject} was forgotten already, on {for_people(done.forgotten_at)}: {done.reason}", err=True)
    else:
        typer.echo(f"{subject} is forgotten", err=True)


def rotate(base: BaseArgument, *, url: UrlOption = None) -> None:
    """Wrap the keys of personal data with the present master key, where an earlier one has wrapped them.

    The log is not written again, and the application may run.
    """
    number = 0
    with open_target(base, url) as target, Session(target.engine) as session:
        while wrapped := rotate_master_key(session, base=target.base):
            session.commit()
            number += wrapped
    typer.echo(f"{number} keys were wrapped anew", err=True)
