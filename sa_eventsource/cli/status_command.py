"""``sa-eventsource status``: how far each model and subscription has come."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from sa_eventsource.cli.errors import FAILED, UsageError
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.log_status import LogStatus, of_tenants, oldest_of
from sa_eventsource.cli.output import console_for_tables
from sa_eventsource.cli.status_table import status_view
from sa_eventsource.cli.target import IMPORT_THEM, BaseArgument, Target, UrlOption, open_target
from sa_eventsource.store import current_tenant

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from sa_eventsource.projections import OldestTransaction


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", epilog=example("status app.models:Base --max-lag 60"))(status)


def status(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[float | None, typer.Option(metavar="SECONDS", min=0.1, help="Show it again and again, until Ctrl-C.")] = None,
    max_lag: Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="A lag above this is a problem.")] = None,
) -> None:
    """Show the version, state, position, lag and last error of each model, subscription and reader, and how many commands wait.

    If the log has proofs, it also shows how far the Merkle tree has come. If tenants share the log and none is named, it shows all
    of them, which takes the worker's role.

    For health checks, the exit status is 1 in these cases. A model, subscription or reader does not follow the log, or its state
    says that its rows are not right. One has parked events, or lags more than --max-lag. Commands are parked. Commands have been
    due, or events have waited for the tree, for longer than --max-lag (by default a minute). A checkpoint that nothing declares has
    not moved for a day.
    """
    if watch is not None and (as_json or max_lag is not None):
        ignored = "--json" if as_json else "--max-lag"
        raise UsageError(f"--watch shows a table until Ctrl-C; {ignored} has no meaning with it. Leave one of them out")
    with open_target(base, url, for_all_tenants=True) as target:
        if target.tables.options.tenants and current_tenant() is None:
            if watch is not None:
                raise UsageError("--watch shows one tenant: sa-eventsource --tenant NAME status ... --watch")
            wrong = _show_tenants(target, max_lag, as_json=as_json)
        else:
            found = LogStatus.read(target)
            if found.is_empty:
                raise UsageError(f"{base} has no read model and no subscription; {IMPORT_THEM}")
            if watch is not None:
                _watch(target, watch)
                return
            wrong = _show(target, found, max_lag, as_json=as_json)
    if wrong:
        raise typer.Exit(FAILED)


def _show(target: Target, found: LogStatus, max_lag: float | None, *, as_json: bool) -> list[str]:
    """Show one log; return what is wrong."""
    wrong, oldest = found.problems(max_lag), oldest_of(target)
    if as_json:
        _print_json({**found.to_json(), "oldest_transaction": _oldest_as_json(oldest), "problems": wrong})
        return wrong
    console = console_for_tables()
    console.print(_view(console, found, oldest))
    _print_problems(console, wrong)
    return wrong


def _show_tenants(target: Target, max_lag: float | None, *, as_json: bool) -> list[str]:
    """Show each tenant's part of a log; return what is wrong, with the tenant in front."""
    found, oldest = of_tenants(target), oldest_of(target)
    by_tenant = {tenant: each.problems(max_lag) for tenant, each in found.items()}
    wrong = [f"{tenant}: {each}" for tenant, several in by_tenant.items() for each in several]
    if as_json:
        tenants = {tenant: {**each.to_json(), "problems": by_tenant[tenant]} for tenant, each in found.items()}
        _print_json({"tenants": tenants, "oldest_transaction": _oldest_as_json(oldest), "problems": wrong})
        return wrong
    console = console_for_tables()
    for tenant, each in found.items():
        console.print(f"tenant {tenant}", style="bold", markup=False, highlight=False)
        console.print(_view(console, each, None))
    if not found:
        console.print("no tenant has events or commands")
    _print_problems(console, wrong)
    return wrong


def _view(console: Console, found: LogStatus, oldest: OldestTransaction | None) -> RenderableType:
    undeclared = [each for each in found.undeclared if not each.is_problem]
    return status_view(console, found.consumers, found.commands, oldest, {}, undeclared, found.tree)


def _print_problems(console: Console, wrong: list[str]) -> None:
    for each in wrong:
        console.print(each, style="red", markup=False, highlight=False)


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2))


def _oldest_as_json(oldest: OldestTransaction | None) -> dict[str, Any] | None:
    return None if oldest is None else dataclasses.asdict(oldest)


def _watch(target: Target, seconds: float) -> None:
    """Show the table until it is interrupted, with the rate since the time before."""
    positions: dict[str, int] = {}
    before = time.monotonic()
    try:
        with Live(auto_refresh=False) as live:
            while True:
                found, now = LogStatus.read(target), time.monotonic()
                rates = {
                    each.name: (each.position - positions[each.name]) / (now - before)
                    for each in found.consumers
                    if each.name in positions
                }
                oldest = oldest_of(target)
                view = status_view(live.console, found.consumers, found.commands, oldest, rates, found.undeclared, found.tree)
                live.update(view, refresh=True)
                positions, before = {each.name: each.position for each in found.consumers}, now
                time.sleep(seconds)
    except KeyboardInterrupt:
        return
