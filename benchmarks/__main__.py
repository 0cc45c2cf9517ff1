"""Run the benchmark: ``python -m benchmarks [--url URL] [--rounds N] [--durable]``.

The contenders take turns within each round, so that a machine that slows down slows all of them. What counts is the ratio to raw
psycopg in the same round; the table shows the median over the rounds. The server commits with ``synchronous_commit = off`` unless
``--durable`` is given: waiting for the disk takes the same time for everyone and would hide the differences.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import Contender, PlainOrm, RawPsycopg, SaEventsource
from benchmarks.databases import empty_database
from benchmarks.domain import Base

if TYPE_CHECKING:
    from uuid import UUID

_THREADS = 8
_TARGETS = {"a": 0.65, "b": 0.5, "c": 0.5, "d": 0.7, "e": 0.5}

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


_long_streams: dict[str, UUID] = {}


def load_thousand(contender: Contender, scale: int) -> float:
    """(c) load 1,000 events."""
    if contender.name not in _long_streams:
        _long_streams[contender.name] = contender.new_stream(1000)
    return timed(lambda: contender.load(_long_streams[contender.name]), 10 * scale)


def hundred_events(contender: Contender, scale: int) -> float:
    """(d) 100 events in one commit."""
    return timed(lambda: contender.new_stream(100), 10 * scale)


def eight_threads(contender: Contender, scale: int) -> float:
    """(e) eight threads of (a)."""
    each = 25 * scale
    start = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        for future in [pool.submit(timed, lambda: contender.new_stream(1), each) for _ in range(_THREADS)]:
            future.result()
    return (time.perf_counter() - start) / (each * _THREADS)


CASES: dict[str, Case] = {"a": one_event, "b": change_ten, "c": load_thousand, "d": hundred_events, "e": eight_threads}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty database to use instead of an embedded PostgreSQL")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=int, default=1, help="multiply the work of each round")
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    parser.add_argument("--cases", default="abcde")
    arguments = parser.parse_args()
    with empty_database(arguments.url, durable=arguments.durable) as engine:
        Base.metadata.create_all(engine)
        dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        contenders: list[Contender] = [RawPsycopg(dsn), PlainOrm(engine), SaEventsource(engine)]
        table = Table("case", *(each.name for each in contenders), "target")
        for letter in arguments.cases:
            rounds: list[list[float]] = []
            for number in range(arguments.rounds + 1):
                times = [CASES[letter](each, arguments.scale) for each in contenders]
                if number:  # the first warms up
                    rounds.append(times)
            cells = []
            for index in range(len(contenders)):
                ratio = statistics.median(times[0] / times[index] for times in rounds)
                microseconds = statistics.median(times[index] for times in rounds) * 1e6
                cells.append(f"{ratio:.2f}  ({microseconds:,.0f} µs)")
            table.add_row(f"{CASES[letter].__doc__}", *cells, f"{_TARGETS[letter]:.2f}")
        Console().print(table)
        Base.metadata.drop_all(engine)


if __name__ == "__main__":
    main()
