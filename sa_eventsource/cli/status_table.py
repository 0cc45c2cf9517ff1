"""How far each follower has come, laid out for a terminal: one line each where it fits, one block each where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from sa_eventsource.cli.terminal_tables import table_or_blocks
from sa_eventsource.cli.times import for_people
from sa_eventsource.counting import counted
from sa_eventsource.projections import WELL, in_short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, RenderableType

    from sa_eventsource.integrity import TreeStatus
    from sa_eventsource.projections import CommandBacklog, ConsumerStatus, OldestTransaction, UndeclaredCheckpoint

_COLUMNS = ("name", "kind", "version", "state", "position", "lag", "since", "positions/s", "parked")
_NUMBERS = ("version", "position", "lag", "since", "positions/s", "parked")
_STYLES = {"running": "green", "new": "cyan", "retrying": "yellow"}


def status_view(  # noqa: PLR0913, PLR0917 - all that there is to say
    console: Console,
    statuses: Sequence[ConsumerStatus],
    backlog: CommandBacklog | None,
    oldest: OldestTransaction | None,
    rates: Mapping[str, float],
    undeclared: Sequence[UndeclaredCheckpoint] = (),
    tree: TreeStatus | None = None,
) -> RenderableType:
    """Lay out what there is to say of all followers; every name is whole, whatever the width of the terminal.

    Args:
        console: Where it is to be shown.
        statuses: The followers.
        backlog: The commands that wait; None if there is no table of them.
        oldest: The oldest open transaction.
        rates: How many positions a second each has taken, by name, where that is known.
        undeclared: The checkpoints that nothing declares.
        tree: The Merkle tree over the log; None if there is none.
    """
    rows = [_cells(each, rates.get(each.name)) for each in statuses]
    lines = [Text(f"{each.name}: {in_short(each.error)}", style="dim") for each in statuses if each.error is not None]
    if backlog is not None:
        lines.append(Text(_in_words(backlog)))
        lines += [Text(str(each), style="dim") for each in backlog.held]
    lines += [Text(str(each), style="dim") for each in undeclared]
    if tree is not None:
        lines.append(Text(_of_tree(tree)))
    if oldest is not None:
        who = f"process {oldest.process_id} ({oldest.application or 'unnamed'})"
        lines.append(Text(f"oldest open transaction: {who}, {oldest.seconds:.0f} s", style="dim"))
    if not rows:
        return Group(*lines)
    return Group(table_or_blocks(console, rows, _COLUMNS, numbers=_NUMBERS), *lines)


def _in_words(backlog: CommandBacklog) -> str:
    numbers = f"{backlog.scheduled} scheduled, {backlog.due} due, {backlog.overdue} overdue, {backlog.parked} parked"
    return f"commands: {numbers}" + (f"; the oldest has been due for {backlog.lag_seconds:.1f} s" if backlog.due else "")


def _of_tree(tree: TreeStatus) -> str:
    if tree.made_at is None:
        return f"Merkle tree: no event yet; {counted(tree.lag_events, 'event is', 'events are')} to come"
    behind = f"{counted(tree.lag_events, 'event is', 'events are')} to come, the oldest of {tree.lag_seconds:.1f} s ago"
    return (
        f"Merkle tree: {counted(tree.tree_size, 'event')}, up to position {tree.last_position}; the newest head is of "
        f"{for_people(tree.made_at)}; {behind if tree.lag_events else 'none is to come'}"
    )


def _cells(status: ConsumerStatus, rate: float | None) -> dict[str, Text]:
    cells: dict[str, Any] = {
        "name": status.name,
        "kind": status.kind.removesuffix(" model"),
        "version": "" if status.version == 1 else status.version,
        "position": status.position,
        "lag": status.lag_events if status.lag_is_whole else f">{status.lag_events}",
        "since": f"{status.lag_seconds:.1f} s" if status.lag_events else "",
        "positions/s": "" if rate is None else f"{max(rate, 0):.0f}",
        "parked": status.parked_events or "",
    }
    style = _STYLES.get(status.state, "" if status.state in WELL else "bold red")
    return {"state": Text(status.state, style=style), **{name: Text(str(value)) for name, value in cells.items()}}
