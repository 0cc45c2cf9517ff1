"""``sa-eventsource parked`` and ``resume``: what to do about events that could not be taken."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy.orm import Session

from sa_eventsource.cli.done_work import DoneAsJsonOption, say_done, say_none
from sa_eventsource.cli.errors import FAILED, UsageError, describe
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.output import console_for_tables, printable
from sa_eventsource.cli.target import IMPORT_THEM, BaseArgument, Target, UrlOption, open_target
from sa_eventsource.cli.terminal_tables import cell, table_or_blocks
from sa_eventsource.consumers import consumers_on
from sa_eventsource.counting import counted
from sa_eventsource.projections import drop_stream, in_short, parked_streams, resume, retry_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sa_eventsource.consumers import Consumer
    from sa_eventsource.projections import ParkedStream

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        show_default=False,
        help="The model's __projection_name__ (by default its class's name), or the subscription's name.",
    ),
]
StreamOption = Annotated[
    str | None, typer.Option("--id", metavar="ID", show_default=False, help="Only the stream of this aggregate id.")
]

StreamsAsJsonOption = Annotated[bool, typer.Option("--json", help="Print what was done as JSON, one line per stream.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    parked = typer.Typer(no_args_is_help=True, help="List, retry or drop events that are parked.")
    parked.command("list", epilog=example("parked list app.models:Base --errors"))(list_parked)
    parked.command("retry", epilog=example("parked retry app.models:Base order_list --id order-1"))(retry)
    parked.command("drop", epilog=example("parked drop app.models:Base order_list --id order-1"))(drop)
    app.add_typer(parked, name="parked")
    app.command("resume", epilog=example("resume app.models:Base order_list"))(resume_stopped)


def list_parked(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    errors: Annotated[bool, typer.Option("--errors", help="Print each error with its traceback.")] = False,
) -> None:
    """List the streams that models and subscriptions have parked, with the event that could not be taken."""
    with open_target(base, url) as target, Session(target.engine) as session:
        consumers = consumers_on(target.tables)
        if not consumers:
            raise UsageError(f"{base} has no eventual read model and no subscription, so nothing can be parked; {IMPORT_THEM}")
        streams = [stream for each in consumers for stream in parked_streams(session, each)]
    if as_json:
        for stream in streams:
            typer.echo(json.dumps(asdict(stream), default=str))
        return
    rows = [
        {
            "name": cell(stream.name),
            "aggregate": cell(stream.aggregate_type),
            "id": cell(printable(stream.aggregate_id)),
            "position": cell(stream.position),
            "events": cell(stream.events),
            "since": cell(f"{stream.parked_at:%Y-%m-%d %H:%M:%S}"),
            "error": cell(printable(in_short(stream.error or ""))),
        }
        for stream in streams
    ]
    if not rows:
        say_none("no parked event")
        return
    console = console_for_tables()
    console.print(table_or_blocks(console, rows, tuple(rows[0]), numbers=("position", "events")))
    for stream in streams if errors else ():
        console.print(f"\n{stream.name}, position {stream.position}:\n{stream.error}", markup=False, soft_wrap=True)


def retry(
    base: BaseArgument,
    name: NameArgument,
    *,
    url: UrlOption = None,
    aggregate_id: StreamOption = None,
    as_json: StreamsAsJsonOption = False,
) -> None:
    """Try parked events again, each stream in order and in its own transaction; what still cannot be taken stays parked.

    The exit status is 1 if any stay parked.
    """
    failed = 0
    with open_target(base, url) as target, Session(target.engine) as session:
        consumer = _consumer(target, name)
        for stream in _streams(session, consumer, aggregate_id):
            try:
                number = retry_stream(session, consumer, stream)
            except Exception as error:  # noqa: BLE001 - reported, and the next stream goes on
                failed += 1
                _say(stream, describe(error), as_json=as_json, taken=0, error=describe(error))
            else:
                _say(stream, f"took {counted(number, 'event')}", as_json=as_json, taken=number, error=None)
    if failed:
        raise typer.Exit(FAILED)


def drop(
    base: BaseArgument,
    name: NameArgument,
    *,
    url: UrlOption = None,
    aggregate_id: StreamOption = None,
    as_json: StreamsAsJsonOption = False,
) -> None:
    """Give up parked events: they are never taken, and later events of their streams are taken again."""
    with open_target(base, url) as target, Session(target.engine) as session:
        consumer = _consumer(target, name)
        for stream in _streams(session, consumer, aggregate_id):
            number = drop_stream(session, consumer, stream)
            _say(stream, f"dropped {counted(number, 'event')}", as_json=as_json, dropped=number)


def resume_stopped(
    base: BaseArgument,
    name: NameArgument,
    *,
    url: UrlOption = None,
    skip: Annotated[bool, typer.Option("--skip", help="Skip the event for good, instead of trying it again.")] = False,
    as_json: DoneAsJsonOption = False,
) -> None:
    """Let a model or subscription that stopped at an event go on."""
    with open_target(base, url) as target, Session(target.engine) as session:
        had_stopped = resume(session, _consumer(target, name), skip=skip)
    say_done(f"{name} {'goes on' if had_stopped else 'had not stopped'}", as_json=as_json, name=name, had_stopped=had_stopped)


def _say(stream: ParkedStream, text: str, *, as_json: bool, **members: object) -> None:
    members = {"aggregate_type": stream.aggregate_type, "aggregate_id": stream.aggregate_id, **members}
    say_done(f"{stream.aggregate_type} {stream.aggregate_id}: {text}", as_json=as_json, **members)


def _consumer(target: Target, name: str) -> Consumer:
    known = {each.name: each for each in consumers_on(target.tables)}
    if name not in known:
        raise UsageError(f"there is no eventual read model and no subscription {name!r}; there are: {', '.join(known) or 'none'}")
    return known[name]


def _streams(session: Session, consumer: Consumer, aggregate_id: str | None) -> Iterator[ParkedStream]:
    found = parked_streams(session, consumer, aggregate_id=aggregate_id)
    if not found:
        which = "nothing" if aggregate_id is None else f"nothing of {aggregate_id!r}"
        raise UsageError(f"{consumer.name} has parked {which}")
    return iter(found)
