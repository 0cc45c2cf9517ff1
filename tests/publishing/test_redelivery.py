"""A message whose transaction was rolled back is delivered once more, by the broker itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

import nats
import pytest
import redis.asyncio
from faststream import AckPolicy
from faststream.nats import NatsBroker
from faststream.rabbit import RabbitBroker, RabbitQueue
from faststream.redis import RedisBroker, StreamSub
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sa_eventsource import Inbox
from sa_eventsource.publishing.faststream_inbox import handled_once
from tests.publishing.brokers import HOST, PORTS, needs
from tests.publishing.buses import RUN

PLACE = f"{RUN}.redelivered"


class Base(DeclarativeBase):
    """A consumer's base."""


class Bill(Base):
    """What the consumer does."""

    __tablename__ = "bills"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


inbox = Inbox(Base)


@pytest.fixture
def bills(postgres_engine: Engine) -> Iterator[sessionmaker[Session]]:
    Base.metadata.create_all(postgres_engine)
    yield sessionmaker(postgres_engine)


@asynccontextmanager
async def rabbitmq(bill: Callable[..., Any]) -> AsyncIterator[Callable[..., Any]]:
    broker = RabbitBroker(f"amqp://guest:guest@{HOST}:{PORTS['rabbitmq']}/", logger=None)
    broker.subscriber(RabbitQueue(PLACE, auto_delete=True), ack_policy=AckPolicy.NACK_ON_ERROR)(bill)
    async with broker:
        await broker.start()
        yield lambda body, **sent: broker.publish(body, PLACE, **sent)


@asynccontextmanager
async def jetstream(bill: Callable[..., Any]) -> AsyncIterator[Callable[..., Any]]:
    url, name = f"nats://{HOST}:{PORTS['nats']}", PLACE.replace(".", "_")
    client = await nats.connect(url)
    await client.jetstream().add_stream(name=name, subjects=[PLACE])
    broker = NatsBroker(url, logger=None)
    broker.subscriber(PLACE, stream=name, durable="billing", pull_sub=True, ack_policy=AckPolicy.NACK_ON_ERROR)(bill)
    try:
        async with broker:
            await broker.start()
            yield lambda body, **sent: broker.publish(body, PLACE, stream=name, **sent)
    finally:
        await client.jetstream().delete_stream(name)
        await client.close()


@asynccontextmanager
async def redis_stream(bill: Callable[..., Any]) -> AsyncIterator[Callable[..., Any]]:
    async with redis.asyncio.Redis(host=HOST, port=PORTS["redis"]) as client:
        broker = RedisBroker(f"redis://{HOST}:{PORTS['redis']}")
        new = StreamSub(PLACE, group="billing", consumer="one", polling_interval=50)
        left_over = StreamSub(PLACE, group="billing", consumer="one", polling_interval=50, min_idle_time=100)
        for stream in (new, left_over):
            broker.subscriber(stream=stream, ack_policy=AckPolicy.NACK_ON_ERROR)(bill)
        try:
            async with broker:
                await broker.start()
                yield lambda body, **sent: broker.publish(body, stream=PLACE, **sent)
        finally:
            await client.delete(PLACE)


BROKERS = {"rabbitmq": rabbitmq, "nats": jetstream, "redis": redis_stream}


@pytest.mark.parametrize("name", BROKERS)
async def test_what_was_rolled_back_comes_again_and_is_done_once(bills: sessionmaker[Session], name: str) -> None:
    needs(name)
    calls: list[int] = []

    async def bill(sold: dict[str, Any], session: Annotated[Session, handled_once(inbox, bills)]) -> None:
        calls.append(sold["number"])
        session.add(Bill(number=sold["number"]))
        if len(calls) == 1:
            raise RuntimeError("no paper")
        if len(calls) == 2:  # the commit fails
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    def billed() -> int:
        with bills() as session:
            return session.scalars(select(func.count(Bill.number.distinct()))).one()

    async with BROKERS[name](bill) as publish:
        for number in range(3):
            await publish({"number": number}, headers={"ce-id": str(uuid4()), "ce-source": "/shop"})
        async with asyncio.timeout(30):
            while await asyncio.to_thread(billed) < 3:  # noqa: ASYNC110 - it is the broker that sends
                await asyncio.sleep(0.02)
    with bills() as session:
        assert sorted(session.scalars(select(Bill.number))) == [0, 1, 2]
    assert len(calls) == 5
