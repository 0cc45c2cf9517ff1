"""Run the benchmark: ``python -m benchmarks [--url URL] [--rounds N] [--durable] [--cases abc] [--json FILE]``.

The contenders take turns within each round, so that a machine that slows down slows all of them. What counts is the ratio to raw
psycopg in the same round; the table shows the median over the rounds, the lowest and the highest, and what a piece of work took.
The server commits with ``synchronous_commit = off`` unless ``--durable`` is given: waiting for the disk takes the same time for
everyone and would hide the differences. The figures are written to a file, with which the next run is compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.contenders import Contender, PlainOrm, RawPsycopg, SaEventsource, SaEventsourceSessionKept
from benchmarks.databases import circumstances, empty_database
from benchmarks.domain import Base
from benchmarks.figures import Figure, Run, figures_of, load, save, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

_THREADS = 8
_MANY_THREADS = 16
_TARGETS = {"a": 0.6, "b": 0.52, "c": 1.1, "d": 0.8, "e": 0.56, "h": 0.91}
_LAST_RUN = Path(__file__).with_name("last-run.json")

Case = Callable[[Contender, int], float]


def timed(work: Callable[[], object], times: int) -> float:
    """Get the seconds that each of so many calls takes, one after the other."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def one_event(contender: Contender, scale: int) -> float:
    """(a) one new aggregate with one event per commit."""
    return timed(lambda: contender.new_stream(1), 100 * scale)


def change_ten(contender: Contender, scale: int) -> float:
    """(b) load, change and save an aggregate of ten events."""
    streams = iter([contender.new_stream(10) for _ in range(60 * scale)])
    return timed(lambda: contender.change(next(streams)), 60 * scale)


_long_streams: dict[tuple[str, int], UUID] = {}
_many_streams: dict[str, list[UUID]] = {}


def load_long(contender: Contender, events: int, times: int) -> float:
    """Load a stream that all rounds share."""
    key = contender.name, events
    if key not in _long_streams:
        _long_streams[key] = contender.new_stream(events)
    return timed(lambda: contender.load(_long_streams[key]), times)


def load_thousand(contender: Contender, scale: int) -> float:
    """(c) load 1,000 events."""
    return load_long(contender, 1000, 10 * scale)


def hundred_events(contender: Contender, scale: int) -> float:
    """(d) 100 events in one commit."""
    return timed(lambda: contender.new_stream(100), 10 * scale)


def in_threads(contender: Contender, threads: int, each: int) -> float:
    """Have threads commit new streams at the same time."""
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(timed, lambda: contender.new_stream(1), each) for _ in range(threads)]:
            future.result()
    return (time.perf_counter() - start) / (each * threads)


def eight_threads(contender: Contender, scale: int) -> float:
    """(e) eight threads of (a)."""
    return in_threads(contender, _THREADS, 25 * scale)


def sixteen_threads(contender: Contender, scale: int) -> float:
    """(f) sixteen threads of (a)."""
    return in_threads(contender, _MANY_THREADS, 13 * scale)


def load_many(contender: Contender, scale: int) -> float:
    """(g) load 1,000 aggregates of ten events by one query."""
    if contender.name not in _many_streams:
        _many_streams[contender.name] = contender.new_streams(1000, 10)
    return timed(lambda: contender.load_many(_many_streams[contender.name]), scale)


def load_ten_thousand(contender: Contender, scale: int) -> float:
    """(h) load 10,000 events."""
    return load_long(contender, 10_000, scale)


CASES: dict[str, Case] = {
    "a": one_event,
    "b": change_ten,
    "c": load_thousand,
    "d": hundred_events,
    "e": eight_threads,
    "f": sixteen_threads,
    "g": load_many,
    "h": load_ten_thousand,
}


def measure(contenders: Sequence[Contender], cases: str, rounds: int, scale: int) -> list[Figure]:
    """Have the contenders take turns in each case, so many rounds after one that warms up."""
    figures: list[Figure] = []
    for letter in cases:
        times = [[CASES[letter](each, scale) for each in contenders] for _ in range(rounds + 1)][1:]
        figures += figures_of(letter, [each.name for each in contenders], times)
    return figures


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty database to use instead of an embedded PostgreSQL")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=int, default=1, help="multiply the work of each round")
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    parser.add_argument("--cases", default="abcdefgh")
    parser.add_argument("--json", type=Path, default=_LAST_RUN, help="where the figures are kept, and those of the last run are")
    arguments = parser.parse_args()
    with empty_database(arguments.url, durable=arguments.durable) as engine:
        Base.metadata.create_all(engine)
        dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        contenders = [RawPsycopg(dsn), PlainOrm(engine), SaEventsourceSessionKept(engine), SaEventsource(engine)]
        figures = measure(contenders, arguments.cases, arguments.rounds, arguments.scale)
        durable = "commits wait for the disk" if arguments.durable else "commits do not wait for the disk"
        run = Run(f"{circumstances(engine.url)}; {durable}", figures)
        Base.metadata.drop_all(engine)
    before = load(arguments.json)
    titles = {letter: str(case.__doc__).removesuffix(".") for letter, case in CASES.items()}
    console = Console(width=170)
    console.print(table_of(run, before, titles, _TARGETS))
    console.print(run.circumstances)
    if before is not None:
        console.print(f"the last run: {before.circumstances}")
    save(run, arguments.json)


if __name__ == "__main__":
    main()
