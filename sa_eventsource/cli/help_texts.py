"""What stands under the help of every command."""

from __future__ import annotations

from rich.markup import escape


def example(*lines: str) -> str:
    """Give the epilogue of a command: a call of it to copy, whose lines fit a terminal with 80 columns."""
    call = escape("\n".join(lines))
    return f"Example: [cyan]sa-eventsource {call}[/cyan]"
