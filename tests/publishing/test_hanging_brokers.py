"""A broker that takes connections and messages, and does not answer, or late: it only delays."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from sa_eventsource import Worker
from tests import processes
from tests.publishing import brokers
from tests.publishing.brokers import Proxy, check_arrived
from tests.publishing.buses import BUSES, Bus
from tests.publishing.shop import Base, sell
from tests.publishing.test_all_brokers import until, wait_for_lag, wait_for_status

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


@pytest.mark.slow
@pytest.mark.parametrize("since", ["the beginning", "the middle"])
async def test_a_publisher_that_waits_for_one_is_ended_soon(shop: Engine, bus: Bus, proxy: Proxy, since: str) -> None:
    url = shop.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "sa_eventsource.cli", "publish", f"tests.publishing.buses:{bus.name}_publisher", "--url", url]
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
