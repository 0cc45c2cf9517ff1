"""Measure proofs: ``python -m benchmarks.proofs [--url URL] [--events N] [--rounds N]``.

How fast a log goes into its Merkle tree and is compared with it, how large the tree and a proof are, and what a worker at work on
the tree costs those who append: they take turns with and without it, and the ratio of the times in the same round counts. Beside
other work, only the processor's time of this process says much of the rates.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import time
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.accounts import LINES, append_by_server, autocommitting
from benchmarks.databases import circumstances, empty_database
from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EnvironmentSigningKey,
    EventSourceOptions,
    ProofOptions,
    applies,
    event_record,
    grow_tree,
    newest_head,
    prove,
    verify,
)

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

_VARIABLE = "SA_EVENTSOURCE_BENCHMARK_SIGNING_KEY"
os.environ.setdefault(_VARIABLE, "benchmark:" + b64encode(os.urandom(32)).decode())

_PROOFS = 200
_COMMITS = 200


class Base(DeclarativeBase):
    """Declarative base of the benchmark."""

    __eventsource__ = EventSourceOptions(proofs=True, signing_key=EnvironmentSigningKey(_VARIABLE))


class Counted(DomainEvent):
    """An event of the usual size."""

    __event_type__ = "benchmarks.proofs.Counted"
    customer_id: str
    amount: int
    note: str


class Counter(AggregateRoot, Base):
    """An aggregate that appends it."""

    __aggregate_type__ = "benchmarks.proofs.Counter"
    count: int = 0

    @applies(Counted)
    def _counted(self, _event: Counted) -> None:
        self.count += 1


def _work_on_tree(url: str, is_on: Event, is_over: Event) -> None:
    """Put events into the tree once a second, as a worker does, while it is switched on."""
    engine = create_engine(url)
    while not is_over.is_set():
        is_on.wait(1)
        if is_on.is_set():
            with Session(engine) as session:
                grow_tree(session, base=Base)
            time.sleep(1)
    engine.dispose()


class Took(NamedTuple):
    """What some appends took, in seconds: by the wall's clock, and of the processor in this process."""

    wall: float
    here: float


def _append(engine: Engine) -> Took:
    wall, here = time.perf_counter(), time.process_time()
    for number in range(_COMMITS):
        with Session(engine) as session:
            counter = Counter(id=str(uuid4()))
            counter.apply_event(Counted(customer_id="c-1", amount=number, note="as it was ordered"))
            session.add(counter)
            session.commit()
    return Took(time.perf_counter() - wall, time.process_time() - here)


def _append_in_turns(engine: Engine, rounds: int) -> list[Took]:
    """Give the ratios of the times without a worker to those with one, for each round; the first warms up."""
    process = multiprocessing.get_context("spawn")
    is_on, is_over = process.Event(), process.Event()
    url = engine.url.render_as_string(hide_password=False)
    worker = process.Process(target=_work_on_tree, args=(url, is_on, is_over))
    worker.start()
    ratios = []
    for _ in range(rounds + 1):
        without = _append(engine)
        is_on.set()
        beside = _append(engine)
        ratios.append(Took(without.wall / beside.wall, without.here / beside.here))
        is_on.clear()
    is_over.set()
    is_on.set()
    worker.join()
    return ratios[1:]


def _proof_sizes(engine: Engine) -> tuple[list[int], list[int], float]:
    """Give the sizes of some proofs, and of the same without the event in them, in bytes; and the seconds that each took."""
    record = event_record(Base)
    with Session(engine) as session:
        last = session.scalar(select(record.position).order_by(record.position.desc()).limit(1)) or 0
        chosen = [random.randint(1, last) for _ in range(_PROOFS)]
        ids = session.scalars(select(record.event_id).where(record.position.in_(chosen))).all()
        begun = time.perf_counter()
        proofs = [prove(session, each, base=Base) for each in ids]
        took = (time.perf_counter() - begun) / len(ids)
    sizes = [len(json.dumps(each.to_json()).encode()) for each in proofs]
    return sizes, [size - len(json.dumps(each.event).encode()) for size, each in zip(sizes, proofs, strict=True)], took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty database to use instead of an embedded PostgreSQL")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    table = Table("what", "figure")
    with empty_database(arguments.url, durable=False) as engine:
        Base.metadata.create_all(engine)
        with autocommitting(engine) as connection:
            append_by_server(connection, "events", range(arguments.events), accounts=max(1, arguments.events // LINES))
            connection.execute(text("VACUUM ANALYZE events"))
        begun, here = time.perf_counter(), time.process_time()
        with Session(engine) as session:
            grown = grow_tree(session, base=Base)
        took = time.perf_counter() - begun
        table.add_row(
            "into the tree", f"{grown / took:,.0f} events/s; {(time.process_time() - here) / grown * 1e6:.1f} µs of Python"
        )
        with Session(engine) as session:
            head = newest_head(session, base=Base)
            bytes_of_tree = session.scalar(text("SELECT pg_total_relation_size('merkle_tree')")) or 0
            bytes_of_log = session.scalar(text("SELECT pg_total_relation_size('events')")) or 0
        if head is None or grown != arguments.events:
            raise AssertionError("the tree has not all events")
        table.add_row("tree", f"{bytes_of_tree / grown:.0f} bytes an event, beside {bytes_of_log / grown:.0f} of the log")
        begun, here = time.perf_counter(), time.process_time()
        found = verify(engine, Base, proofs=ProofOptions(heads=[head]))
        if found.covered != grown or any(each.check == "proofs" for each in found.findings):
            raise AssertionError(found)
        took = time.perf_counter() - begun
        table.add_row("verify", f"{grown / took:,.0f} events/s; {(time.process_time() - here) / grown * 1e6:.1f} µs of Python")
        sizes, without_event, took = _proof_sizes(engine)
        table.add_row("a proof", f"{max(sizes):,} bytes at most, {max(without_event):,} without the event; {took * 1e3:.1f} ms")
        ratios = _append_in_turns(engine, arguments.rounds)
        for name, values in (("", [each.wall for each in ratios]), (", of the processor", [each.here for each in ratios])):
            shown = f"{statistics.median(values):.3f}  ({min(values):.3f} to {max(values):.3f})"
            table.add_row(f"append beside a worker, ratio to without{name}", shown)
        Console(width=140).print(table)
        Console(width=140).print(circumstances(engine.url))
        Base.metadata.drop_all(engine)


if __name__ == "__main__":
    main()
