"""Followers and servers that die while read models catch up: each event still counts exactly once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from sa_eventsource import EventReplayer, ReadModelManager
from tests.databases import OTHERS, WAITING, EmbeddedServer, wait_until_alone
from tests.parameters import slow_after
from tests.proofs.accounts import (
    Eventual,
    LateBalance,
    LateHandledBalance,
    LateInvoice,
    LateOwnDay,
    add,
    check_handled_rows,
    check_rows,
    follow_in_a_process,
    random_events,
    rebuild_in_a_process,
)
from tests.proofs.cutting import Child, Cut
from tests.waiting import wait_until

MODELS = (LateBalance, LateOwnDay, LateHandledBalance)

HOLD = "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN new; END'"

KINDS = ["before COMMIT", "COMMIT sent"]


def follower(url: str, *cuts: Cut, batch_size: int = 10, first: type[Any] = LateBalance) -> Child:
    """A process that catches up with all models, one of them first, until it comes to its cut or nothing is left."""
    names = [each.__name__ for each in sorted(MODELS, key=lambda each: each is not first)]
    return Child(follow_in_a_process, url, batch_size, names, cuts=cuts)


def fill(engine: Engine, events: int) -> int:
    """Append some events more; return how many."""
    chance, added = random.Random(events), 0
    while added < events:
        with Session(engine) as session:
            streams = [stream for _ in range(10) for stream in random_events(chance, str(added), 40)]
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


EVENTS = 600
"""So many that no cut comes to the end of them: a follower takes ten at a time."""


def prepare(url: str) -> tuple[Engine, int]:
    """Make a log that no model has taken; the engine keeps no connection open."""
    engine = create_engine(url, poolclass=NullPool)
    Eventual.metadata.create_all(engine)
    return engine, fill(engine, EVENTS)


def interrupt(engine: Engine, url: str, total: int, cuts: Sequence[Cut], end: Callable[[Child], None]) -> None:
    """End a follower at each of the cuts, in the middle of one model after the other; let one follow to the end, and check."""
    halfway: set[type[Any]] = set()
    for number, cut in enumerate(cuts):
        model = MODELS[number % 3]
        with follower(url, cut, first=model) as running:
            assert running.until_it_stops() == (cut.kind or running.said[-1][1])
            end(running)
        left = check_progress(engine, total)
        assert left[number % 3] > 0, "there was nothing left to be cut"
        halfway.update(each for each, lag in zip(MODELS, left, strict=True) if 0 < lag < total)
        if number % 5 == 4:
            total += fill(engine, 20)
    assert halfway == {*MODELS}
    with follower(url, batch_size=100) as running:
        running.until_it_ends()
    assert running.said == [("done",)]
    check_whole(engine, total)


AT_EACH_POINT = [Cut(number) for number in range(1, 28)]
"""Each model is cut at nine of these, from before its first statement on; what comes later is like it."""

WHILE_IT_COMMITS = [Cut(number, kind) for number in (1, 2) for kind in KINDS for _ in MODELS]


@pytest.mark.parametrize(
    "cuts",
    [
        [*AT_EACH_POINT[::3], *WHILE_IT_COMMITS[:6]],
        pytest.param([*AT_EACH_POINT[1::3], *AT_EACH_POINT[2::3], *WHILE_IT_COMMITS[6:]], marks=pytest.mark.slow),
        pytest.param([*(each for each in AT_EACH_POINT[:20] for _ in MODELS), *WHILE_IT_COMMITS[6:]], marks=pytest.mark.slow),
    ],
    ids=["some points", "the points between", "each model at each point"],
)
def test_a_follower_that_is_killed_again_and_again_counts_each_event_once(postgres_database_url: str, cuts: list[Cut]) -> None:
    engine, total = prepare(postgres_database_url)
    interrupt(engine, postgres_database_url, total, cuts, Child.kill)


def test_a_follower_whose_connections_are_cut_goes_on_and_counts_each_event_once(postgres_database_url: str) -> None:
    """At each point of its work in turn."""
    engine, total = prepare(postgres_database_url)
    cuts = [Cut(number) for number in range(1, 16)]
    with (
        follower(postgres_database_url, *cuts) as running,
        engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection,
    ):
        for _ in cuts:
            running.until_it_stops()
            connection.execute(text(f"SELECT pg_terminate_backend(pid, 10000) {OTHERS}"))
            running.go_on()
        running.until_it_ends()
    assert running.said[-1] == ("done",)
    print(f"cut {len(running.heard('cut'))} times")
    assert len(running.heard("cut")) == len(cuts)
    check_whole(engine, total)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cuts",
    [
        [Cut(2, "before COMMIT"), Cut(25), Cut(2, "COMMIT sent")],
        pytest.param(
            [Cut(22), Cut(26), Cut(2, "COMMIT sent"), *(Cut(number) for number in range(4, 20, 3))], marks=pytest.mark.slow
        ),
    ],
    ids=["three times", "nine times"],
)
def test_a_follower_whose_server_crashes_counts_each_event_once(durable_server: EmbeddedServer, cuts: list[Cut]) -> None:
    def crash(running: Child) -> None:
        durable_server.crash()
        running.kill()
        durable_server.restart()

    engine, total = prepare(durable_server.url)
    interrupt(engine, durable_server.url, total, cuts, crash)


@pytest.mark.parametrize("end", ["kill", pytest.param("terminate", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", slow_after(1, MODELS))
def test_a_rebuild_that_is_killed_leaves_the_old_rows(postgres_database_url: str, model: type[Any], end: str) -> None:
    table = model.__read_model_definition__.table.name
    engine, total = prepare(postgres_database_url)
    ReadModelManager(engine, Eventual).catch_up()
    more = fill(engine, 50)
    rows = text(f"SELECT row.*, row.xmin FROM {table} row ORDER BY 1")
    with engine.begin() as connection:
        before = connection.execute(rows).all()
        # It stops where it has deleted the old rows and is about to insert the first new one.
        connection.execute(text(HOLD))
        connection.execute(text(f"CREATE TRIGGER hold BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION hold()"))
    with engine.connect() as gate, Child(rebuild_in_a_process, postgres_database_url, model.__name__) as rebuild:
        gate.execute(text("SELECT pg_advisory_lock(1)"))
        gate.commit()
        wait_until(lambda: gate.scalar(text(WAITING)), "the rebuild does not come to the first row")
        with engine.connect() as reader:
            assert reader.execute(rows).all() == before
        if end == "kill":
            rebuild.kill()
        else:
            gate.execute(text(WAITING.replace("count(*)", "pg_terminate_backend(pid)")))
            rebuild.until_it_ends()
        assert [said[0] for said in rebuild.said] == ([] if end == "kill" else ["failed"])
    wait_until_alone(engine)
    with engine.connect() as connection:
        assert connection.execute(rows).all() == before
    (status,) = ReadModelManager(engine, Eventual).status(model)
    assert status.lag_events == more
    assert ReadModelManager(engine, Eventual).catch_up(model) == more
    assert ReadModelManager(engine, Eventual).catch_up() == 2 * more
    check_whole(engine, total + more)
