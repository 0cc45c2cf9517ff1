"""Measure the worker: ``python -m benchmarks.following [--seconds N] [--rate N] [--events N]``.

How long after a commit its event is in an eventual model's row, while other commits come at a steady rate; how fast a backlog is
worked off; how long it takes until another worker has taken over from one that was killed; what workers cost while nothing happens;
how much memory a rebuild takes. The
worker runs in a process of its own, as it does in production.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks import idle
from benchmarks.databases import empty_database
from sa_eventsource import (
    AggregateRoot,
    Announcer,
    DomainEvent,
    ReadModel,
    RecordedEvent,
    handles,
    load_for_update,
    map_from_event,
    subscribe,
)
from sa_eventsource.read_models import sum_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Base(DeclarativeBase):
    """Declarative base of the benchmark."""


class Paid(DomainEvent):
    """The event that all follow."""

    amount: int
    region: int


class Account(AggregateRoot[str], Base):
    """An aggregate without state."""

    __ignored_events__ = (Paid,)


class Balance(ReadModel, Base):
    """Declared fields."""

    __projection_name__ = "balance"

    id: Mapped[str]
    total: Mapped[int] = map_from_event(Paid, source="amount", reduce=sum_())


class Region(ReadModel, Base):
    """A handler, one row changed with each event."""

    __tablename__ = "benchmark_regions"
    __projection_name__ = "region"

    region: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Paid)
    def _paid(cls, event: RecordedEvent[Paid], session: Session) -> None:
        load_for_update(session, cls, event.event.region).number += 1


@subscribe("benchmark_mailer", Paid, base=Base)
def _mail(event: RecordedEvent[Paid], session: Session) -> None:
    """Do nothing, once an event."""


_WRITERS = 8
_COMMITS = 100

_LOG = """
INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at)
SELECT gen_random_uuid(), 'Account', 'backlog-' || stream, version, 'Paid', 1,
    jsonb_build_object('amount', stream % 100, 'region', stream % 50), timestamptz '2026-01-01' + version * interval '1 hour'
FROM generate_series(1, :streams) AS stream, generate_series(1, 20) AS version ORDER BY version, stream
"""


@contextmanager
def command(engine: Engine, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command line in a process of its own, which does not outlive the block."""
    url = engine.url.render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-m", "sa_eventsource.cli", *arguments],
        env=os.environ | {"SA_EVENTSOURCE_URL": url},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def pay(engine: Engine, account_id: str) -> None:
    """Commit one event of a new account."""
    with Session(engine) as session:
        session.add(account := Account(id=account_id))
        account.apply_event(Paid(amount=1, region=len(account_id)))
        session.commit()


def has_row(engine: Engine, account_id: str) -> bool:
    """Whether the model has taken the account's event."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        row = text("SELECT 1 FROM projections WHERE projection_name = 'balance' AND id = :id")
        return connection.execute(row, {"id": account_id}).first() is not None


def wait_until(reached: Callable[[], bool]) -> float:
    """Seconds until something is so."""
    start = time.perf_counter()
    while not reached():
        time.sleep(0.0005)
    return time.perf_counter() - start


def delays(engine: Engine, seconds: float, rate: float) -> list[float]:
    """Seconds from the end of a commit until its event is in the row, while others commit at a steady rate."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        due = time.perf_counter()
        while not stop.is_set():
            pay(engine, f"steady-{number}")
            number += 1
            due += 1 / rate
            stop.wait(max(0.0, due - time.perf_counter()))

    writer = threading.Thread(target=write)
    writer.start()
    found: list[float] = []
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            account_id = f"watched-{len(found)}"
            pay(engine, account_id)
            found.append(wait_until(lambda account_id=account_id: has_row(engine, account_id)))  # type: ignore[misc]
            time.sleep(0.03)
    finally:
        stop.set()
        writer.join()
    return found


def take_over(engine: Engine, number: int) -> float:
    """Seconds from the death of a worker in the middle of a batch until another one has taken the batch's events."""
    with engine.connect() as gate, command(engine, "run", "benchmarks.following:Base", "--only", "balance") as doomed:
        pay(engine, f"held-{number}")
        wait_until(lambda: has_row(engine, f"held-{number}"))
        gate.execute(text("SELECT * FROM projections WHERE projection_name = 'balance' FOR UPDATE"))
        with Session(engine) as session:
            session.get_one(Account, f"held-{number}").apply_event(Paid(amount=1, region=0))
            session.commit()
        with engine.connect() as watch:
            waiting = text("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
            wait_until(lambda: bool(watch.execute(waiting).scalar_one()))
        with command(engine, "run", "benchmarks.following:Base", "--only", "balance"):
            time.sleep(3)  # until it is up, and has found the model taken
            doomed.kill()
            gate.rollback()
            total = text("SELECT (data->>'total')::int = 2 FROM projections WHERE projection_name = 'balance' AND id = :id")

            def taken() -> bool:
                with engine.connect() as connection:
                    return bool(connection.execute(total, {"id": f"held-{number}"}).scalar_one())

            return wait_until(taken)


def measure_notify(engine: Engine, table: Table) -> None:
    """What it costs the writers to wake workers: not at all, by an announcer, and by NOTIFY in their own transactions."""

    def commits(name: str, statement: str | None) -> float:
        def write(number: int) -> None:
            for each in range(_COMMITS):
                with Session(engine) as session:
                    session.add(account := Account(id=f"{name}-{number}-{each}"))
                    account.apply_event(Paid(amount=1, region=0))
                    if statement is not None:
                        session.execute(text(statement))
                    session.commit()

        start = time.perf_counter()
        with ThreadPoolExecutor(_WRITERS) as pool:
            for future in [pool.submit(write, number) for number in range(_WRITERS)]:
                future.result()
        return _WRITERS * _COMMITS / (time.perf_counter() - start)

    rates: dict[str, list[float]] = {}
    for number in range(6):
        rates.setdefault("nobody is told", []).append(commits(f"silent-{number}", None))
        with Announcer(engine):
            rates.setdefault("Announcer", []).append(commits(f"announced-{number}", None))
        rates.setdefault("a statement more (SELECT)", []).append(commits(f"select-{number}", "SELECT 1"))
        rates.setdefault("NOTIFY in the transaction", []).append(commits(f"notify-{number}", "NOTIFY sa_eventsource"))
    for name, each in rates.items():
        table.add_row(f"{_WRITERS} threads, {name}", f"{statistics.median(each[1:]):,.0f} commits/s", "")


def measure_idle(engine: Engine, table: Table, seconds: float) -> None:
    """What workers cost the database and the processor while nothing happens."""
    committed = text("SELECT pg_stat_clear_snapshot(), xact_commit FROM pg_stat_database WHERE datname = current_database()")
    models = [name for option in range(50) for name in ("--only", f"idle_{option:02}")]
    idle.Base.metadata.create_all(engine)
    for workers, number in ((1, 12), (1, 50), (8, 50)):
        with ExitStack() as running, engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            arguments = ("run", "benchmarks.idle:Base", *models[: 2 * number])
            found = [psutil.Process(running.enter_context(command(engine, *arguments)).pid) for _ in range(workers)]
            time.sleep(10 + 3 * workers)  # until all are up, and have become slow
            before, used = connection.execute(committed).one()[1], sum(sum(each.cpu_times()[:2]) for each in found)
            time.sleep(seconds)
            after, used_then = connection.execute(committed).one()[1], sum(sum(each.cpu_times()[:2]) for each in found)
        what = f"idle: {workers} worker{'s' if workers > 1 else ''}, {number} models"
        table.add_row(what, f"{(after - before) / seconds:.1f} transactions/s, {(used_then - used) / seconds:.1%} of a core", "")


def run_to_the_end(engine: Engine, *arguments: str) -> tuple[float, float]:
    """Seconds that a command takes, and its greatest memory in MB."""
    start = time.perf_counter()
    peak = 0
    with command(engine, *arguments) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
    return time.perf_counter() - start, peak / 1e6


def rate(events: int, took: float, startup: float) -> str:
    """Events a second beyond what the process takes to start; said only where that can be seen."""
    return f"{events / (took - startup):,.0f} events/s" if took > 1.5 * startup else "too few events to tell"


def measure_backlog(engine: Engine, table: Table, events: int) -> None:
    """Working a backlog off, and rebuilding."""
    startup, _ = run_to_the_end(engine, "run", "benchmarks.following:Base", "--once", "--only", "balance")
    present = 0
    for wanted in (events // 5, events):
        with engine.begin() as connection:
            connection.execute(text(_LOG.replace("backlog-", f"backlog-{wanted}-")), {"streams": (wanted - present) // 20})
        added, present = wanted - present, wanted
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE events"))
        for name in ("balance", "region"):
            took, peak = run_to_the_end(engine, "run", "benchmarks.following:Base", "--once", "--only", name)
            table.add_row(f"backlog of {added:,} events, {name}", rate(added, took, startup), f"{peak:.0f} MB")
            took, peak = run_to_the_end(engine, "rebuild", "benchmarks.following:Base", name)
            table.add_row(f"rebuild from {wanted:,} events, {name}", rate(wanted, took, startup), f"{peak:.0f} MB")
        took, peak = run_to_the_end(engine, "run", "benchmarks.following:Base", "--once", "--only", "benchmark_mailer")
        table.add_row(f"subscription, {added:,} events", rate(added, took, startup), f"{peak:.0f} MB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty database to use instead of an embedded PostgreSQL")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=100, help="commits a second beside those that are watched")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    arguments = parser.parse_args()
    table = Table("what", "figure", "most memory of the process")
    with empty_database(arguments.url, durable=arguments.durable) as engine:
        Base.metadata.create_all(engine)
        with command(engine, "run", "benchmarks.following:Base"):
            pay(engine, "first")
            wait_until(lambda: has_row(engine, "first"))
            found = sorted(delays(engine, arguments.seconds, arguments.rate))
            wait_until(lambda: has_row(engine, "first"))
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            value = found[min(len(found) - 1, int(len(found) * share))]
            table.add_row(
                f"delay from commit to row, {name} of {len(found)}, {arguments.rate:g} commits/s", f"{value * 1000:.1f} ms", ""
            )
        overs = [take_over(engine, number) for number in range(5)]
        table.add_row("take-over from a killed worker, median of 5", f"{statistics.median(overs) * 1000:.0f} ms", "")
        measure_idle(engine, table, arguments.seconds)
        measure_notify(engine, table)
        measure_backlog(engine, table, arguments.events)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
