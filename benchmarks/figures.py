"""What a benchmark has measured, kept as JSON, so that the next run can be compared with it."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """What a contender reached in a case.

    Attributes:
        case: The case.
        contender: Who.
        ratio: Median over the rounds of the first contender's time to this one's in the same round: higher is faster.
        lowest: The lowest of these ratios.
        highest: The highest.
        microseconds: Median of the times.
    """

    case: str
    contender: str
    ratio: float
    lowest: float
    highest: float
    microseconds: float


@dataclass(frozen=True)
class Run:
    """One run of a benchmark.

    Attributes:
        circumstances: When, and on what.
        figures: What was measured.
    """

    circumstances: str
    figures: Sequence[Figure]

    def find(self, case: str, contender: str) -> Figure | None:
        """Look a figure up."""
        return next((each for each in self.figures if (each.case, each.contender) == (case, contender)), None)


def figures_of(case: str, contenders: Sequence[str], rounds: Sequence[Sequence[float]]) -> list[Figure]:
    """Make figures of the seconds that each contender took in each round."""
    found = []
    for index, name in enumerate(contenders):
        ratios = [times[0] / times[index] for times in rounds]
        microseconds = statistics.median(times[index] for times in rounds) * 1e6
        found.append(Figure(case, name, statistics.median(ratios), min(ratios), max(ratios), microseconds))
    return found


def save(run: Run, path: Path) -> None:
    """Write a run, in place of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Run | None:
    """Read a run; None where there is none, or one of another shape."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Run(found["circumstances"], [Figure(**each) for each in found["figures"]])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def table_of(run: Run, before: Run | None, titles: Mapping[str, str], targets: Mapping[str, float]) -> Table:
    """Show a run: a row a case, a column a contender; in a last column, what the last contender reached in the run before."""
    contenders = list(dict.fromkeys(each.contender for each in run.figures))
    table = Table("case", *contenders, "aimed at", *(() if before is None else (f"{contenders[-1]}, last run",)))
    for case in dict.fromkeys(each.case for each in run.figures):
        cells = [_cell(run.find(case, name)) for name in contenders]
        target = f"{targets[case]:.2f}" if case in targets else ""
        was = None if before is None else before.find(case, contenders[-1])
        change = () if before is None else (_change(was, run.find(case, contenders[-1])),)
        table.add_row(titles[case], *cells, target, *change)
    return table


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{figure.ratio:.2f} ({figure.lowest:.2f} to {figure.highest:.2f})  {_time(figure.microseconds)}"


def _time(microseconds: float) -> str:
    return f"{microseconds:,.0f} µs" if microseconds < _MILLISECONDS_FROM else f"{microseconds / 1000:,.1f} ms"


_MILLISECONDS_FROM = 10_000


def _change(was: Figure | None, now: Figure | None) -> str:
    if was is None or now is None:
        return ""
    return f"{was.ratio:.2f}, now {now.ratio / was.ratio - 1:+.0%}"
