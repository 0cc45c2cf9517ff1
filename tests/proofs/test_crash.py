"""Writers and servers that die: what was acknowledged is there, nothing is torn, and work goes on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

from sa_eventsource import EventRecord
from tests.databases import EmbeddedServer
from tests.proofs import ledger as module
from tests.proofs.ledger import Base, Ledger, append_all, transaction_marks


class Writer:
    """A process that commits transactions and says so; killed at will."""

    def __init__(self, url: str, name: str, seed: int) -> None:
        task = {
            "url": url,
            "name": name,
            "seed": seed,
            "ledgers": [f"ledger-{number}" for number in range(4)],
            "events": 4,
            "count": 10**6,
        }
        command = [sys.executable, "-m", module.__name__, json.dumps(task)]
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.committed: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # A line that was cut off acknowledges nothing.
            if line.endswith("\n") and line.startswith("committed "):
                self.committed.append(line.split()[1])

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
def writing(url: str, *names: str) -> Iterator[list[Writer]]:
    """Run one writer for each name; none outlives the block."""
    writers: list[Writer] = []
    try:
        for name in names:
            writers.append(Writer(url, name, zlib.crc32(name.encode())))
        yield writers
    finally:
        for writer in writers:
            writer.kill()


def wait_for_commits(writers: list[Writer], count: int, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while sum(len(writer.committed) for writer in writers) < count:
        assert time.monotonic() < end, "the writers commit nothing"
        time.sleep(0.02)


def wait_for_the_last_commits(session: Session) -> None:
    """A writer that was killed while it committed leaves a server process behind that finishes the commit."""
    others = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    end = time.monotonic() + 30
    while session.scalar(others):
        assert time.monotonic() < end, "connections of dead writers stay"
        session.rollback()
        time.sleep(0.02)
    session.rollback()


def check(url: str, committed: set[str]) -> int:
    """Check the log against what was acknowledged; return the number of its transactions."""
    engine = create_engine(url)
    try:
        with Session(engine) as session:
            wait_for_the_last_commits(session)
            versions: dict[str, list[int]] = defaultdict(list)
            found: dict[str, list[int]] = defaultdict(list)
            for record in session.scalars(select(EventRecord).order_by(EventRecord.position)):
                versions[record.aggregate_id].append(record.version)
                name, size, *_ = record.event_data["mark"].split("/")
                found[name].append(int(size))
            for stream in versions.values():
                assert stream == list(range(1, len(stream) + 1))
            for name, sizes in found.items():
                assert len(sizes) == sizes[0], f"{name} is torn"
            assert committed <= set(found)
            # Work goes on.
            append_all(session, transaction_marks("after", list(versions), 1), "none")
            session.commit()
            for ledger_id, stream in versions.items():
                assert session.get_one(Ledger, ledger_id).version == len(stream) + 1
        print(f"{len(committed)} acknowledged, {len(found)} found")
        return len(found)
    finally:
        engine.dispose()


def test_writers_that_are_killed_lose_and_tear_nothing(postgres_database_url: str) -> None:
    engine = create_engine(postgres_database_url)
    Base.metadata.create_all(engine)
    engine.dispose()
    chance = random.Random()
    committed: set[str] = set()
    for round_number in range(3):
        with writing(postgres_database_url, *(f"w{round_number}.{number}" for number in range(3))) as writers:
            wait_for_commits(writers, 30)
            for writer in writers:
                time.sleep(chance.random() * 0.05)
                writer.kill()
        committed.update(name for writer in writers for name in writer.committed)
    assert check(postgres_database_url, committed) >= len(committed) >= 90


@pytest.fixture
def durable_server() -> Iterator[Any]:
    """A server of the test's own that waits for the disk."""
    with tempfile.TemporaryDirectory(prefix="sa_eventsource_", ignore_cleanup_errors=True) as folder:
        server = EmbeddedServer(Path(folder))
        try:
            yield server
        finally:
            server.stop()


def test_a_server_that_stops_at_once_loses_and_tears_nothing(durable_server: EmbeddedServer) -> None:
    url = durable_server.url
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
    committed: set[str] = set()
    for round_number in range(2):
        with writing(url, *(f"s{round_number}.{number}" for number in range(3))) as writers:
            wait_for_commits(writers, 30)
            durable_server.crash()
            for writer in writers:
                writer.wait()
        durable_server.restart()
        committed.update(name for writer in writers for name in writer.committed)
    assert check(url, committed) >= len(committed) >= 60
