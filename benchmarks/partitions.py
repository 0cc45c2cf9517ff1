"""What hash partitions cost and bring: ``python -m benchmarks.partitions [--events 200000] [--partitions 8]``.

Two logs of the same events, one with partitions and one without, lie in databases of their own on one server and take turns within
a round. The table shows medians over the rounds, and in brackets the ratio to the log without partitions in the same round. The
work on the whole log is measured once: writing it, rebuilding the read model, a vacuum that visits all of it, one table's indexes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, MetaData, create_engine, text

from benchmarks.accounts import Balance, Base, autocommitting
from benchmarks.databases import chosen_server, circumstances, own_database
from benchmarks.sizes import Log, measure
from benchmarks.storage import sizes_of
from sa_eventsource import EventReplayer, EventSourceOptions
from sa_eventsource.mapping import tables_on

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MEGABYTE = 1 << 20


def make_partitions(engine: Engine, partitions: int | None) -> None:
    """Create the log with partitions before the accounts' metadata creates it without: the statements are the same for both."""
    if partitions is not None:
        tables_on(MetaData(), EventSourceOptions(partitions=partitions)).events.create(engine)


def seconds(work: Callable[[], object]) -> float:
    """Time a piece of work that is done once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def of_the_whole(log: Log, partitions: int | None) -> dict[str, float]:
    """Measure the work on the whole log, in seconds."""
    largest = "events" if partitions is None else "events_p0"

    def execute(statement: str) -> None:
        with autocommitting(log.engine) as connection:
            connection.execute(text(statement))

    return {
        "rebuild of the read model": seconds(lambda: EventReplayer(log.engine, Base).rebuild(Balance)),
        "VACUUM (FREEZE) of the log": seconds(lambda: execute("VACUUM (FREEZE) events")),
        "VACUUM (FREEZE) once more": seconds(lambda: execute("VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) events")),
        "REINDEX of one table's indexes": seconds(lambda: execute(f"REINDEX TABLE {largest}")),
    }


def table_of_cases(results: Mapping[str, Sequence[Sequence[float]]], partitions: int) -> Table:
    """Show medians, and the median of the ratios to the log without partitions."""
    table = Table("", "one table", f"{partitions} partitions")
    for name, rounds in results.items():
        ratio = statistics.median(taken[1] / taken[0] for taken in rounds)
        plain, parted = (statistics.median(taken[index] for taken in rounds) for index in (0, 1))
        table.add_row(name, f"{plain:,.2f} ms", f"{parted:,.2f} ms  ({ratio:.2f})")
    return table


def table_of_whole(found: Sequence[Mapping[str, float]], partitions: int) -> Table:
    """Show what was measured once."""
    table = Table("once", "one table", f"{partitions} partitions")
    for name in found[0]:
        plain, parted = (each[name] for each in found)
        table.add_row(name, f"{plain:,.1f} s", f"{parted:,.1f} s  ({parted / plain:.2f})")
    return table


def table_of_sizes(logs: Sequence[Log], partitions: int) -> Table:
    """Show bytes an event, of the rows and of each index."""
    found = [sizes_of(log.engine, "events") for log in logs]
    table = Table("bytes an event", "one table", f"{partitions} partitions")

    def add(name: str, sizes: Sequence[int]) -> None:
        table.add_row(name, *(f"{size / log.events:.0f}" for size, log in zip(sizes, logs, strict=True)))

    for name in sorted({index for each in found for index in each.indexes}):
        add(name, [each.indexes.get(name, 0) for each in found])
    add("rows", [each.rows for each in found])
    add("total", [each.total for each in found])
    table.add_row("total, in MiB", *(f"{each.total / MEGABYTE:,.0f}" for each in found))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    arguments = parser.parse_args()
    with chosen_server() as server, ExitStack() as stack:
        logs: list[Log] = []
        once: list[dict[str, float]] = []
        for partitions in (None, arguments.partitions):
            url = stack.enter_context(own_database(server, durable=arguments.durable))
            engine = create_engine(url)
            stack.callback(engine.dispose)
            make_partitions(engine, partitions)
            logs.append(Log(engine, arguments.events))
            once.append({"writing the log, an event a transaction": seconds(logs[-1].prepare)})
        sizes = table_of_sizes(logs, arguments.partitions)
        results = measure(logs, arguments.rounds)
        for log, found, partitions in zip(logs, once, (None, arguments.partitions), strict=True):
            found.update(of_the_whole(log, partitions))
        print(circumstances(server))
    console = Console(width=120)
    for table in (table_of_cases(results, arguments.partitions), table_of_whole(once, arguments.partitions), sizes):
        console.print(table)


if __name__ == "__main__":
    main()
