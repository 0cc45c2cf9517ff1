"""Measure publishers: ``python -m benchmarks.publishing [--events N] [--streams N] [BROKER ...]``.

Events are written to a log first; then one process publishes them, which is timed from its first batch to its last. The brokers are
those on this machine's usual ports. Beside the rate, the time that the process's own processor took is told: where a machine is
shared, that is what can be compared. The client alone, sending as many messages of the same kind by its cheapest call, as many of
them in flight, shows what is left to the publisher.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiormq
import nats
import redis
import redis.asyncio as async_redis
from faststream.nats import NatsBroker
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.redis import RedisBroker
from pamqp.commands import Basic
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.databases import chosen_server, circumstances, own_database
from sa_eventsource import AggregateRoot, DomainEvent, Publisher, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from sqlalchemy import Engine

_NAME = f"bench{uuid4().hex[:8]}"
_RABBITMQ = "amqp://guest:guest@127.0.0.1:5672/"
_NATS = "nats://127.0.0.1:4222"
_REDIS = "redis://127.0.0.1:6379"
_AT_ONCE = 1_000


class Base(DeclarativeBase):
    """Declarative base of the benchmark."""


class OrderPlaced(DomainEvent):
    """An event of usual size."""

    customer_id: str
    amount: int
    lines: tuple[str, ...]


class Order(AggregateRoot[str], Base):
    """An aggregate without state."""

    __ignored_events__ = (OrderPlaced,)


@contextmanager
def rabbitmq() -> Iterator[tuple[RabbitBroker, str, Any]]:
    """Make an exchange with a queue."""

    async def declare(remove: bool) -> None:  # noqa: FBT001 - what follows is the opposite of what went before
        async with RabbitBroker(_RABBITMQ, logger=None) as broker:
            exchange = await broker.declare_exchange(RabbitExchange(_NAME, type=ExchangeType.TOPIC))
            queue = await broker.declare_queue(RabbitQueue(_NAME))
            await queue.bind(exchange, "#")
            if remove:
                await queue.delete(if_unused=False, if_empty=False)
                await exchange.delete()

    asyncio.run(declare(remove=False))
    try:
        yield RabbitBroker(_RABBITMQ, logger=None), _NAME, None
    finally:
        asyncio.run(declare(remove=True))


@contextmanager
def jetstream() -> Iterator[tuple[NatsBroker, str, Any]]:
    """Make a stream in files."""

    async def declare(remove: bool) -> None:  # noqa: FBT001 - as above
        client = await nats.connect(_NATS)
        stream = client.jetstream()
        if remove:
            await stream.delete_stream(_NAME)
        else:
            await stream.add_stream(name=_NAME, subjects=[f"{_NAME}.>"])
        await client.close()

    asyncio.run(declare(remove=False))
    try:
        yield NatsBroker(_NATS, logger=None), _NAME, f"{_NAME}.placed"
    finally:
        asyncio.run(declare(remove=True))


@contextmanager
def redis_streams() -> Iterator[tuple[RedisBroker, str, Any]]:
    """Use a stream of a name of its own."""
    try:
        yield RedisBroker(_REDIS), _NAME, None
    finally:
        with redis.Redis.from_url(_REDIS) as client:
            client.delete(_NAME)


BROKERS: dict[str, Callable[[], Any]] = {"rabbitmq": rabbitmq, "nats": jetstream, "redis": redis_streams}


def fill(engine: Engine, events: int, streams: int) -> None:
    """Write events: of each stream one after the other, as one writer among many would."""
    lines = ("lamp", "bulb", "shade")
    with Session(engine) as session:
        for start in range(0, events, _AT_ONCE):
            for number in range(start, min(start + _AT_ONCE, events)):
                order = session.get(Order, f"o-{number % streams}") or Order(id=f"o-{number % streams}")
                session.add(order)
                order.apply_event(OrderPlaced(customer_id=f"c-{number}", amount=number, lines=lines))
            session.commit()
            session.expunge_all()


def measure(engine: Engine, broker: str, events: int) -> tuple[float, float]:
    """Publish all that is there; give messages a second, and microseconds of the processor for each."""
    with BROKERS[broker]() as (client, channel, subject):
        publisher = Publisher(
            f"{_NAME}.{broker}", OrderPlaced, broker=client, channel=channel, subject=subject, base=Base, batch_size=1_000
        )
        try:
            worker = Worker(engine, Base, only=[publisher.name])
            wall, used = time.perf_counter(), os.times()
            taken = worker.run_once()
            wall, spent = time.perf_counter() - wall, os.times()
        finally:
            publisher.close()
    assert taken == events
    return events / wall, 1e6 * (spent.user + spent.system - used.user - used.system) / events


_BODY = b'{"customer_id":"c-12345","amount":12345,"lines":["lamp","bulb","shade"]}'


def _headers(number: int) -> dict[str, str]:
    """Write headers like those of a CloudEvent."""
    return {
        "ce-specversion": "1.0",
        "ce-id": str(uuid4()),
        "ce-source": "/bench",
        "ce-type": "OrderPlaced",
        "ce-subject": f"o-{number}",
        "ce-time": "2026-01-01T00:00:00.000000Z",
        "ce-dataschema": "urn:jsonschema:OrderPlaced:1",
        "ce-partitionkey": f"o-{number}",
        "ce-aggregatetype": "Order",
        "ce-aggregateversion": "1",
    }


async def rabbitmq_alone(events: int, channel: str, _subject: Any) -> None:
    """Send persistent messages with publisher confirms."""
    connection = await aiormq.connect(_RABBITMQ)
    opened: Any = await connection.channel(publisher_confirms=True, on_return_raises=True)
    for start in range(0, events, _AT_ONCE):
        sending = [
            opened.basic_publish(
                _BODY,
                exchange=channel,
                routing_key="Order.OrderPlaced",
                properties=Basic.Properties(delivery_mode=2, headers=dict(_headers(number))),
                mandatory=True,
                wait=False,
            )
            for number in range(start, min(start + _AT_ONCE, events))
        ]
        await asyncio.gather(*sending)
    await connection.close()


async def jetstream_alone(events: int, channel: str, subject: str) -> None:
    """Publish, and wait for JetStream's acknowledgements."""
    client = await nats.connect(_NATS)
    stream = client.jetstream()
    for start in range(0, events, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, events))
        await asyncio.gather(*(stream.publish(subject, _BODY, stream=channel, headers=_headers(number)) for number in numbers))
    await client.close()


async def redis_alone(events: int, channel: str, _subject: Any) -> None:
    """Add to a stream, as many as are in flight by one pipeline."""
    async with async_redis.Redis.from_url(_REDIS) as client:
        for start in range(0, events, _AT_ONCE):
            pipeline = client.pipeline(transaction=False)
            for number in range(start, min(start + _AT_ONCE, events)):
                fields: dict[Any, Any] = {"body": _BODY, **_headers(number)}
                pipeline.xadd(channel, fields)
            await pipeline.execute()


ALONE: dict[str, Callable[[int, str, Any], Coroutine[Any, Any, None]]] = {
    "rabbitmq": rabbitmq_alone,
    "nats": jetstream_alone,
    "redis": redis_alone,
}


def measure_alone(broker: str, events: int) -> tuple[float, float]:
    """Have the client alone send as many messages; give the same figures."""
    with BROKERS[broker]() as (_, channel, subject):
        wall, used = time.perf_counter(), os.times()
        asyncio.run(ALONE[broker](events, channel, subject))
        wall, spent = time.perf_counter() - wall, os.times()
    return events / wall, 1e6 * (spent.user + spent.system - used.user - used.system) / events


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("brokers", nargs="*", metavar="BROKER", help=f"of {', '.join(BROKERS)}; all if none")
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--streams", type=int, default=5_000)
    arguments = parser.parse_args()
    table = Table("broker", "messages a second", "processor, µs a message")
    with chosen_server() as server, own_database(server, durable=False) as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        fill(engine, arguments.events, arguments.streams)
        for broker in arguments.brokers or BROKERS:
            rate, processor = measure(engine, broker, arguments.events)
            table.add_row(broker, f"{rate:,.0f}", f"{processor:.0f}")
            rate, processor = measure_alone(broker, arguments.events)
            table.add_row(f"{broker}, the client alone", f"{rate:,.0f}", f"{processor:.0f}")
        engine.dispose()
        console = Console()
        console.print(circumstances(server))
        console.print(table)


if __name__ == "__main__":
    main()
