"""``sa-eventsource parked`` and ``resume``: what to do about events that could not be taken."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.orm import Session

from sa_eventsource.cli.errors import FAILED, UsageError, describe
from sa_eventsource.cli.output import console_for_tables
from sa_eventsource.cli.target import IMPORT_THEM, BaseArgument, Target, UrlOption, open_target
from sa_eventsource.consumers import consumers_on
from sa_eventsource.counting import counted
from sa_eventsource.projections import drop_stream, in_short, parked_streams, resume, retry_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sa_eventsource.consumers import Consumer
    from sa_eventsource.projections import ParkedStream

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", show_default=False, help="The model's __projection_name__, or the subscription's name.")
]
StreamOption = Annotated[
    str | None, typer.Option("--id", metavar="ID", show_default=False, help="Only the stream of this aggregate id.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    parked = typer.Typer(no_args_is_help=True, help="List, retry or drop events that are parked.")
    parked.command("list")(list_parked)
    parked.command("retry")(retry)
    parked.command("drop")(drop)
    app.add_typer(parked, name="parked")
    app.command("resume")(resume_stopped)


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
    table = Table("name", "aggregate", "id", "position", "events", "since", "error")
    for stream in streams:
        table.add_row(
            stream.name,
            stream.aggregate_type,
            escape(stream.aggregate_id),
            str(stream.position),
            str(stream.events),
            f"{stream.parked_at:%Y-%m-%d %H:%M:%S}",
            escape(in_short(stream.error or "")),
        )
    console = console_for_tables()
    console.print(table)
    for stream in streams if errors else ():
        console.print(f"\n{stream.name}, position {stream.position}:\n{stream.error}", markup=False, soft_wrap=True)


def retry(base: BaseArgument, name: NameArgument, *, url: UrlOption = None, aggregate_id: StreamOption = None) -> None:
    """Take what is parked, each stream in order and in a transaction of its own; what still cannot be taken stays parked.

    The exit status is 1 if any stays.
    """
    failed = 0
    with open_target(base, url) as target, Session(target.engine) as session:
        consumer = _consumer(target, name)
        for stream in _streams(session, consumer, aggregate_id):
            try:
                number = retry_stream(session, consumer, stream)
            except Exception as error:  # noqa: BLE001 - reported, and the next stream goes on
                failed += 1
                typer.echo(f"{stream.aggregate_type} {stream.aggregate_id}: {describe(error)}", err=True)
            else:
                typer.echo(f"{stream.aggregate_type} {stream.aggregate_id}: took {counted(number, 'event')}", err=True)
    if failed:
        raise typer.Exit(FAILED)


def drop(base: BaseArgument, name: NameArgument, *, url: UrlOption = None, aggregate_id: StreamOption = None) -> None:
    """Forget what is parked: those events are never taken, the later ones of their streams are."""
    with open_target(base, url) as target, Session(target.engine) as session:
        consumer = _consumer(target, name)
        for stream in _streams(session, consumer, aggregate_id):
            number = drop_stream(session, consumer, stream)
            typer.echo(f"{stream.aggregate_type} {stream.aggregate_id}: dropped {counted(number, 'event')}", err=True)


def resume_stopped(
    base: BaseArgument,
    name: NameArgument,
    *,
    url: UrlOption = None,
    skip: Annotated[bool, typer.Option("--skip", help="Leave the event out for ever, instead of trying it again.")] = False,
) -> None:
    """Have a model or subscription that stopped at an event go on."""
    with open_target(base, url) as target, Session(target.engine) as session:
        had_stopped = resume(session, _consumer(target, name), skip=skip)
    typer.echo(f"{name} {'goes on' if had_stopped else 'had not stopped'}", err=True)


def _consumer(target: Target, name: str) -> Consumer:
    known = {each.name: each for each in consumers_on(target.tables)}
    if name not in known:
        raise UsageError(f"there is no eventual read model and no subscription {name!r}; there are: {', '.join(known) or 'none'}")
    return known[name]


def _streams(session: Session, consumer: Consumer, aggregate_id: str | None) -> Iterator[ParkedStream]:
    found = [each for each in parked_streams(session, consumer) if aggregate_id in (None, each.aggregate_id)]
    if not found:
        which = "nothing" if aggregate_id is None else f"nothing of {aggregate_id!r}"
        raise UsageError(f"{consumer.name} has parked {which}")
    return iter(found)
