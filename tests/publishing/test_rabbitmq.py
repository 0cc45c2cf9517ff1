"""Publishing to RabbitMQ: the real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from cloudevents.core.bindings import rabbitmq as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource import EventStore, ReadModelManager, event_context
from sa_eventsource.publishing.event_loop import sending_loop
from sa_eventsource.publishing.messages import Message
from sa_eventsource.publishing.outcomes import Refused
from tests.publishing import brokers
from tests.publishing.buses import RabbitMQ
from tests.publishing.shop import Base, Till, publish, sell
from tests.shop import TillClosed

queue = RabbitMQ()
publisher = queue.publisher
NAME = publisher.name


@pytest.fixture(autouse=True)
def rabbit() -> Iterator[None]:
    brokers.needs("rabbitmq")
    yield
    publisher.close()


async def test_an_event_arrives_as_a_cloud_event(shop: Engine) -> None:
    correlation, cause = uuid4(), uuid4()
    with event_context(correlation_id=correlation, causation_id=cause):
        sell(shop, "a", what="ink ü")
    async with queue.open():
        assert await asyncio.to_thread(publish, shop, NAME) == 1
        (message,) = await queue.messages()
    with Session(shop) as session:
        (recorded,) = EventStore(session, Base).events
    assert message.body == b'{"what":"ink \xc3\xbc","number":1}'
    assert (message.routing_key, message.content_type) == ("Till.shop.Sold", "application/json")
    assert (message.message_id, message.correlation_id) == (str(recorded.event_id), str(correlation))
    headers = {name: str(value) for name, value in message.headers.items()}
    event = binding.from_binary(binding.RabbitMQMessage(headers, message.content_type, message.body), JSONFormat(), CloudEvent)
    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": str(recorded.event_id),
        "source": f"/{NAME}",
        "type": "shop.Sold",
        "subject": "a",
        "time": recorded.occurred_at,
        "datacontenttype": "application/json",
        "dataschema": "urn:jsonschema:shop.Sold:1",
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
        session.get_one(Till, "a").apply_event(TillClosed())
        session.commit()
    sell(shop, "a", "b")
    async with queue.open():
        await asyncio.to_thread(publish, shop, NAME)
        assert sorted(await queue.arrived()) == [("a", 1), ("b", 1), ("b", 2)]
    assert ReadModelManager(shop, Base).problems() == [f"{NAME} has parked 2 events"]


async def test_where_the_exchange_is_missing_the_publisher_waits(shop: Engine) -> None:
    sell(shop, "a")
    assert await asyncio.to_thread(publish, shop, NAME) == 0
    async with queue.open():
        assert await asyncio.to_thread(publish, shop, NAME) == 1
        assert await queue.arrived() == [("a", 1)]


@pytest.mark.slow
async def test_a_message_that_is_too_large_for_the_broker_is_refused_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def message(till: str, size: int, subject: str = "Till.shop.Sold") -> Message:
        event_id = uuid4()
        attributes = {"id": str(event_id), "source": "/x", "type": "x", "subject": till, "aggregateversion": "1"}
        return Message(event_id, ("Till", till), attributes, b"x" * size, subject, till, {})

    sender = publisher.sender
    monkeypatch.setattr(sender, "timeout", 60.0)  # it has to go over the socket first
    messages = [message("a", 1), message("b", 128 * 2**20 + 1), message("c", 1), message("d", 1, "x" * 256)]
    async with queue.open():
        before = await asyncio.to_thread(sending_loop.run, sender.send([message("z", 1)]))
        outcomes = await asyncio.to_thread(sending_loop.run, sender.send(messages))
        arrived = await queue.arrived()
    assert (before, outcomes[0], outcomes[2]) == ([None], None, None)
    assert [isinstance(outcome, Refused) for outcome in outcomes] == [False, True, False, True]
    assert sorted(arrived) == [("a", 1), ("c", 1), ("z", 1)]
