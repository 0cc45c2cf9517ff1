"""``sa-eventsource run``: the worker as a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from sa_eventsource.cli.errors import FAILED, UsageError
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.target import IMPORT_THEM, BaseArgument, UrlOption, make_engine, open_target
from sa_eventsource.counting import counted
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.workers import Pace, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from sqlalchemy import Engine

log = logging.getLogger("sa_eventsource.worker")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run", epilog=example("run app.models:Base --only order_list"))(run)


def run(  # noqa: PLR0913 - each is an option of the command
    base: BaseArgument,
    *,
    url: UrlOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Follow only this model or subscription, commands, or pruning; may be repeated."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Take the events that are there, then end: for cron.")] = False,
    longest_pause: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="The longest time between two looks for events.")
    ] = Pace().longest,
    longest_idle: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.001, help="How long a model's transaction may be idle, as when the worker is frozen."
        ),
    ] = Pace().longest_idle,
    longest_call: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="How long the function of a subscription may take.")
    ] = Pace().longest_call,
    listen: Annotated[bool, typer.Option("--listen", help="Be told of commits by an Announcer, instead of asking often.")] = False,
    listen_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", show_default=False, help="Where to listen, if --url leads through a pooler: the database itself."
        ),
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="How often an event is tried.")] = RetryPolicy().attempts,
) -> None:
    """Keep eventual read models and subscriptions up to date with the log, and run scheduled commands, until SIGTERM or SIGINT.

    Any number of workers may run, on any machines. On a signal, the current batch is finished. If the worker is killed, the
    database rolls the batch back.

    With --once, the exit status is 1 if a model or subscription could not go on: because its log was moved, because something
    hinders it, or because it stopped at an event.
    """
    if once and (listen or listen_url is not None):
        raise UsageError("--once takes the events that are there, and ends; leave --listen and --listen-url out")
    with open_target(base, url, for_all_tenants=True) as target, _listening_engine(listen_url) as listening_engine:
        retries = RetryPolicy(attempts=attempts)
        pace = Pace(
            shortest=min(Pace().shortest, longest_pause),
            longest=longest_pause,
            longest_idle=longest_idle,
            longest_call=longest_call,
        )
        worker = Worker(
            target.engine, target.base, only=only or None, pace=pace, retries=retries, listen=listening_engine or listen
        )
        if not worker.names:
            raise UsageError(f"{base} has no eventual read model and no subscription, so there is nothing to follow; {IMPORT_THEM}")
        follow(worker, once=once)


def follow(worker: Worker, *, once: bool) -> None:
    """Have a worker follow the log in this process: until a signal, or once."""
    _log_to(Console(stderr=True))
    if once:
        typer.echo(f"took {counted(worker.run_once(), 'event')}", err=True)
        for name, why in worker.hindered.items():
            typer.echo(f"{name} does not go on: {why}", err=True)
        if worker.hindered:
            raise typer.Exit(FAILED)
        return
    log.info("following the log for %s", ", ".join(worker.names))
    stop = threading.Event()
    _stop_on_signals(stop)
    log.info("stopped; took %s", counted(worker.run(stop), "event"))


def _log_to(console: Console) -> None:
    """Log for those who look on; for a file or a journal, each message whole in its line."""
    if console.is_terminal:
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console)])
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


@contextmanager
def _listening_engine(url: str | None) -> Iterator[Engine | None]:
    if url is None:
        yield None
        return
    engine = make_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _stop_on_signals(stop: threading.Event) -> None:
    def ask(number: int, _frame: FrameType | None) -> None:
        # Not by the log, whose locks the interrupted code may hold.
        os.write(sys.stderr.fileno(), f"{signal.Signals(number).name}: stopping after the batch under way\n".encode())
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
