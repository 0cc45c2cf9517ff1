"""Publishing to RabbitMQ: the real one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest
from cloudevents.core.bindings import rabbitmq as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from faststream.rabbit import RabbitBroker
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource import EventStore, ReadModelManager, Worker, event_context
from sa_eventsource.publishing.event_loop import sending_loop
from sa_eventsource.publishing.messages import Message
from sa_eventsource.publishing.sender import Refused
from tests import processes
from tests.publishing import brokers, rabbitmq
from tests.publishing.brokers import check_arrived
from tests.publishing.rabbitmq import bus, publisher
from tests.publishing.shop import Base, Closed, Till, publish, sell
from tests.waiting import wait_until

NAME = publisher.name


@pytest.fixture(autouse=True)
def rabbit() -> Iterator[None]:
    brokers.needs("rabbitmq")
    yield
    publisher.close()


@pytest.fixture
def shop(postgres_engine: Engine) -> Engine:
    Base.metadata.create_all(postgres_engine)
    return postgres_engine


async def test_an_event_arrives_as_a_cloud_event(shop: Engine) -> None:
    correlation, cause = uuid4(), uuid4()
    with event_context(correlation_id=correlation, causation_id=cause):
        sell(shop, "a", what="ink ü")
    async with bus() as queue:
        assert await asyncio.to_thread(publish, shop, NAME) == 1
        (message,) = await queue.messages()
    with Session(shop) as session:
        (recorded,) = EventStore(session, Base).events
    assert message.body == b'{"number":1,"what":"ink \xc3\xbc"}'
    assert (message.routing_key, message.content_type) == ("Till.publishing.Sold", "application/json")
    assert (message.message_id, message.correlation_id) == (str(recorded.event_id), str(correlation))
    headers = {name: str(value) for name, value in message.headers.items()}
    event = binding.from_binary(binding.RabbitMQMessage(headers, message.content_type, message.body), JSONFormat(), CloudEvent)
    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": str(recorded.event_id),
        "source": f"/{NAME}",
        "type": "publishing.Sold",
        "subject": "a",
        "time": recorded.occurred_at,
        "datacontenttype": "application/json",
        "dataschema": "urn:jsonschema:publishing.Sold:1",
        "partitionkey": "a",
        "aggregatetype": "Till",
        "aggregateversion": "1",
        "correlationid": str(correlation),
        "causationid": str(cause),
    }
    assert event.get_data() == json.loads(message.body)


async def test_a_message_without_a_route_is_parked_and_other_streams_go_on(shop: Engine) -> None:
    sell(shop, "a", "b")
    with Session(shop) as session:
        session.get_one(Till, "a").apply_event(Closed())
        session.commit()
    sell(shop, "a", "b")
    async with bus() as queue:
        await asyncio.to_thread(publish, shop, NAME)
        assert sorted(await queue.arrived()) == [("a", 1), ("b", 1), ("b", 2)]
    assert ReadModelManager(shop, Base).problems() == [f"{NAME} has put 2 events aside"]


async def test_where_the_exchange_is_missing_the_publisher_waits(shop: Engine) -> None:
    sell(shop, "a")
    assert await asyncio.to_thread(publish, shop, NAME) == 0
    async with bus() as queue:
        assert await asyncio.to_thread(publish, shop, NAME) == 1
        assert await queue.arrived() == [("a", 1)]


async def test_a_connection_that_is_lost_in_the_middle_loses_nothing(shop: Engine) -> None:
    tills = [f"t-{number}" for number in range(40)]
    times, cuts = 25, 3
    with brokers.proxy("rabbitmq") as proxy:
        async with bus() as queue:
            before = publisher._sender.broker
            through_proxy = rabbitmq.URL.replace(f":{brokers.PORTS['rabbitmq']}", f":{proxy.port}")
            publisher._sender.broker = RabbitBroker(through_proxy, logger=None, reconnect_interval=0.1)
            try:
                with Worker(shop, Base, only=[NAME]):
                    sell(shop, *tills, times=5)
                    for cut in range(1, cuts + 1):
                        await until(queue, 200 * cut - 100)
                        proxy.cut()
                        await asyncio.to_thread(sell, shop, *tills, times=5)
                        await asyncio.to_thread(wait_for_status, shop, "waits")
                        proxy.restore()
                    await asyncio.to_thread(sell, shop, *tills, times=times - 5 * (cuts + 1))
                    await until(queue, times * len(tills))
                    await asyncio.to_thread(wait_for_status, shop, "")
            finally:
                publisher.close()
                publisher._sender.broker = before
            arrived = await queue.arrived()
    check_arrived(arrived, tills, times, at_most=cuts * 40)
    for till in tills:  # what is repeated is so at once: the next message of the stream waits for the answer
        numbers = [number for name, number in arrived if name == till]
        assert numbers == sorted(numbers)


async def test_a_publisher_that_is_killed_goes_on_where_it_was(shop: Engine) -> None:
    tills = [f"t-{number}" for number in range(40)]
    times, kills, batch = 40, 4, 50
    sell(shop, *tills, times=times)
    url = shop.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "sa_eventsource.cli", "publish", "tests.publishing.rabbitmq:publisher", "--url", url]
    async with bus() as queue:
        environment = os.environ | {"PUBLISHING_CHANNEL": rabbitmq.EXCHANGE}
        for kill in range(1, kills + 1):
            process = processes.start(command, env=environment)
            await until(queue, kill * 250)
            process.send_signal(signal.SIGKILL)
            process.wait()
        process = processes.start(command, env=environment)
        await until(queue, times * len(tills))
        await asyncio.to_thread(wait_for_lag, shop)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        arrived = await queue.arrived()
    check_arrived(arrived, tills, times, at_most=kills * batch)


async def until(queue: rabbitmq.Bus, depth: int) -> None:
    async with asyncio.timeout(120):
        while await queue.depth() < depth:  # noqa: ASYNC110 - it is RabbitMQ that counts
            await asyncio.sleep(0.005)


def wait_for_status(engine: Engine, said: str) -> None:
    manager = ReadModelManager(engine, Base)

    def is_said() -> bool:
        problems = [each for each in manager.problems() if each.startswith(NAME)]
        return any(said in each for each in problems) if said else not problems

    wait_until(is_said, f"the status never says {said!r}")


def wait_for_lag(engine: Engine) -> None:
    manager = ReadModelManager(engine, Base)
    wait_until(lambda: [each.lag_events for each in manager.status() if each.name == NAME] == [0], "it is never done")


@pytest.mark.slow
async def test_a_message_that_is_too_large_for_the_broker_is_refused_and_no_other() -> None:
    def message(till: str, size: int, subject: str = "Till.publishing.Sold") -> Message:
        event_id = uuid4()
        attributes = {"id": str(event_id), "source": "/x", "type": "x", "subject": till, "aggregateversion": "1"}
        return Message(event_id, ("Till", till), attributes, b"x" * size, subject, till, {})

    sender = publisher._sender
    messages = [message("a", 1), message("b", 128 * 2**20 + 1), message("c", 1), message("d", 1, "x" * 256)]
    async with bus() as queue:
        before = await asyncio.to_thread(sending_loop.run, sender.send([message("z", 1)]))
        outcomes = await asyncio.to_thread(sending_loop.run, sender.send(messages))
        arrived = await queue.arrived()
    assert (before, outcomes[0], outcomes[2]) == ([None], None, None)
    assert [isinstance(outcome, Refused) for outcome in outcomes] == [False, True, False, True]
    assert sorted(arrived) == [("a", 1), ("c", 1), ("z", 1)]
