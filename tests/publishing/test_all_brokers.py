"""What applies to every broker: nothing is lost, each stream is in order, and what may arrive twice is counted."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from sa_eventsource import ReadModelManager, Worker
from tests import processes
from tests.publishing import brokers
from tests.publishing.brokers import check_arrived
from tests.publishing.buses import BATCH, BUSES, Bus
from tests.publishing.shop import Base, publish, sell
from tests.waiting import wait_until

TILLS = [f"ü {number}\n" for number in range(40)]  # such ids go into headers as well


@pytest.fixture(params=BUSES, ids=[each.name for each in BUSES])
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    found: Bus = request.param
    brokers.needs(found.name)
    yield found
    found.publisher.close()


async def test_each_event_arrives_once_and_each_stream_in_order(shop: Engine, bus: Bus) -> None:
    sell(shop, *TILLS, times=10)
    async with bus.open():
        assert await asyncio.to_thread(publish, shop, bus.publisher.name) == 400
        check_arrived(await bus.arrived(), [bus.encoded(till) for till in TILLS], 10)


@pytest.mark.slow
async def test_a_connection_that_is_lost_in_the_middle_loses_nothing(shop: Engine, bus: Bus) -> None:
    times, cuts = 25, 3
    sender = bus.publisher.sender
    before = sender.broker
    with brokers.proxy(bus.name) as proxy:
        async with bus.open():
            sender.broker = bus.broker(proxy.port)
            try:
                with Worker(shop, Base, only=[bus.publisher.name]):
                    await asyncio.to_thread(sell, shop, *TILLS, times=5)
                    for cut in range(1, cuts + 1):
                        await until(bus, 200 * cut - 100)
                        proxy.cut()
                        await asyncio.to_thread(sell, shop, *TILLS, times=5)
                        await asyncio.to_thread(wait_for_status, shop, bus, "waits")
                        proxy.restore()
                    await asyncio.to_thread(sell, shop, *TILLS, times=times - 5 * (cuts + 1))
                    await until(bus, times * len(TILLS))
                    await asyncio.to_thread(wait_for_status, shop, bus, "")
            finally:
                bus.publisher.close()
                sender.broker = before
            arrived = await bus.arrived()
    tills = [bus.encoded(till) for till in TILLS]
    check_arrived(arrived, tills, times, at_most=cuts * len(TILLS) if bus.repeats else 0)
    for till in tills:  # what is repeated is so at once: the next message of the stream waits for the answer
        numbers = [number for name, number in arrived if name == till]
        assert numbers == sorted(numbers)


@pytest.mark.slow
async def test_a_publisher_that_is_killed_goes_on_where_it_was(shop: Engine, bus: Bus) -> None:
    times, kills = 30, 2
    await asyncio.to_thread(sell, shop, *TILLS, times=times)
    url = shop.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "sa_eventsource.cli", "publish", f"tests.publishing.buses:{bus.name}_publisher", "--url", url]
    async with bus.open():
        for kill in range(1, kills + 1):
            process = processes.start(command)
            await until(bus, kill * 400)
            process.send_signal(signal.SIGKILL)
            process.wait()
        process = processes.start(command)
        await until(bus, times * len(TILLS))
        await asyncio.to_thread(wait_for_lag, shop, bus)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        arrived = await bus.arrived()
    at_most = kills * BATCH if bus.repeats else 0
    check_arrived(arrived, [bus.encoded(till) for till in TILLS], times, at_most=at_most)


async def until(bus: Bus, depth: int) -> None:
    async with asyncio.timeout(120):
        while await bus.depth() < depth:  # noqa: ASYNC110 - it is the broker that counts
            await asyncio.sleep(0.005)


def wait_for_status(engine: Engine, bus: Bus, said: str) -> None:
    manager = ReadModelManager(engine, Base)

    def is_said() -> bool:
        problems = [each for each in manager.problems() if each.startswith(bus.publisher.name)]
        return any(said in each for each in problems) if said else not problems

    wait_until(is_said, f"the status never says {said!r}")


def wait_for_lag(engine: Engine, bus: Bus) -> None:
    manager = ReadModelManager(engine, Base)
    wait_until(lambda: [each.lag_events for each in manager.status() if each.name == bus.publisher.name] == [0], "it is never done")
