"""Writing to stdout: plain text into a pipe or file, colours on a terminal, and nothing that a terminal would obey."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

Segment: TypeAlias = tuple[str, str]
"""Text and rich style."""

_WIDEST = 48
_WIDTH_OF_NO_TERMINAL = 200


class Output:
    """Lines to stdout, in UTF-8."""

    def __init__(self) -> None:
        """Look at what stdout is now."""
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")
        self._stream = sys.stdout
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """Write a line as it is."""
        self._stream.write(f"{text}\n")

    def styled(self, *segments: Segment) -> None:
        """Write a line for people; control characters are shown, not sent."""
        shown = [(printable(text), style) for text, style in segments]
        if self._console.is_terminal:
            self._console.print(Text.assemble(*shown))
        else:
            self.line("".join(text for text, _ in shown).rstrip())

    def flush(self) -> None:
        """Send what is buffered."""
        self._stream.flush()


def console_for_tables() -> Console:
    """Make a console for stdout that is as wide as the terminal, or, into a pipe or file, wide enough."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_NO_TERMINAL
    return console


def printable(text: str) -> str:
    r"""Replace what is no printable character by its escape, such as ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def padded(cells: Sequence[str], widths: list[int]) -> list[str]:
    """Pad cells to the widths of their columns, which grow where a cell is wider, up to a point."""
    widths[:] = [max(width, min(len(cell), _WIDEST)) for width, cell in zip(widths, cells, strict=True)]
    return [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
