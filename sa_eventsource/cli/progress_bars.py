"""Bars on stderr that show how far a command has come, how fast it is and what time is left; none where stderr is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Task, TaskID


class RateColumn(ProgressColumn):
    """How many a second, as far as that is known: of what the bar counts, or of the field ``count`` of its task."""

    def render(self, task: Task) -> Text:
        """Show it."""
        speed = task.finished_speed or task.speed
        count = task.fields.get("count")
        if count is not None:
            speed = count / task.elapsed if task.elapsed else None
        return Text(f"{speed:,.0f}/s" if speed else "", style="progress.data.speed")


def progress_on_stderr(*, counts: bool = True, transient: bool = False) -> Progress:
    """Make a bar with what was done, the rate, the time it took and the time left; it shows nothing where stderr is no terminal.

    Args:
        counts: Whether the numbers of what is done are shown; else the description says them.
        transient: Whether it goes away in the end.
    """
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None if counts else 20),
        *((MofNCompleteColumn(),) if counts else ()),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )


class Bars:
    """A line for each thing that is checked, on a terminal."""

    def __init__(self) -> None:
        """Look at what stderr is now."""
        self._bars = progress_on_stderr()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Begin to show them."""
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave them as they are."""
        self._finish()
        self._bars.stop()

    def show(self, what: str, done: int, total: int | None) -> None:
        """Show how much of something is done."""
        if what not in self._tasks:
            self._finish()
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def show_part(self, part: str, what: str, done: int, total: int | None) -> None:
        """Show how much of something is done for a part of it, such as a tenant."""
        self.show(f"{part}: {what}", done, total)

    def _finish(self) -> None:
        """Show as done what is one statement: it is, when anything comes after it."""
        for each in self._bars.tasks:
            if each.total is None:
                self._bars.update(each.id, total=1, completed=1)
