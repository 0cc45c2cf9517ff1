"""``sa-eventsource publish``: one publisher as a process of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from sa_eventsource.cli.errors import UsageError
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.run import follow
from sa_eventsource.cli.target import UrlOption, import_named, on_database, tables_of
from sa_eventsource.publishing import Publisher
from sa_eventsource.workers import Worker


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("publish", epilog=example("publish app.bus:publisher"))(publish)


def publish(
    publisher: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:PUBLISHER", show_default=False, help="Module and name of the publisher, such as app.bus:publisher."
        ),
    ],
    *,
    url: UrlOption = None,
    once: Annotated[bool, typer.Option("--once", help="Publish the events that are there, then end: for cron.")] = False,
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="Print the AsyncAPI document of what it publishes, then end.")
    ] = False,
) -> None:
    """Publish events to a message broker, until SIGTERM or SIGINT.

    Any number of these may run, on any machines. Of one publisher, as many are at work at a time as it has shards. The command run
    does the same for all publishers of a base, alongside its read models and subscriptions.
    """
    declared = import_named(publisher, "a publisher")
    if not isinstance(declared, Publisher):
        raise UsageError(f"{publisher} is {declared!r}; name a publisher, which Publisher(...) makes")
    if declared.base is None:
        raise UsageError(
            f"{publisher} does not say which log it follows; declare it with Publisher({declared.name!r}, ..., base=Base)"
        )
    if asyncapi:
        typer.echo(declared.asyncapi())
        return
    try:
        with on_database(declared.base, tables_of(declared.base, publisher), url, for_all_tenants=True) as target:
            follow(Worker(target.engine, target.base, only=[declared.name]), once=once)
    finally:
        declared.close()
