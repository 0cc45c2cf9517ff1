"""What things cost in a long log and in a short one: ``python -m benchmarks.sizes [--events 10000 1000000 5000000]``.

A log of each size lies in a database of its own, all on one server, and the sizes take turns within a round. The table shows
medians over the rounds, and in brackets the ratio to the smallest log in the same round, which is to be at most 1.2.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from benchmarks.accounts import LINES, Account, Balance, Base, account_id, fill
from benchmarks.databases import chosen_server, circumstances, own_database
from sa_eventsource import EventReplayer, ReadModelManager

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LONG = 1_010
"""Events of the accounts that are loaded with a snapshot, the last ten of them after it."""

_LONG_ACCOUNTS = 5
_NEW_EVENTS = 1_000
_REBUILT_ROWS = 10


@dataclass
class Log:
    """A log of some size, with a read model that has taken all of it.

    Attributes:
        engine: Connections to its database.
        events: How many there are.
        opened: How many accounts have been opened by the measurements.
        changed: How many accounts have been changed.
        rebuilt: How many rows have been rebuilt.
    """

    engine: Engine
    events: int
    opened: int = 0
    changed: int = 0
    rebuilt: int = 0

    def prepare(self) -> None:
        """Write the log, let the read model take it, and add accounts with snapshots."""
        Base.metadata.create_all(self.engine)
        fill(self.engine, self.events)
        for number in range(_LONG_ACCOUNTS):
            for first in range(0, _LONG, 10):  # the snapshot is written by the flush that passes a hundred
                with Session(self.engine) as session:
                    account = session.get(Account, f"long-{number}") or Account(id=f"long-{number}")
                    session.add(account)
                    for amount in range(first, min(first + 10, _LONG)):
                        account.post(amount)
                    session.commit()
        ReadModelManager(self.engine, Base).catch_up()

    @property
    def accounts(self) -> int:
        """How many accounts the filled log has."""
        return self.events // LINES

    def append(self) -> None:
        """Commit a new account with one event."""
        self.opened += 1
        with Session(self.engine) as session:
            account = Account(id=f"opened-{self.opened:08}")
            account.post(1)
            session.add(account)
            session.commit()

    def load_with_snapshot(self) -> None:
        """Load an account of a thousand events, of which ten lie behind its snapshot."""
        with Session(self.engine) as session:
            session.get_one(Account, f"long-{self.opened % _LONG_ACCOUNTS}")

    def load_change_save(self) -> None:
        """Load an account from the middle of the log, change it and commit."""
        self.changed += 1
        with Session(self.engine) as session:
            session.get_one(Account, account_id(self.changed * 7919 % self.accounts)).post(1)
            session.commit()

    def add_news(self) -> None:
        """Append what is to be caught up with."""
        with Session(self.engine) as session:
            for _ in range(_NEW_EVENTS // LINES):
                self.opened += 1
                account = Account(id=f"opened-{self.opened:08}")
                for amount in range(LINES):
                    account.post(amount)
                session.add(account)
            session.commit()

    def catch_up(self) -> None:
        """Let the read model take what is new."""
        ReadModelManager(self.engine, Base).catch_up(Balance)

    def status(self) -> None:
        """Tell how far the read model has come."""
        ReadModelManager(self.engine, Base).status()

    def rebuild_rows(self) -> None:
        """Rebuild the rows of some accounts from the middle of the log."""
        keys = [account_id((self.rebuilt + number) * 104729 % self.accounts) for number in range(_REBUILT_ROWS)]
        self.rebuilt += _REBUILT_ROWS
        EventReplayer(self.engine, Base).rebuild_rows(Balance, keys)

    def rebuild_stretch(self) -> None:
        """Rebuild the rows of the events at a hundred positions."""
        first = self.events // 2
        EventReplayer(self.engine, Base).rebuild_between(Balance, positions=(first, first + 99))


def milliseconds(work: Callable[[], None], times: int) -> float:
    """Time a piece of work: the median of so many times, so that one which a checkpoint of the server delays does not count."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def catch_up(log: Log) -> float:
    """Time the catching up alone, the median of three times."""
    log.catch_up()
    taken = []
    for _ in range(3):
        log.add_news()
        taken.append(milliseconds(log.catch_up, 1))
    return statistics.median(taken)


CASES: dict[str, Callable[[Log], float]] = {
    "append": lambda log: milliseconds(log.append, 50),
    "load with a snapshot": lambda log: milliseconds(log.load_with_snapshot, 50),
    "load, change, save": lambda log: milliseconds(log.load_change_save, 50),
    f"catch-up, {_NEW_EVENTS:,} new events": catch_up,
    "status": lambda log: milliseconds(log.status, 20),
    f"rebuild of {_REBUILT_ROWS} rows": lambda log: milliseconds(log.rebuild_rows, 3),
    "rebuild of the rows of 100 events": lambda log: milliseconds(log.rebuild_stretch, 3),
}


def measure(logs: Sequence[Log], rounds: int) -> dict[str, list[list[float]]]:
    """Measure each case on each log in turn, after a round that warms up; by case, the rounds with a figure for each log."""
    results: dict[str, list[list[float]]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, case in CASES.items():
            taken = [case(log) for log in logs]
            if number:
                results[name].append(taken)
    return results


def table_of(results: dict[str, list[list[float]]], sizes: Sequence[int]) -> Table:
    """Show medians, and the median of the ratios to the smallest log."""
    table = Table("", *(f"{size:,} events" for size in sizes))
    for name, rounds in results.items():
        cells = []
        for index in range(len(sizes)):
            ratio = statistics.median(taken[index] / taken[0] for taken in rounds)
            cells.append(f"{statistics.median(taken[index] for taken in rounds):,.2f} ms  ({ratio:.2f})")
        table.add_row(name, *cells)
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[10_000, 1_000_000], help="sizes, the smallest first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    arguments = parser.parse_args()
    with chosen_server() as server, ExitStack() as stack:
        logs = []
        for events in arguments.events:
            url = stack.enter_context(own_database(server, durable=arguments.durable))
            engine = create_engine(url)
            stack.callback(engine.dispose)
            logs.append(Log(engine, events))
            logs[-1].prepare()
        results = measure(logs, arguments.rounds)
        print(circumstances(server))
    Console(width=120).print(table_of(results, arguments.events))


if __name__ == "__main__":
    main()
