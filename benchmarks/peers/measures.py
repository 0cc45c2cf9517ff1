"""What is measured of a contender: following, the delay from a commit to the row, and appending with many writers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from benchmarks.peers.contender import present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.synchronize import Barrier

    from sqlalchemy import URL

    from benchmarks.peers.contender import Contender

LINES = 20
"""Events of an order in the log that is followed."""

_PROCESSES = get_context("spawn")
_START = 120.0
_VISIBLE = 60.0
_LOOK = 0.0005


def fill(contender: Contender, events: int) -> None:
    """Write the log that is to be followed, by the contender's own means."""
    for _ in range(events // LINES):
        contender.append(LINES)


def rate(work: Callable[[], object], events: int) -> float:
    """Events a second that a piece of work takes."""
    start = time.perf_counter()
    work()
    return events / (time.perf_counter() - start)


@contextmanager
def following(name: str, url: URL) -> Iterator[None]:
    """Have a contender follow the log in a process of its own."""
    process = _PROCESSES.Process(target=_follow, args=(name, url), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def delays(contender: Contender, url: URL, samples: int, rate_beside: float) -> list[float]:
    """Seconds from the end of a commit until its event is in the row, while others commit at a steady rate.

    Args:
        contender: Another process follows its log.
        url: The contender's database.
        samples: How many commits to watch.
        rate_beside: How many others to make in a second.

    Raises:
        TimeoutError: A row does not come within a minute.
    """
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection, _writing(contender, rate_beside):
        _delay(contender, connection)  # until the follower is up
        found = []
        for _ in range(samples):
            found.append(_delay(contender, connection))
            time.sleep(0.02)
        return found


def appends_in_threads(contender: Contender, writers: int, seconds: float) -> float:
    """Commits a second of a new order with one line, by so many threads of this process."""
    barrier = threading.Barrier(writers)
    with ThreadPoolExecutor(writers) as pool:
        futures = [pool.submit(_append_for, contender, barrier, seconds) for _ in range(writers)]
        return sum(each.result() for each in futures)


def appends_in_processes(name: str, url: URL, writers: int, seconds: float) -> float:
    """Commits a second of a new order with one line, by so many processes.

    Raises:
        RuntimeError: A process has ended without a result; it has printed why.
    """
    barrier, results = _PROCESSES.Barrier(writers), _PROCESSES.SimpleQueue()
    processes = [
        _PROCESSES.Process(target=_write, args=(name, url, barrier, seconds, results), daemon=True) for _ in range(writers)
    ]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    if any(each.exitcode for each in processes):
        raise RuntimeError(f"{name}: of {writers} processes that append, some failed")
    return sum(float(results.get()) for _ in processes)


def _follow(name: str, url: URL) -> None:
    with closing(present()[name].open(url, 2)) as contender:
        contender.follow()


def _write(name: str, url: URL, barrier: Barrier, seconds: float, results: Any) -> None:
    with closing(present()[name].open(url, 1)) as contender:
        results.put(_append_for(contender, barrier, seconds))


def _append_for(contender: Contender, barrier: Barrier | threading.Barrier, seconds: float) -> float:
    """Append for a while, together with others, and return the rate."""
    contender.append(1)
    try:
        barrier.wait(_START)
    except threading.BrokenBarrierError as error:
        raise TimeoutError("the other writers did not get ready") from error
    start = time.perf_counter()
    number = 0
    while time.perf_counter() - start < seconds:
        contender.append(1)
        number += 1
    return number / (time.perf_counter() - start)


def _delay(contender: Contender, connection: psycopg.Connection[Any]) -> float:
    query = sql.SQL("SELECT 1 FROM {} WHERE id = %s").format(sql.Identifier(contender.view))
    order_id = str(contender.append(1))
    start = time.perf_counter()
    while connection.execute(query, (order_id,), prepare=True).fetchone() is None:
        if time.perf_counter() - start > _VISIBLE:
            raise TimeoutError(f"order {order_id} is not in {contender.view} after {_VISIBLE:g} seconds")
        time.sleep(_LOOK)
    return time.perf_counter() - start


@contextmanager
def _writing(contender: Contender, per_second: float) -> Iterator[None]:
    """Commit at a steady rate in a thread."""
    stop = threading.Event()

    def write() -> None:
        due = time.perf_counter()
        while not stop.is_set():
            contender.append(1)
            due += 1 / per_second
            stop.wait(max(0.0, due - time.perf_counter()))

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            yield
        finally:
            stop.set()
        writer.result()
