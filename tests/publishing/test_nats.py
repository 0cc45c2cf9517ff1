"""What NATS JetStream refuses, and what it drops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import nats
import pytest
from cloudevents.core.bindings import http as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from faststream.nats import NatsBroker
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource import EventReplayer, Publisher, ReadModelManager, RecordedEvent, Worker
from sa_eventsource.publishing.event_loop import sending_loop
from tests.publishing import brokers
from tests.publishing.buses import RUN, Nats
from tests.publishing.shop import Base, Till, publish, sell
from tests.shop import Sold, TillClosed

bus = Nats()
publisher = bus.publisher
NAME = publisher.name
SERVER = f"nats://{brokers.HOST}:{brokers.PORTS['nats']}"


def declared(name: str, channel: str | None = None) -> Publisher:
    def subject(recorded: RecordedEvent[Any]) -> str:
        return f"{RUN}.{recorded.event_type}"

    return Publisher(name, Sold, broker=NatsBroker(SERVER, logger=None), channel=channel, subject=subject, base=Base, timeout=5.0)


beside = declared("publishing.nats.beside")
named = declared("publishing.nats.named", channel=f"sa_eventsource_named_{RUN}")


@pytest.fixture(autouse=True)
def nats_server() -> Iterator[None]:
    brokers.needs("nats")
    yield
    for opened in (publisher, beside, named):
        opened.close()


async def test_an_event_arrives_as_a_cloud_event(shop: Engine) -> None:
    sell(shop, "ü", what="ink")
    async with bus.open():
        await asyncio.to_thread(publish, shop, NAME)
        (message,) = await bus.messages()
    assert message.subject == f"{RUN}.shop.Sold"
    event = binding.from_binary(binding.HTTPMessage(dict(message.headers or {}), message.data), JSONFormat(), CloudEvent)
    assert (event.get_type(), event.get_subject(), event.get_datacontenttype()) == ("shop.Sold", "ü", "application/json")
    assert event.get_data() == {"number": 1, "what": "ink"}


async def test_a_message_without_a_stream_is_parked_and_other_streams_go_on(shop: Engine) -> None:
    sell(shop, "a", "b")
    with Session(shop) as session:
        session.get_one(Till, "a").apply_event(TillClosed())
        session.commit()
    sell(shop, "a", "b")
    async with bus.open():
        await asyncio.to_thread(publish, shop, NAME)
        assert sorted(await bus.arrived()) == [("a", 1), ("b", 1), ("b", 2)]
    assert ReadModelManager(shop, Base).problems() == [f"{NAME} has parked 2 events"]


async def test_a_message_that_is_too_large_is_parked_and_other_streams_go_on(shop: Engine) -> None:
    sell(shop, "a", what="x" * 2**21)
    sell(shop, "a", "b")
    async with bus.open():
        await asyncio.to_thread(publish, shop, NAME)
        assert await bus.arrived() == [("b", 1)]
    assert ReadModelManager(shop, Base).problems() == [f"{NAME} has parked 2 events"]


async def test_what_is_sent_again_is_dropped(shop: Engine) -> None:
    sell(shop, "a", "b", times=3)
    worker = Worker(shop, Base, only=[NAME])
    async with bus.open():
        assert await asyncio.to_thread(worker.run_once) == 6
        EventReplayer(shop, Base).rewind(NAME, to="beginning")
        assert await asyncio.to_thread(worker.run_once) == 6
        assert len(await bus.arrived()) == 6


async def test_two_publishers_of_one_event_are_both_heard(shop: Engine) -> None:
    sell(shop, "a")
    async with bus.open():
        assert await asyncio.to_thread(publish, shop, NAME) == 1
        assert await asyncio.to_thread(publish, shop, beside.name) == 1
        assert await bus.arrived() == [("a", 1), ("a", 1)]


async def test_a_publisher_waits_for_the_stream_that_it_names(shop: Engine) -> None:
    sell(shop, "a", "b")
    async with bus.open():  # another stream has the subject
        assert await asyncio.to_thread(publish, shop, named.name) == 0
    assert await asyncio.to_thread(publish, shop, named.name) == 0
    (problem,) = ReadModelManager(shop, Base).problems()
    assert problem.startswith(f"{named.name} is waiting:")
    assert problem.endswith(f"the stream {named.channel} is not there")
    client = await nats.connect(SERVER)
    try:
        await client.jetstream().add_stream(name=named.channel, subjects=[f"{RUN}.shop.Sold"])
        assert await asyncio.to_thread(publish, shop, named.name) == 2
    finally:
        await client.jetstream().delete_stream(str(named.channel))
        await client.close()


async def test_a_subject_of_another_stream_than_the_one_named_is_refused(shop: Engine) -> None:
    sell(shop, "a")
    client = await nats.connect(SERVER)
    async with bus.open():
        try:
            await client.jetstream().add_stream(name=named.channel, subjects=[f"{RUN}.nothing"])
            await asyncio.to_thread(publish, shop, named.name)
        finally:
            await client.jetstream().delete_stream(str(named.channel))
            await client.close()
    assert ReadModelManager(shop, Base).problems() == [f"{named.name} has parked 1 event"]


async def test_a_client_that_has_given_up_is_replaced(shop: Engine) -> None:
    async with bus.open():
        sell(shop, "a")
        await asyncio.to_thread(publish, shop, NAME)
        client = await publisher.broker.connect()
        await asyncio.to_thread(sending_loop.run, client.close())
        sell(shop, "a")
        assert await asyncio.to_thread(publish, shop, NAME) == 0
        assert await asyncio.to_thread(publish, shop, NAME) == 1
        assert await bus.arrived() == [("a", 1), ("a", 2)]
