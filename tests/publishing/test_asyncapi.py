"""The AsyncAPI document of what is published."""

from __future__ import annotations

import json
import sys

import pytest
from faststream.kafka import KafkaBroker
from faststream.nats import NatsBroker
from faststream.rabbit import RabbitBroker
from faststream.redis import RedisBroker

from sa_eventsource import DeclarationError, DomainEvent, Publisher
from tests import processes
from tests.publishing.shop import Base
from tests.shop import Sold, TillClosed

rabbitmq = Publisher(
    "asyncapi.rabbitmq", Sold, TillClosed, broker=RabbitBroker("amqp://user:secret@bus/"), channel="shop", base=Base
)
nats = Publisher("asyncapi.nats", Sold, broker=NatsBroker("nats://bus"), subject="sales", base=Base)
redis = Publisher("asyncapi.redis", Sold, broker=RedisBroker("redis://bus"), channel="sales", base=Base)
kafka = Publisher("asyncapi.kafka", Sold, broker=KafkaBroker("bus"), channel="sales", base=Base)


def test_the_document_has_each_event_with_its_schema() -> None:
    document = json.loads(rabbitmq.asyncapi(title="Shop", version="2.0.0"))
    assert document["info"] == {"title": "Shop", "version": "2.0.0"}
    assert {each["address"] for each in document["channels"].values()} == {"Till.shop.Sold", "Till.shop.TillClosed"}
    assert {each["action"] for each in document["operations"].values()} == {"send"}
    assert document["components"]["schemas"]["Sold"] == Sold.model_json_schema()
    assert "secret" not in json.dumps(document)


@pytest.mark.parametrize("publisher", [nats, redis, kafka], ids=["nats", "redis", "kafka"])
def test_each_broker_has_its_address(publisher: Publisher) -> None:
    document = json.loads(publisher.asyncapi())
    (channel,) = document["channels"].values()
    assert channel["address"] == "sales"
    assert document["components"]["schemas"]["Sold"] == Sold.model_json_schema()


def test_the_command_prints_it() -> None:
    command = [sys.executable, "-m", "sa_eventsource.cli", "publish", "tests.publishing.test_asyncapi:nats", "--asyncapi"]
    finished = processes.finish(command)
    assert json.loads(finished.stdout)["info"]["title"] == "asyncapi.nats"


class Unheard(DomainEvent):
    """An event of no base: a publisher without one would publish ``Sold`` of all bases from here on."""

    __event_type__ = "asyncapi.Unheard"


def test_without_a_base_there_is_no_document() -> None:
    publisher = Publisher("asyncapi.none", Unheard, broker=NatsBroker("nats://bus"))
    with pytest.raises(DeclarationError, match="declare it with base=Base"):
        publisher.asyncapi()
