"""Tables for a terminal: one line for each thing where that fits, one block for each where it does not; no name is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from rich.console import Console, RenderableType

_PADDING = (0, 1, 0, 0)
_ANY_WIDTH = 10_000


def table_or_blocks(
    console: Console, rows: Sequence[Mapping[str, Text]], columns: Sequence[str], *, numbers: Collection[str] = ()
) -> RenderableType:
    """Lay out rows, as a table if that is no wider than the console.

    Args:
        console: Where they are to be shown.
        rows: The cells of each row by column.
        columns: Which columns, in order; the first one heads a block. One that is empty in every row is left out.
        numbers: Those that are aligned to the right.
    """
    shown = [name for name in columns if name == columns[0] or any(row[name].plain for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, padding=_PADDING, pad_edge=False)
    for name in shown:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    if console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).maximum <= console.width:
        return table
    return Group(*(_block(row, shown) for row in rows))


def cell(value: object) -> Text:
    """Make a cell of plain text; None is empty."""
    return Text("" if value is None else str(value))


def _block(row: Mapping[str, Text], columns: Sequence[str]) -> Text:
    head, *others = columns
    parts = [Text.assemble((f"{name} ", "dim"), row[name]) for name in others if row[name].plain]
    # A name that is longer than a line is broken, not cut.
    return Text.assemble(row[head], "\n  ", Text(", ").join(parts), overflow="fold")
