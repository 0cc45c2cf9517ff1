"""``sa-eventsource commands``: what to do about commands that wait, are parked, or were done long ago."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from sa_eventsource.cli.done_work import DoneAsJsonOption, say_done, say_none
from sa_eventsource.cli.errors import UsageError
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.output import console_for_tables, printable
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.cli.terminal_tables import cell, table_or_blocks
from sa_eventsource.commands import Commands, discard_command, retry_command, waiting_commands
from sa_eventsource.counting import counted
from sa_eventsource.projections import in_short

IdArgument = Annotated[UUID, typer.Argument(metavar="ID", show_default=False, help="The command's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Look after commands that are scheduled or parked, or were handled under an id.")
    group.command("list", epilog=example("commands list app.models:Base --parked"))(list_waiting)
    group.command("retry", epilog=example("commands retry app.models:Base --type SendInvoice"))(retry)
    group.command("discard", epilog=example("commands discard app.models:Base $COMMAND_ID"))(discard)
    group.command("prune", epilog=example("commands prune app.models:Base --older-than 90"))(prune)
    app.add_typer(group, name="commands")


def list_waiting(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    only_parked: Annotated[bool, typer.Option("--parked", help="Only those that are parked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    errors: Annotated[bool, typer.Option("--errors", help="Print each error with its traceback.")] = False,
) -> None:
    """List the commands that are scheduled, and those that are parked because they failed."""
    with open_target(base, url, masks=True) as target, Session(target.engine) as session:
        waiting = waiting_commands(session, target.base, only_parked=only_parked)
    if as_json:
        for each in waiting:
            typer.echo(json.dumps(asdict(each), default=str))
        return
    rows = [
        {
            "id": cell(each.command_id),
            "command": cell(each.command_type),
            "status": cell(each.status),
            "due": cell(f"{each.due_at:%Y-%m-%d %H:%M:%S}"),
            "key": cell(printable(each.key or "")),
            "time-out of": cell("" if each.process_type is None else printable(f"{each.process_type} {each.process_id}")),
            "attempts": cell(each.attempts),
            "data": cell(printable(in_short(each.data))),
            "error": cell(printable(in_short(each.error or ""))),
        }
        for each in waiting
    ]
    if not rows:
        say_none("no parked command" if only_parked else "no scheduled and no parked command")
        return
    console = console_for_tables()
    console.print(table_or_blocks(console, rows, tuple(rows[0]), numbers=("attempts",)))
    for each in waiting if errors else ():
        if each.error is not None:
            console.print(f"\n{each.command_type} {each.command_id}:\n{each.error}", markup=False, soft_wrap=True)


def retry(
    base: BaseArgument,
    command_id: Annotated[UUID | None, typer.Argument(metavar="[ID]", show_default=False, help="The command's id.")] = None,
    *,
    url: UrlOption = None,
    command_type: Annotated[
        str | None,
        typer.Option("--type", metavar="NAME", show_default=False, help="All parked commands of this stored type."),
    ] = None,
    as_json: DoneAsJsonOption = False,
) -> None:
    """Schedule a parked command, or all of a type, for now, with all its attempts again."""
    if (command_id is None) == (command_type is None):
        raise UsageError("name one command by its id, or a type: --type NAME")
    with open_target(base, url) as target, Session(target.engine) as session:
        parked = {each.command_id: each.command_type for each in waiting_commands(session, target.base, only_parked=True)}
        wanted = [each for each, its_type in parked.items() if each == command_id or its_type == command_type]
        if not wanted:
            raise UsageError(f"there is no parked command {command_id or f'of type {command_type!r}'}")
        for each in wanted:
            retry_command(session, target.base, each)
        session.commit()
    said = "\n".join(f"{each} is scheduled for now" for each in wanted)
    say_done(said, as_json=as_json, scheduled=wanted)


def discard(base: BaseArgument, command_id: IdArgument, *, url: UrlOption = None, as_json: DoneAsJsonOption = False) -> None:
    """Discard a scheduled or parked command: it will never be done."""
    with open_target(base, url) as target, Session(target.engine) as session:
        if not discard_command(session, target.base, command_id):
            raise UsageError(f"there is no scheduled and no parked command {command_id}")
        session.commit()
    say_done(f"{command_id} is discarded", as_json=as_json, discarded=command_id)


def prune(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Only commands that were done at least this many days ago.")
    ],
    as_json: DoneAsJsonOption = False,
) -> None:
    """Forget commands that were done long ago: one that comes again under its id would be done again."""
    with open_target(base, url) as target:
        number = Commands(target.engine, target.base).prune(older_than=timedelta(days=older_than))
    say_done(f"forgot {counted(number, 'command')}", as_json=as_json, commands=number)
