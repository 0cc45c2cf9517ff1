"""A broker that takes connections and messages, and does not answer, or late: it only delays."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Engine, NullPool
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from sa_eventsource import AsyncWorker, Worker
from tests import processes
from tests.publishing import brokers
from tests.publishing.brokers import Proxy, check_arrived
from tests.publishing.buses import BUSES, NATS, RABBITMQ, REDIS, Bus
from tests.publishing.shop import Base, Sales, sell
from tests.publishing.test_all_brokers import until, wait_for_lag, wait_for_status
from tests.waiting import wait_until

TILLS = [f"till-{number}" for number in range(20)]
ROUNDS = 3
# NATS's client leaves the socket of a connection that was given up while it was made to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(params=BUSES, ids=[each.name for each in BUSES])
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    found: Bus = request.param
    brokers.needs(found.name)
    sender, before = found.publisher.sender, (found.publisher.sender.broker, found.publisher.sender.timeout)
    yield found
    found.publisher.close()
    sender.broker, sender.timeout = before
    gc.collect()


@pytest.fixture
def proxy(bus: Bus) -> Iterator[Proxy]:
    with brokers.proxy(bus.name) as proxy:
        bus.publisher.sender.broker, bus.publisher.sender.timeout = bus.broker(proxy.port), 0.5
        yield proxy


@pytest.mark.parametrize("what", ["answers", pytest.param("all", marks=pytest.mark.slow)])
async def test_one_that_stops_answering_delays_and_its_late_answers_count_for_nothing(
    shop: Engine, bus: Bus, proxy: Proxy, what: str
) -> None:
    async with bus.open():
        with Worker(shop, Base, only=[bus.publisher.name]):
            for number in range(ROUNDS):
                await asyncio.to_thread(sell, shop, *TILLS, times=2)
                await until(bus, (2 * number + 1) * 2 * len(TILLS))
                await asyncio.to_thread(wait_for_lag, shop, bus)
                proxy.hold(answers_only=what == "answers")
                await asyncio.to_thread(sell, shop, *TILLS, times=2)
                await asyncio.to_thread(wait_for_status, shop, bus, "no answer within 0.5 s")
                proxy.let_go()
                await asyncio.to_thread(wait_for_lag, shop, bus)
            await asyncio.to_thread(wait_for_status, shop, bus, "")
        arrived = await bus.arrived()
    check_arrived(arrived, TILLS, 4 * ROUNDS, at_most=len(arrived) if bus.repeats else 0)
    repeated = {number for (_, number), times in Counter(arrived).items() if times > 1}
    assert repeated <= {4 * number + 3 for number in range(ROUNDS)}  # those that were on their way


SALES = "publishing.sales"
OTHER = {RABBITMQ: REDIS, NATS: RABBITMQ}
"""To which broker another publisher publishes, beside one whose broker hangs; the client of Redis gives up by itself after 5 s."""


@asynccontextmanager
async def both_open(bus: Bus) -> AsyncIterator[Bus]:
    """Open a broker, and another one; a publisher waits for the first one for longer than any test does."""
    other = OTHER[bus]
    brokers.needs(other.name)
    bus.publisher.sender.timeout = 600
    async with bus.open(), other.open():
        try:
            yield other
        finally:
            other.publisher.close()


async def check_that_others_go_on(shop: Engine, bus: Bus, other: Bus, proxy: Proxy) -> None:
    """Have a publisher hang, and see what the worker's others do; let the publisher go on."""
    await asyncio.to_thread(sell, shop, "till-0")
    await until(bus, 1)
    proxy.hold()
    try:
        for number in range(2, 6):
            await asyncio.to_thread(sell, shop, "till-0")  # whoever takes turns with the publisher misses one of them
            await asyncio.to_thread(wait_for_sales, shop, number)
            async with asyncio.timeout(20):
                await until(other, number)
        assert await bus.depth() == 1
    finally:
        proxy.let_go()
    await until(bus, 5)
    await asyncio.to_thread(wait_for_lag, shop, bus)
    arrived = await bus.arrived()
    check_arrived(arrived, ["till-0"], 5, at_most=len(arrived) if bus.repeats else 0)


def wait_for_sales(engine: Engine, number: int) -> None:
    def are_there() -> bool:
        with Session(engine) as session:
            sales = session.get(Sales, "till-0")
            return sales is not None and sales.number == number

    wait_until(are_there, f"the read model never has {number} sales", seconds=20)


@pytest.mark.parametrize("bus", OTHER, ids=[each.name for each in OTHER], indirect=True)
async def test_what_else_a_worker_looks_after_does_not_wait_for_it(shop: Engine, bus: Bus, proxy: Proxy) -> None:
    async with both_open(bus) as other:
        with Worker(shop, Base, only=[bus.publisher.name, other.publisher.name, SALES]):
            await check_that_others_go_on(shop, bus, other, proxy)


@pytest.mark.parametrize("bus", OTHER, ids=[each.name for each in OTHER], indirect=True)
async def test_nor_does_it_in_an_asynchronous_worker(shop: Engine, bus: Bus, proxy: Proxy) -> None:
    sessions = async_sessionmaker(create_async_engine(shop.url, poolclass=NullPool))
    async with both_open(bus) as other, AsyncWorker(sessions, Base, only=[bus.publisher.name, other.publisher.name, SALES]):
        await check_that_others_go_on(shop, bus, other, proxy)


@pytest.mark.slow
@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "beside a read model"])
@pytest.mark.parametrize("since", ["the beginning", "the middle"])
async def test_a_publisher_that_waits_for_one_is_ended_soon(
    shop: Engine, bus: Bus, proxy: Proxy, since: str, *, is_alone: bool
) -> None:
    command = [sys.executable, "-m", "sa_eventsource.cli", "--url", shop.url.render_as_string(hide_password=False)]
    if is_alone:
        command[3:3] = ["publish", f"tests.publishing.buses:{bus.name}_publisher"]
    else:
        command[3:3] = ["run", "tests.publishing.buses:Base", "--only", bus.publisher.name, "--only", SALES]
    given = {f"PUBLISHING_TESTS_{bus.name.upper()}": str(proxy.port), "PUBLISHING_TESTS_TIMEOUT": "1"}
    async with bus.open():
        if since == "the beginning":
            proxy.hold()
        await asyncio.to_thread(sell, shop, *TILLS)
        process = processes.start(command, env={**os.environ, **given})
        if since == "the middle":
            await until(bus, len(TILLS))
            await asyncio.to_thread(wait_for_lag, shop, bus)
            proxy.hold()
            await asyncio.to_thread(sell, shop, *TILLS)
        await asyncio.to_thread(wait_for_status, shop, bus, "no answer within 1 s")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
