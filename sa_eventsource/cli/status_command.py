"""``sa-eventsource status``: how far each model and subscription has come."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sa_eventsource.cli.errors import FAILED
from sa_eventsource.cli.output import console_for_tables
from sa_eventsource.cli.target import BaseArgument, Target, UrlOption, open_target
from sa_eventsource.projections import ConsumerStatus, OldestTransaction, ReadModelManager, oldest_transaction, problems

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLUMNS = ("name", "kind", "version", "state", "position", "lag", "since", "positions/s", "aside", "last error")
_NUMBERS = ("version", "position", "lag", "since", "positions/s", "aside")
_STYLES = {
    "running": "green",
    "new": "cyan",
    "retrying": "yellow",
    "waiting": "bold yellow",
    "stopped": "bold red",
    "outdated": "bold red",
}


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
    """Show each model's and subscription's version, state, position, lag and last error.

    The exit status is 1 if one waits, has stopped, is outdated, has put events aside, or lags more than allowed: for a health
    check.
    """
    with open_target(base, url) as target:
        manager = ReadModelManager(target.engine, target.base)
        if watch is not None and not as_json:
            _watch(target, manager, watch)
            return
        found = manager.status()
        oldest = _oldest(target)
        wrong = problems(found, max_lag_seconds=max_lag)
        if as_json:
            document = {
                "consumers": [_as_json(each) for each in found],
                "oldest_transaction": None if oldest is None else dataclasses.asdict(oldest),
                "problems": wrong,
            }
            typer.echo(json.dumps(document, indent=2))
        else:
            console = console_for_tables()
            console.print(_table(found, oldest, {}))
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
                live.update(_table(found, _oldest(target), rates), refresh=True)
                positions, before = {each.name: each.position for each in found}, now
                time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _oldest(target: Target) -> OldestTransaction | None:
    with target.engine.connect() as connection:
        return oldest_transaction(connection)


def _table(found: list[ConsumerStatus], oldest: OldestTransaction | None, rates: Mapping[str, float]) -> Table:
    caption = None
    if oldest is not None:
        caption = (
            f"oldest open transaction: process {oldest.process_id} ({oldest.application or 'unnamed'}), {oldest.seconds:.0f} s"
        )
    table = Table(caption=caption)
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    for each in found:
        rate = rates.get(each.name)
        table.add_row(
            each.name,
            each.kind,
            str(each.version),
            f"[{_STYLES[each.state]}]{each.state}[/]",
            str(each.position),
            str(each.lag_events),
            f"{each.lag_seconds:.1f} s" if each.lag_events else "",
            "" if rate is None else f"{max(rate, 0):.0f}",
            str(each.parked_events or ""),
            escape(each.error.strip().splitlines()[-1]) if each.error else "",
        )
    return table


def _as_json(status: ConsumerStatus) -> dict[str, Any]:
    found = {each.name: getattr(status, each.name) for each in dataclasses.fields(status) if each.name != "model"}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.items()}
