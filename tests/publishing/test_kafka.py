"""Publishing to Kafka: the cluster that librdkafka brings for tests, which speaks Kafka's protocol over a socket."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError
from cloudevents.core.bindings import kafka as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Producer
from faststream.kafka import KafkaBroker, TestKafkaBroker
from sqlalchemy import Engine

from sa_eventsource import Publisher, ReadModelManager
from sa_eventsource.publishing.kafka_sender import KafkaSender
from sa_eventsource.publishing.outcomes import Delayed, Refused
from tests.publishing.brokers import check_arrived
from tests.publishing.shop import Base, publish, sell
from tests.shop import Sold

TOPIC = "sales"
NAME = "publishing.kafka"
publisher = Publisher(NAME, Sold, broker=KafkaBroker("127.0.0.1:1", logger=None), channel=TOPIC, base=Base, timeout=5.0)


@pytest.fixture
def kafka() -> Iterator[str]:
    """A cluster of one broker; its address."""
    cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"


@pytest.fixture
def shop(postgres_engine: Engine, kafka: str) -> Iterator[Engine]:
    before, publisher.sender.broker = publisher.sender.broker, KafkaBroker(kafka, logger=None)
    yield postgres_engine
    publisher.close()
    publisher.sender.broker = before


async def consumed(address: str, number: int) -> list[Any]:
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            return [await consumer.getone() for _ in range(number)]
    finally:
        await consumer.stop()


async def test_events_arrive_as_cloud_events_and_each_stream_in_order_in_one_partition(shop: Engine, kafka: str) -> None:
    tills = [f"ü {number}" for number in range(30)]
    await asyncio.to_thread(sell, shop, *tills, times=10)
    assert await asyncio.to_thread(publish, shop, NAME) == 300
    records = await consumed(kafka, 300)
    events = [
        binding.from_binary(binding.KafkaMessage(dict(each.headers), each.key, each.value), JSONFormat(), CloudEvent)
        for each in records
    ]
    assert {each.get_type() for each in events} == {"shop.Sold"}
    assert all(each.key == str(event.get_subject()).encode() for each, event in zip(records, events, strict=True))
    assert all(event.get_data() == {"number": int(event.get_extension("aggregateversion")), "what": "pen"} for event in events)
    partitions = {(each.key, each.partition) for each in records}
    assert len(partitions) == len(tills)
    arrived = [(str(event.get_subject()), int(event.get_extension("aggregateversion"))) for event in events]
    check_arrived(arrived, tills, 10)


async def test_a_message_that_is_too_large_is_parked_and_other_streams_go_on(shop: Engine, kafka: str) -> None:
    await asyncio.to_thread(sell, shop, "a", what="x" * 2**21)
    await asyncio.to_thread(sell, shop, "a", "b")
    await asyncio.to_thread(publish, shop, NAME)
    (record,) = await consumed(kafka, 1)
    assert record.key == b"b"
    assert ReadModelManager(shop, Base).problems() == [f"{NAME} has parked 2 events"]


async def test_a_cluster_that_is_not_there_delays(postgres_engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    sell(postgres_engine, "a")
    assert await asyncio.to_thread(publish, postgres_engine, NAME) == 0
    (problem,) = ReadModelManager(postgres_engine, Base).problems()
    assert problem.startswith(f"{NAME} is waiting: DeliveryDelayedError: publisher '{NAME}' waits for its broker")
    gc.collect()  # what nobody has closed says so
    assert "Unclosed" not in caplog.text


async def test_what_half_a_connection_has_opened_is_closed_and_the_next_attempt_connects(
    shop: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Unwilling(AIOKafkaAdminClient):  # type: ignore[misc]
        async def start(self) -> None:
            raise KafkaConnectionError

    await asyncio.to_thread(sell, shop, "a")
    with monkeypatch.context() as patched:
        patched.setattr("aiokafka.admin.client.AIOKafkaAdminClient", Unwilling)
        assert await asyncio.to_thread(publish, shop, NAME) == 0
    assert await asyncio.to_thread(publish, shop, NAME) == 1
    gc.collect()
    assert "Unclosed" not in caplog.text


@pytest.fixture
async def in_memory() -> AsyncIterator[list[Any]]:
    broker = publisher.sender.broker
    received: list[Any] = []

    @broker.subscriber(TOPIC)  # type: ignore[untyped-decorator]
    async def receive(sold: dict[str, Any]) -> None:
        received.append(sold["number"])

    async with TestKafkaBroker(broker, connect_only=False):
        yield received


async def test_the_broker_in_memory_delivers_within_the_process(engine: Engine, in_memory: list[Any]) -> None:
    sell(engine, "a", "b", times=2)
    assert await asyncio.to_thread(publish, engine, NAME) == 4
    assert Counter(in_memory) == Counter([1, 2, 1, 2])


def test_a_topic_that_is_not_permitted_is_refused_where_others_may_be() -> None:
    """The cluster for tests permits everything."""
    error = TopicAuthorizationFailedError("sales")
    assert isinstance(KafkaSender(publisher.broker, None, 1.0).judge(error), Refused)
    assert isinstance(KafkaSender(publisher.broker, "sales", 1.0).judge(error), Delayed)
