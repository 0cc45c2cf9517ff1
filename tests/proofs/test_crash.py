"""Writers and servers that die: what was acknowledged is there, nothing is torn, and work goes on."""

from __future__ import annotations

import zlib
from collections import defaultdict
from contextlib import ExitStack
from multiprocessing.connection import wait

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from sa_eventsource import EventRecord
from tests.databases import EmbeddedServer, wait_until_alone
from tests.parameters import slow_after
from tests.proofs.cutting import Child, Cut
from tests.proofs.tills import Base, Till, append_all, run_task, transaction_marks

KINDS = ["before SELECT", "after SELECT", "before INSERT", "after INSERT", "before COMMIT", "COMMIT sent", "committed"]
"""Where a writer is cut off; the last is when it knows that it has committed, and has not told anybody."""


def writer(url: str, name: str, *cuts: Cut) -> Child:
    """A process that commits transactions and says so until it comes to its cut."""
    tills = [f"till-{number}" for number in range(4)]
    task = {"url": url, "name": name, "seed": zlib.crc32(name.encode()), "tills": tills, "events": 4, "count": 10**6}
    return Child(run_task, task, cuts=cuts)


def kill_each_at_its_cut(writers: list[Child]) -> list[str]:
    """Kill each as soon as it stops: others may wait for it. Return where they stopped."""
    running = {each.channel: each for each in writers}
    stopped = []
    while running:
        ready = wait(list(running), timeout=60)
        assert ready, "the writers come to nothing"
        for channel in ready:
            said = running[channel].listen()
            assert said is not None
            assert said[0] != "failed", said[1]
            if said[0] == "at":
                stopped.append(said[1])
                running.pop(channel).kill()
    return stopped


def acknowledged(writers: list[Child]) -> set[str]:
    return {name for each in writers for (name,) in each.heard("committed")}


def check(url: str, committed: set[str]) -> int:
    """Check the log against what was acknowledged; return how many transactions are in it of which nobody was told."""
    engine = create_engine(url)
    try:
        wait_until_alone(engine)
        with Session(engine) as session:
            versions: dict[str, list[int]] = defaultdict(list)
            found: dict[str, list[int]] = defaultdict(list)
            for record in session.scalars(select(EventRecord).order_by(EventRecord.position)):
                versions[record.aggregate_id].append(record.version)
                name, size, *_ = record.event_data["what"].split("/")
                found[name].append(int(size))
            for stream in versions.values():
                assert stream == list(range(1, len(stream) + 1))
            for name, sizes in found.items():
                assert len(sizes) == sizes[0], f"{name} is torn"
            assert committed <= set(found)
            # Work goes on.
            append_all(session, transaction_marks("after", list(versions), 1), "none")
            session.commit()
            for till_id, stream in versions.items():
                assert session.get_one(Till, till_id).version == len(stream) + 1
        print(f"{len(committed)} acknowledged, {len(found)} found")
        return len(found) - len(committed)
    finally:
        engine.dispose()


@pytest.mark.parametrize("number", slow_after(1, [5, 2, 12, 40]))
def test_writers_that_are_killed_lose_and_tear_nothing(postgres_database_url: str, number: int) -> None:
    engine = create_engine(postgres_database_url)
    Base.metadata.create_all(engine)
    engine.dispose()
    committed: set[str] = set()
    kinds = [*KINDS, *KINDS[-2:]]
    for first in range(0, len(kinds), 3):
        with ExitStack() as stack:
            writers = [
                stack.enter_context(writer(postgres_database_url, f"{kind} {each}", Cut(number, kind)))
                for each, kind in enumerate(kinds[first : first + 3], first)
            ]
            assert sorted(kill_each_at_its_cut(writers)) == sorted(kinds[first : first + 3])
            committed |= acknowledged(writers)
    untold = check(postgres_database_url, committed)
    assert 4 <= untold <= len(kinds)  # the four whose COMMIT was on its way
    assert len(committed) >= 4 * (number - 1)


@pytest.mark.parametrize(
    "kinds", [("before COMMIT", "COMMIT sent"), pytest.param(("after INSERT", "committed"), marks=pytest.mark.slow)]
)
def test_a_server_that_stops_at_once_loses_and_tears_nothing(durable_server: EmbeddedServer, kinds: tuple[str, ...]) -> None:
    """While one writer is at its cut and others are anywhere."""
    url = durable_server.url
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
    committed: set[str] = set()
    for kind in kinds:
        with ExitStack() as stack:
            others = [stack.enter_context(writer(url, f"{kind}, other {number}")) for number in range(2)]
            for each in others:
                while not each.heard("committed"):
                    assert each.listen() is not None
            stopping = stack.enter_context(writer(url, kind, Cut(5, kind)))
            assert stopping.until_it_stops() == kind
            durable_server.crash()
            for each in others:
                each.until_it_ends()
            stopping.kill()
            committed |= acknowledged([stopping, *others])
        durable_server.restart()
    check(url, committed)
    assert len(committed) >= 10
