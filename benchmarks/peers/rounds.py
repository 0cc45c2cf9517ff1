"""Rounds in which the contenders take turns, so that a machine that slows down slows all of them; and what comes of them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

from benchmarks.peers.contender import APPENDING, DELAY, FOLLOWING, MEASURES
from benchmarks.peers.measures import appends_in_processes, appends_in_threads, delays, fill, following, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import URL

    from benchmarks.peers.contender import Contender


@dataclass(frozen=True)
class Player:
    """A contender with a database of its own.

    Attributes:
        url: The database.
        measures: What is measured of it.
        connect: Connects to the database, with so many connections at most. They are held for one measurement at a time, so that
            the server has enough of them for all.
    """

    url: URL
    measures: frozenset[str]
    connect: Callable[[int], Contender]

    def open(self, connections: int = 2) -> AbstractContextManager[Contender]:
        """Connect for a block."""
        return closing(self.connect(connections))


@dataclass(frozen=True)
class Size:
    """How much is done."""

    rounds: int
    events: int
    samples: int
    rate_beside: float
    writers: Sequence[int]
    seconds: float


@dataclass
class Results:
    """What each contender reached in each round, by what was measured.

    Attributes:
        rates: Events or commits a second: of what, by whom, in each round.
        delays: Seconds from a commit to the row, of all rounds together.
    """

    rates: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    delays: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def table(self, names: Sequence[str]) -> Table:
        """Show medians, and in brackets the median of the ratios to the first contender in the same round."""
        first = names[0]
        table = Table("", *names)
        for what, rates in self.rates.items():
            cells = [_rate_cell(rates, name, first) for name in names]
            table.add_row(what, *cells)
        for title, share in _DELAYS if self.delays else ():
            table.add_row(title, *(_delay_cell(self.delays, name, first, share) for name in names))
        return table


_DELAYS = (("commit to visible, median", 0.5), ("commit to visible, p99", 0.99))


def play(players: Mapping[str, Player], size: Size, measures: Collection[str] = MEASURES) -> Results:
    """Measure all of it, or only some."""
    results = Results()
    for name, measure in ((FOLLOWING, _following), (APPENDING, _appending), (DELAY, _delay)):
        if name in measures:
            measure(players, size, results)
    return results


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of them lies; the highest for a share that only the highest exceeds."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _following(players: Mapping[str, Player], size: Size, results: Results) -> None:
    playing = _measured(players, FOLLOWING)
    for player in playing.values():
        with player.open() as contender:
            fill(contender, size.events)
    for _ in range(size.rounds):
        for name, player in playing.items():
            with player.open() as contender:
                contender.forget()
                results.rates["catch-up, events/s"][name].append(rate(contender.catch_up, size.events))
                results.rates["rebuild, events/s"][name].append(rate(contender.rebuild, size.events))


def _appending(players: Mapping[str, Player], size: Size, results: Results) -> None:
    playing = _measured(players, APPENDING)
    for writers in size.writers:
        for _ in range(size.rounds):
            for name, player in playing.items():
                with player.open(writers) as contender:
                    in_threads = appends_in_threads(contender, writers, size.seconds)
                results.rates[f"appends/s, threads: {writers}"][name].append(in_threads)
        for _ in range(size.rounds):
            for name, player in playing.items():
                in_processes = appends_in_processes(name, player.url, writers, size.seconds)
                results.rates[f"appends/s, processes: {writers}"][name].append(in_processes)


def _delay(players: Mapping[str, Player], size: Size, results: Results) -> None:
    playing = _measured(players, DELAY)
    for player in playing.values():
        with player.open() as contender:
            contender.catch_up()
    for _ in range(size.rounds):
        for name, player in playing.items():
            with player.open() as contender, following(name, player.url):
                results.delays[name] += delays(contender, player.url, size.samples // size.rounds, size.rate_beside)


def _measured(players: Mapping[str, Player], measure: str) -> dict[str, Player]:
    return {name: player for name, player in players.items() if measure in player.measures}


def _rate_cell(rates: Mapping[str, Sequence[float]], name: str, first: str) -> str:
    if name not in rates:
        return ""
    ratio = statistics.median(own / other for own, other in zip(rates[name], rates[first], strict=True))
    return f"{statistics.median(rates[name]):,.0f}  ({ratio:.2f})"


def _delay_cell(delays: Mapping[str, Sequence[float]], name: str, first: str, share: float) -> str:
    if name not in delays:
        return ""
    own, other = quantile(delays[name], share), quantile(delays[first], share)
    return f"{own * 1000:.1f} ms  ({own / other:.2f})"
