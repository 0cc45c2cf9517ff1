"""The message bus: the shop's payments go out to it once they are committed, and the loyalty service listens.

``SHOP_BROKER`` says where RabbitMQ is, such as ``amqp://guest:guest@localhost:5672/``; without it, FastStream's broker in memory
serves.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from faststream.rabbit import RabbitBroker, TestRabbitBroker

from sa_eventsource import Publisher
from shop import loyalty
from shop.ordering import Base, OrderPaid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_URL = os.environ.get("SHOP_BROKER")

listening = RabbitBroker(_URL or "amqp://in-memory", logger=None)
listening.include_router(loyalty.router)

sending = listening if _URL is None else RabbitBroker(_URL, logger=None)  # a publisher has a connection of its own

publisher = Publisher("shop", OrderPaid, broker=sending, channel=loyalty.EXCHANGE.name, base=Base)


@asynccontextmanager
async def running_bus() -> AsyncIterator[None]:
    """Listen to the bus; RabbitMQ's exchange and queue are declared first."""
    if _URL is None:
        async with TestRabbitBroker(listening, connect_only=False):
            yield
    else:
        await listening.start()
        try:
            yield
        finally:
            await listening.stop()
