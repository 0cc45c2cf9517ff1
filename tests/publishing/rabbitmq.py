"""What the tests do with RabbitMQ: an exchange with a queue of their own, and what is in it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from faststream.rabbit import RabbitBroker

from sa_eventsource import Publisher
from tests.publishing.brokers import HOST, PORTS
from tests.publishing.shop import Base, Closed, Sold

URL = os.environ.get("RABBITMQ_TEST_URL", f"amqp://guest:guest@{HOST}:{PORTS['rabbitmq']}/")
EXCHANGE = f"sa_eventsource.tests.{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"

publisher = Publisher(
    "publishing.rabbitmq",
    Sold,
    Closed,
    broker=RabbitBroker(os.environ.get("PUBLISHING_BROKER_URL", URL), logger=None, reconnect_interval=0.1),
    channel=os.environ.get("PUBLISHING_CHANNEL", EXCHANGE),
    base=Base,
    batch_size=50,
    timeout=5.0,
)


@dataclass
class Bus:
    """An exchange of RabbitMQ with one queue.

    Attributes:
        exchange: Its name.
        queue: The queue, which gets all that is sold.
        channel: To both.
    """

    exchange: str
    queue: AbstractQueue
    channel: AbstractChannel

    async def depth(self) -> int:
        """Count what has arrived."""
        declared = await self.channel.declare_queue(self.queue.name, passive=True)
        return declared.declaration_result.message_count or 0

    async def messages(self) -> list[AbstractIncomingMessage]:
        """Take all that has arrived."""
        found = []
        while (message := await self.queue.get(no_ack=True, fail=False)) is not None:
            found.append(message)
        return found

    async def arrived(self) -> list[tuple[str, int]]:
        """Take all that has arrived, as tills and numbers."""
        return [
            (str(message.headers["ce-subject"]), int(str(message.headers["ce-aggregateversion"])))
            for message in await self.messages()
        ]


@asynccontextmanager
async def bus(exchange: str = EXCHANGE) -> AsyncIterator[Bus]:
    """Make an exchange with a queue for ``Sold``, and for nothing else."""
    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel()
        declared = await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC)
        queue = await channel.declare_queue(exchange)
        await queue.purge()
        await queue.bind(declared, "Till.publishing.Sold")
        try:
            yield Bus(exchange, queue, channel)
        finally:
            await queue.delete(if_unused=False, if_empty=False)
            await declared.delete()
