"""``sa-eventsource rewind``: a subscription or a reader takes again what comes after a place in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy.orm import Session

from sa_eventsource.cli.done_work import DoneAsJsonOption, say_done
from sa_eventsource.cli.errors import checked_arguments
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.cli.times import read_time
from sa_eventsource.counting import counted
from sa_eventsource.projections import follower_to_rewind, rewind

if TYPE_CHECKING:
    from sa_eventsource.consumers import Place


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rewind", epilog=example("rewind app.models:Base send_mails --to beginning"))(send_back)


def send_back(  # noqa: PLR0913 - each is an argument or an option
    base: BaseArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The name of the subscription or the reader.")],
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="PLACE", show_default=False, help="The word beginning, a position after which to go on, or a time (ISO 8601)."
        ),
    ],
    url: UrlOption = None,
    as_json: DoneAsJsonOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Send a subscription or a reader back, so that it takes events again that it has taken before.

    Workers may run. What the subscription does elsewhere, such as sending mails, happens again. A time means the first event that
    was recorded then or later.
    """
    place = _place(to)
    with open_target(base, url) as target, Session(target.engine) as session:
        if not yes:
            follower_to_rewind(session, target.tables, name)
            where = "the beginning" if place == "beginning" else to
            typer.confirm(f"What {name} does elsewhere will happen again, from {where} on. Go on?", abort=True, err=True)
        with checked_arguments():
            rewound = rewind(session, target.tables, name, place)
    if rewound.again:
        again = counted(rewound.again, "event")
        text = f"{name} went back: it takes {again} again, and has {counted(rewound.to_take, 'event')} to take in total"
    else:
        text = f"{name} stays where it is: it has not come further than {to}, and has {counted(rewound.to_take, 'event')} to take"
    say_done(text, as_json=as_json, name=name, again=rewound.again, to_take=rewound.to_take)


_PLACES = (
    ", nor is it a position or the word beginning; write beginning, a position such as 120, or a time like 2026-05-04T12:00:00Z"
)


def _place(text: str) -> Place:
    if text == "beginning":
        return "beginning"
    return int(text) if text.isdecimal() else read_time(text, "--to", instead=_PLACES)
