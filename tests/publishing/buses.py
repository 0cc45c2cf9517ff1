"""The brokers as the tests of publishing see them: a publisher to each, and what has arrived there."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aio_pika
import nats
import redis.asyncio
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from faststream.nats import NatsBroker
from faststream.rabbit import RabbitBroker
from faststream.redis import BinaryMessageFormatV1, RedisBroker
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from sa_eventsource import Publisher
from tests.publishing.brokers import HOST, PORTS
from tests.publishing.shop import Base
from tests.shop import Sold, TillClosed

RUN = os.environ.setdefault("PUBLISHING_TESTS_RUN", f"t{uuid4().hex[:8]}")
"""In the names of what the tests make in the brokers, which several runs share; processes that a test starts have the same."""


BATCH = 50
"""How many messages are in flight."""

TIMEOUT = float(os.environ.get("PUBLISHING_TESTS_TIMEOUT", "5"))
"""For how many seconds a publisher waits for an answer; processes that a test starts may wait less."""


class Bus(ABC):
    """A broker, in which a place for ``Sold`` is made, and none for ``TillClosed``.

    Attributes:
        name: The broker's.
        publisher: Publishes to it.
        repeats: Whether a message whose answer was lost may arrive twice.
    """

    name: str
    publisher: Publisher
    repeats = True

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[None]:
        """Make the place, and remove it in the end."""

    @abstractmethod
    def broker(self, port: int) -> Any:
        """Make a broker of FastStream."""

    @abstractmethod
    async def depth(self) -> int:
        """Count what has arrived."""

    @abstractmethod
    async def headers(self) -> list[dict[str, str]]:
        """Take all that has arrived: the headers of the messages, in their order."""

    def encoded(self, till: str) -> str:
        """Give a till's id as it arrives in a header."""
        return till

    async def arrived(self) -> list[tuple[str, int]]:
        """Take all that has arrived, as tills and numbers."""
        prefix = "ce_" if self.name == "kafka" else "ce-"
        return [(each[f"{prefix}subject"], int(each[f"{prefix}aggregateversion"])) for each in await self.headers()]


class RabbitMQ(Bus):
    """An exchange with one queue."""

    name = "rabbitmq"
    exchange = f"sa_eventsource.{RUN}"
    url = "amqp://guest:guest@{host}:{port}/"
    publisher = Publisher(
        "publishing.rabbitmq",
        Sold,
        TillClosed,
        broker=RabbitBroker(url.format(host=HOST, port=PORTS["rabbitmq"]), logger=None, reconnect_interval=0.1),
        channel=exchange,
        base=Base,
        batch_size=BATCH,
        timeout=TIMEOUT,
    )
    channel: AbstractChannel
    queue: AbstractQueue

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with await aio_pika.connect(self.url.format(host=HOST, port=PORTS["rabbitmq"])) as connection:
            self.channel = await connection.channel()
            declared = await self.channel.declare_exchange(self.exchange, aio_pika.ExchangeType.TOPIC)
            self.queue = await self.channel.declare_queue(self.exchange)
            await self.queue.bind(declared, "Till.shop.Sold")
            try:
                yield
            finally:
                await self.queue.delete(if_unused=False, if_empty=False)
                await declared.delete()

    def broker(self, port: int) -> RabbitBroker:
        return RabbitBroker(self.url.format(host=HOST, port=port), logger=None, reconnect_interval=0.1)

    async def depth(self) -> int:
        declared = await self.channel.declare_queue(self.queue.name, passive=True)
        return declared.declaration_result.message_count or 0

    async def messages(self) -> list[AbstractIncomingMessage]:
        """Take all that has arrived."""
        found = []
        while (message := await self.queue.get(no_ack=True, fail=False)) is not None:
            found.append(message)
        return found

    async def headers(self) -> list[dict[str, str]]:
        return [{name: str(value) for name, value in message.headers.items()} for message in await self.messages()]


class Nats(Bus):
    """A stream of JetStream."""

    name = "nats"
    repeats = False
    stream = f"sa_eventsource_{RUN}"
    publisher = Publisher(
        "publishing.nats",
        Sold,
        TillClosed,
        broker=NatsBroker(f"nats://{HOST}:{PORTS['nats']}", logger=None, reconnect_time_wait=1),
        subject=lambda recorded: f"{RUN}.{recorded.event_type}",
        base=Base,
        batch_size=BATCH,
        timeout=TIMEOUT,
    )
    context: JetStreamContext

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        client = await nats.connect(f"nats://{HOST}:{PORTS['nats']}")
        self.context = client.jetstream()
        await self.context.add_stream(name=self.stream, subjects=[f"{RUN}.shop.Sold"])
        try:
            yield
        finally:
            await self.context.delete_stream(self.stream)
            await client.close()

    def encoded(self, till: str) -> str:
        return quote(till, safe="")

    def broker(self, port: int) -> NatsBroker:
        return NatsBroker(f"nats://{HOST}:{port}", logger=None, reconnect_time_wait=1)

    async def depth(self) -> int:
        return (await self.context.stream_info(self.stream)).state.messages

    async def messages(self) -> list[Msg]:
        """Take all that has arrived."""
        found = []
        subscription = await self.context.pull_subscribe(f"{RUN}.>", stream=self.stream)
        left = await self.depth()
        while left:
            for message in await subscription.fetch(min(left, 100), timeout=10):
                found.append(message)
                await message.ack()
                left -= 1
        return found

    async def headers(self) -> list[dict[str, str]]:
        return [dict(message.headers or {}) for message in await self.messages()]


class Redis(Bus):
    """A stream of Redis."""

    name = "redis"
    stream = f"sa_eventsource.{RUN}"
    publisher = Publisher(
        "publishing.redis",
        Sold,
        TillClosed,
        broker=RedisBroker(f"redis://{HOST}:{PORTS['redis']}"),
        channel=stream,
        base=Base,
        batch_size=BATCH,
        timeout=TIMEOUT,
    )
    client: redis.asyncio.Redis

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with redis.asyncio.Redis(host=HOST, port=PORTS["redis"]) as self.client:
            try:
                yield
            finally:
                await self.client.delete(self.stream)

    def broker(self, port: int) -> RedisBroker:
        return RedisBroker(f"redis://{HOST}:{port}")

    async def depth(self) -> int:
        return int(await self.client.xlen(self.stream))

    async def headers(self) -> list[dict[str, str]]:
        entries: Any = await self.client.xrange(self.stream)
        await self.client.delete(self.stream)
        return [BinaryMessageFormatV1.parse(fields[b"__data__"])[1] for _, fields in entries]


BUSES: list[Bus] = [RabbitMQ(), Nats(), Redis()]
RABBITMQ, NATS, REDIS = BUSES
rabbitmq_publisher, nats_publisher, redis_publisher = (each.publisher for each in BUSES)
