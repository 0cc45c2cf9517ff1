"""How far each follower has come, laid out for a terminal: one line each where it fits, one block each where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sa_eventsource.projections import WELL, in_short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, RenderableType

    from sa_eventsource.projections import CommandBacklog, ConsumerStatus, OldestTransaction, UndeclaredCheckpoint

_COLUMNS = ("name", "kind", "version", "state", "position", "lag", "since", "positions/s", "parked")
_TEXTS = ("name", "kind", "state")
_STYLES = {"running": "green", "new": "cyan", "retrying": "yellow"}
_PADDING = (0, 1, 0, 0)
_ANY_WIDTH = 10_000


def status_view(  # noqa: PLR0913, PLR0917 - all that there is to say
    console: Console,
    statuses: Sequence[ConsumerStatus],
    backlog: CommandBacklog | None,
    oldest: OldestTransaction | None,
    rates: Mapping[str, float],
    undeclared: Sequence[UndeclaredCheckpoint] = (),
) -> RenderableType:
    """Lay out what there is to say of all followers; every name is whole, whatever the width of the terminal.

    Args:
        console: Where it is to be shown.
        statuses: The followers.
        backlog: The commands that wait; None if there is no table of them.
        oldest: The oldest open transaction.
        rates: How many positions a second each has taken, by name, where that is known.
        undeclared: The checkpoints that nothing declares.
    """
    rows = [_cells(each, rates.get(each.name)) for each in statuses]
    # A column that says nothing of anyone takes no room.
    columns = [name for name in _COLUMNS if name in ("name", "state", "position", "lag") or any(row[name].plain for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, padding=_PADDING, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in _TEXTS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    lines = [Text(f"{each.name}: {in_short(each.error)}", style="dim") for each in statuses if each.error is not None]
    if backlog is not None:
        lines.append(Text(_in_words(backlog)))
        lines += [Text(str(each), style="dim") for each in backlog.held]
    lines += [Text(str(each), style="dim") for each in undeclared]
    if oldest is not None:
        who = f"process {oldest.process_id} ({oldest.application or 'unnamed'})"
        lines.append(Text(f"oldest open transaction: {who}, {oldest.seconds:.0f} s", style="dim"))
    if not rows:
        return Group(*lines)
    if console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).maximum <= console.width:
        return Group(table, *lines)
    return Group(*(_block(row, columns) for row in rows), *lines)


def _in_words(backlog: CommandBacklog) -> str:
    numbers = f"{backlog.scheduled} scheduled, {backlog.due} due, {backlog.overdue} overdue, {backlog.parked} parked"
    return f"commands: {numbers}" + (f"; the oldest has been due for {backlog.lag_seconds:.1f} s" if backlog.due else "")


def _block(row: Mapping[str, Text], columns: Sequence[str]) -> Text:
    parts = [Text.assemble((f"{name} ", "dim"), row[name]) for name in columns if name != "name" and row[name].plain]
    # A name that is longer than a line is broken, not cut.
    return Text.assemble(row["name"], "\n  ", Text(", ").join(parts), overflow="fold")


def _cells(status: ConsumerStatus, rate: float | None) -> dict[str, Text]:
    cells: dict[str, Any] = {
        "name": status.name,
        "kind": status.kind.removesuffix(" model"),
        "version": "" if status.version == 1 else status.version,
        "position": status.position,
        "lag": status.lag_events,
        "since": f"{status.lag_seconds:.1f} s" if status.lag_events else "",
        "positions/s": "" if rate is None else f"{max(rate, 0):.0f}",
        "parked": status.parked_events or "",
    }
    style = _STYLES.get(status.state, "" if status.state in WELL else "bold red")
    return {"state": Text(status.state, style=style), **{name: Text(str(value)) for name, value in cells.items()}}
