"""``sa-eventsource status``: how far each model and subscription has come."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.live import Live

from sa_eventsource.cli.errors import FAILED, UsageError
from sa_eventsource.cli.output import console_for_tables
from sa_eventsource.cli.status_table import status_view
from sa_eventsource.cli.target import IMPORT_THEM, BaseArgument, Target, UrlOption, open_target
from sa_eventsource.projections import (
    ConsumerStatus,
    OldestTransaction,
    ReadModelManager,
    UndeclaredCheckpoint,
    oldest_transaction,
    problems,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[float | None, typer.Option(metavar="SECONDS", min=0.1, help="Show it again and again, until Ctrl-C.")] = None,
    max_lag: Annotated[float | None, typer.Option(metavar="SECONDS", help="A lag above this is a problem.")] = None,
) -> None:
    """Show each model's, subscription's and reader's version, state, position, lag and last error, and how many commands wait.

    The exit status is 1 if one does not follow or has rows that are not right, as its state says, has parked events, or lags
    more than allowed, or if commands are parked, or have been due for longer than that, or than a minute, or if a checkpoint that
    nothing declares has stood still for a day: for a health check.
    """
    if watch is not None and (as_json or max_lag is not None):
        ignored = "--json" if as_json else "--max-lag"
        raise UsageError(f"--watch shows a table until Ctrl-C; {ignored} has no meaning with it. Leave one of them out")
    with open_target(base, url) as target:
        manager = ReadModelManager(target.engine, target.base)
        found, backlog, undeclared = manager.status(), manager.commands(), manager.undeclared()
        if not found and backlog is None:
            raise UsageError(f"{base} has no read model and no subscription; {IMPORT_THEM}")
        if watch is not None:
            _watch(target, manager, watch)
            return
        oldest = _oldest(target)
        wrong = problems(found, backlog, undeclared, max_lag_seconds=max_lag)
        if as_json:
            document = {
                "consumers": [_as_json(each) for each in found],
                "commands": None if backlog is None else dataclasses.asdict(backlog),
                "undeclared": [_as_json(each) for each in undeclared],
                "oldest_transaction": None if oldest is None else dataclasses.asdict(oldest),
                "problems": wrong,
            }
            typer.echo(json.dumps(document, indent=2))
        else:
            console = console_for_tables()
            console.print(status_view(console, found, backlog, oldest, {}, [each for each in undeclared if not each.is_problem]))
            for each in wrong:
                console.print(each, style="red", markup=False, highlight=False)
        if wrong:
            raise typer.Exit(FAILED)


def _watch(target: Target, manager: ReadModelManager, seconds: float) -> None:
    """Show the table until it is interrupted, with the rate since the time before."""
    positions: dict[str, int] = {}
    before = time.monotonic()
    try:
        with Live(auto_refresh=False) as live:
            while True:
                found, now = manager.status(), time.monotonic()
                rates = {
                    each.name: (each.position - positions[each.name]) / (now - before) for each in found if each.name in positions
                }
                view = status_view(live.console, found, manager.commands(), _oldest(target), rates, manager.undeclared())
                live.update(view, refresh=True)
                positions, before = {each.name: each.position for each in found}, now
                time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _oldest(target: Target) -> OldestTransaction | None:
    with target.engine.connect() as connection:
        return oldest_transaction(connection)


def _as_json(status: ConsumerStatus | UndeclaredCheckpoint) -> dict[str, Any]:
    found = {each.name: getattr(status, each.name) for each in dataclasses.fields(status) if each.name != "model"}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.items()}
