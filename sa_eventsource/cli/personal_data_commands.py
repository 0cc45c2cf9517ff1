"""``sa-eventsource personal-data``, ``forget`` and ``rotate-master-key``: what is stored about someone, and their keys."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Annotated

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from sa_eventsource.cli.done_work import DoneAsJsonOption, say_done
from sa_eventsource.cli.errors import checked_arguments
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.cli.times import for_people
from sa_eventsource.counting import counted
from sa_eventsource.events import event_context
from sa_eventsource.privacy import forget, personal_data, personal_data_on, rotate_master_key


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("personal-data", epilog=example("personal-data app.models:Base customer-7"))(list_personal_data)
    app.command("forget", epilog=example("forget app.models:Base customer-7 --reason request"))(forget_subject)
    app.command("rotate-master-key", epilog=example("rotate-master-key app.models:Base"))(rotate)


SubjectArgument = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT", show_default=False, help="The person, by the value with which events say whose data they hold."
    ),
]


def list_personal_data(base: BaseArgument, subject: SubjectArgument, *, url: UrlOption = None) -> None:
    """Print all personal data that is stored about someone, as JSON: from events, and from read models that hold it unencrypted.

    Data about others in the same events is left out.
    """
    with open_target(base, url) as target, Session(target.engine) as session, checked_arguments():
        held = personal_data(session, subject, base=target.base)
    Output().line(json.dumps(held, indent=2, ensure_ascii=False))


def forget_subject(  # noqa: PLR0913 - by keyword
    base: BaseArgument,
    subject: SubjectArgument,
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", show_default=False, help="The reason, for the record, which is kept for good.")
    ],
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Who does it, for the record.")] = None,
    url: UrlOption = None,
    as_json: DoneAsJsonOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Destroy the keys of someone's personal data: from then on, placeholders are read in its place, everywhere.

    The application and workers may run. It cannot be undone.
    """
    with open_target(base, url) as target:
        keys = personal_data_on(target.tables).subject_keys  # before anybody is asked
        if not yes:
            typer.confirm(f"All personal data of {subject} will be lost. Go on?", abort=True, err=True)
        with (
            Session(target.engine) as session,
            nullcontext() if user is None else event_context(user=user),
            checked_arguments(),
        ):
            key = session.scalar(select(keys.c.key_id).where(keys.c.subject == subject, keys.c.wrapped_key.is_not(None)).limit(1))
            done = forget(session, subject, reason=reason, base=target.base)
            session.commit()
    text = f"{subject} is forgotten"
    if key is None:
        text += ". There was no key of that name, so nothing encrypted was about them; check the spelling"
    if done.is_repeated:
        text = f"{subject} was forgotten already, on {for_people(done.forgotten_at)}: {done.reason}"
    say_done(
        text,
        as_json=as_json,
        subject=subject,
        forgotten_at=done.forgotten_at.isoformat(),
        reason=done.reason,
        is_repeated=done.is_repeated,
    )


def rotate(base: BaseArgument, *, url: UrlOption = None, as_json: DoneAsJsonOption = False) -> None:
    """Wrap the keys of personal data with the current master key, where an earlier one wrapped them.

    The log is not rewritten, and the application may run.
    """
    number = 0
    with open_target(base, url) as target, Session(target.engine) as session:
        while wrapped := rotate_master_key(session, base=target.base):
            session.commit()
            number += wrapped
    say_done(f"{counted(number, 'key was', 'keys were')} wrapped with the current master key", as_json=as_json, keys=number)
