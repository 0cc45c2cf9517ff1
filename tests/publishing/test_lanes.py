"""Publishers beside other followers: each in a lane of its own, and all of them one worker."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Engine, NullPool, event
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from sa_eventsource import AsyncWorker, Worker
from sa_eventsource.consumers import chosen_consumers
from sa_eventsource.mapping import tables_on
from sa_eventsource.workers.lanes import lanes_of
from tests.publishing.scripted_sender import ScriptedSender
from tests.publishing.shop import Base, sell, sharded
from tests.waiting import wait_until

NAME = "publishing.seam"
SALES = "publishing.sales"


def test_a_publisher_has_a_lane_of_its_own_where_it_is_not_alone(postgres_engine: Engine) -> None:
    def lanes(*names: str) -> list[list[str]]:
        with Session(postgres_engine) as session:
            dealt = lanes_of(chosen_consumers(tables_on(Base.metadata), names), session)
        return [[follower.name for follower in lane] for lane in dealt]

    shards = [f"{sharded.name}#{number}/3" for number in (1, 2, 3)]
    assert lanes(NAME, SALES, sharded.name) == [[SALES], [NAME], shards]
    assert lanes(NAME, sharded.name) == [[NAME], shards]
    assert lanes(sharded.name) == [shards]
    assert lanes(SALES) == [[SALES]]
    assert lanes() == [[]]


def test_one_run_takes_what_all_lanes_have_and_says_who_is_hindered(engine: Engine, broker: ScriptedSender) -> None:
    sell(engine, "a", "b")
    broker.delays = lambda _: True
    worker = Worker(engine, Base, only=[NAME, SALES])
    assert worker.run_once() == 2  # the read model's
    assert list(worker.hindered) == [NAME]
    broker.delays = lambda _: False
    sell(engine, "a")
    assert worker.run_once() == 4
    assert worker.hindered == {}
    assert sorted(broker.sent) == [("a", 1), ("a", 2), ("b", 1)]


def fail_for_the_publisher(engine: Engine) -> None:
    """Have the engine raise what no pause mends whenever the publisher's checkpoint is asked for."""

    @event.listens_for(engine, "before_cursor_execute")
    def fail(_connection: object, _cursor: object, _statement: str, parameters: object, *_: object) -> None:
        if NAME in str(parameters):
            raise RuntimeError("out of order")


def test_what_ends_a_publisher_ends_the_worker(postgres_engine: Engine) -> None:
    sell(postgres_engine, "a")
    fail_for_the_publisher(postgres_engine)
    with pytest.raises(RuntimeError, match="out of order"), Worker(postgres_engine, Base, only=[NAME, SALES]) as worker:
        wait_until(lambda: worker.error, "it goes on")


async def test_what_ends_a_publisher_ends_an_asynchronous_worker(postgres_engine: Engine) -> None:
    sell(postgres_engine, "a")
    engine = create_async_engine(postgres_engine.url, poolclass=NullPool)
    fail_for_the_publisher(engine.sync_engine)
    with pytest.raises(RuntimeError, match="out of order"):
        async with asyncio.timeout(20):
            await AsyncWorker(async_sessionmaker(engine), Base, only=[NAME, SALES]).run()
