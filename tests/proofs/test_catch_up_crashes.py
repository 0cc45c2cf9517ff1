"""Followers and servers that die while read models catch up: each event still counts exactly once."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from sa_eventsource import EventReplayer, ReadModelManager
from tests.databases import WAITING, EmbeddedServer
from tests.proofs import accounts as module
from tests.proofs.accounts import (
    Eventual,
    LateBalance,
    LateHandledBalance,
    LateInvoice,
    LateOwnDay,
    add,
    check_handled_rows,
    check_rows,
    random_events,
)

MODELS = (LateBalance, LateOwnDay, LateHandledBalance)

HOLD = "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN new; END'"

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class Process:
    """A process that catches up or rebuilds, and says how it gets on."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", module.__name__, *arguments]
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line.strip() for line in self._process.stdout)

    def kill(self) -> None:
        """Kill it, if it still runs, and read what it has said."""
        self._process.kill()
        self.wait()

    def wait(self) -> None:
        self._process.wait(timeout=60)
        self._reader.join(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    """Run a process, that does not outlive the block."""
    running = Process(*arguments)
    try:
        yield running
    finally:
        running.kill()


def wait_until(reached: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end, what
        time.sleep(0.002)


def wait_until_alone(engine: Engine) -> None:
    """A follower that was killed while it committed leaves a server process behind that finishes the commit."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        wait_until(lambda: connection.scalar(text(f"SELECT count(*) = 0 {OTHERS}")), "connections of dead followers stay")


def fill(engine: Engine, events: int) -> int:
    """Append some events more; return how many."""
    chance, added = random.Random(), 0
    while added < events:
        with Session(engine) as session:
            streams = [stream for _ in range(50) for stream in random_events(chance, str(added), 40)]
            add(session, LateInvoice, streams)
            session.commit()
            added += sum(map(len, streams))
    return added


def check_progress(engine: Engine, total: int) -> list[int]:
    """However far each model has come, its rows have taken these events and no others; return how many are left."""
    wait_until_alone(engine)
    taken = [func.sum(LateBalance.version), func.sum(LateOwnDay.version), func.sum(LateHandledBalance.entries)]
    left = [ReadModelManager(engine, Eventual).status(model)[0].lag_events for model in MODELS]
    with Session(engine) as session:
        assert [total - (session.scalar(select(each)) or 0) for each in taken] == left
    return left


def check_whole(engine: Engine, total: int) -> None:
    """The rows are what the log comes to, and what a run without interruption makes of it."""
    assert check_progress(engine, total) == [0, 0, 0]
    for _ in ("as caught up", "as rebuilt"):
        assert check_rows(engine, Eventual, [LateBalance, LateOwnDay]) == total
        assert check_handled_rows(engine, Eventual, LateHandledBalance) == total
        for model in MODELS:
            assert EventReplayer(engine, Eventual).rebuild(model) == total


def prepare(url: str) -> tuple[Engine, int]:
    """Make a log that no model has taken; the engine keeps no connection open."""
    engine = create_engine(url, poolclass=NullPool)
    Eventual.metadata.create_all(engine)
    return engine, fill(engine, 2000)


def interrupt(engine: Engine, url: str, total: int, end: Callable[[Process], None], after: Callable[[], None]) -> None:
    """End followers until each model was interrupted halfway, let one follow to the end, and check."""
    halfway: set[type[Any]] = set()
    order = [*MODELS]
    rounds = 0
    while halfway != {*MODELS} or rounds < 3:
        rounds += 1
        assert rounds < 20, f"only {halfway} were ever interrupted halfway"
        order.sort(key=halfway.__contains__)
        with process("follow", url, "10", *(each.__name__ for each in order)) as follower:
            wait_until(lambda: follower.lines, "the follower does not start")
            time.sleep(random.random() * 0.4)
            end(follower)
        after()
        left = check_progress(engine, total)
        halfway.update(model for model, number in zip(MODELS, left, strict=True) if 0 < number < total)
        total += fill(engine, 100)
    with process("follow", url, "100", *(each.__name__ for each in MODELS)) as follower:
        follower.wait()
    assert follower.lines == ["ready", "done"]
    print(f"{rounds} rounds")
    check_whole(engine, total)


def test_a_follower_that_is_killed_again_and_again_counts_each_event_once(postgres_database_url: str) -> None:
    engine, total = prepare(postgres_database_url)
    interrupt(engine, postgres_database_url, total, Process.kill, lambda: None)


def test_a_follower_whose_connections_are_cut_goes_on_and_counts_each_event_once(postgres_database_url: str) -> None:
    engine, total = prepare(postgres_database_url)
    end = time.monotonic() + 60
    with process("follow", postgres_database_url, "10", *(model.__name__ for model in MODELS)) as follower:
        wait_until(lambda: follower.lines, "the follower does not start")
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            while "done" not in follower.lines:
                assert time.monotonic() < end
                time.sleep(random.random() * 0.2)
                connection.execute(text(f"SELECT pg_terminate_backend(pid) {OTHERS}"))
        follower.wait()
    print(f"cut {follower.lines.count('cut')} times")
    assert follower.lines.count("cut") > 2
    check_whole(engine, total)


@pytest.fixture
def durable_server() -> Iterator[Any]:
    """A server of the test's own that waits for the disk."""
    with tempfile.TemporaryDirectory(prefix="sa_eventsource_", ignore_cleanup_errors=True) as folder:
        server = EmbeddedServer(Path(folder))
        try:
            yield server
        finally:
            server.stop()


def test_a_follower_whose_server_crashes_counts_each_event_once(durable_server: EmbeddedServer) -> None:
    def crash(follower: Process) -> None:
        durable_server.crash()
        follower.wait()

    engine, total = prepare(durable_server.url)
    interrupt(engine, durable_server.url, total, crash, durable_server.restart)


@pytest.mark.parametrize("end", ["kill", "terminate"])
@pytest.mark.parametrize("model", MODELS)
def test_a_rebuild_that_is_killed_leaves_the_old_rows(postgres_database_url: str, model: type[Any], end: str) -> None:
    table = model.__read_model_definition__.table.name
    engine, total = prepare(postgres_database_url)
    ReadModelManager(engine, Eventual).catch_up()
    more = fill(engine, 300)
    rows = text(f"SELECT row.*, row.xmin FROM {table} row ORDER BY 1")
    with engine.begin() as connection:
        before = connection.execute(rows).all()
        # It stops where it has deleted the old rows and is about to insert the first new one.
        connection.execute(text(HOLD))
        connection.execute(text(f"CREATE TRIGGER hold BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION hold()"))
    with engine.connect() as gate, process("rebuild", postgres_database_url, model.__name__) as rebuild:
        gate.execute(text("SELECT pg_advisory_lock(1)"))
        gate.commit()
        wait_until(lambda: gate.scalar(text(WAITING)), "the rebuild does not come to the first row")
        with engine.connect() as reader:
            assert reader.execute(rows).all() == before
        if end == "kill":
            rebuild.kill()
        else:
            gate.execute(text(WAITING.replace("count(*)", "pg_terminate_backend(pid)")))
            rebuild.wait()
        assert rebuild.lines == ["ready"]
    wait_until_alone(engine)
    with engine.connect() as connection:
        assert connection.execute(rows).all() == before
    (status,) = ReadModelManager(engine, Eventual).status(model)
    assert status.lag_events == more
    assert ReadModelManager(engine, Eventual).catch_up(model) == more
    assert ReadModelManager(engine, Eventual).catch_up() == 2 * more
    check_whole(engine, total + more)
