"""Messages that a broker cannot be sent, or that have it close the connection: they are parked, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from sa_eventsource.publishing.event_loop import sending_loop
from sa_eventsource.publishing.messages import Message
from sa_eventsource.publishing.outcomes import Delayed, Outcome, Refused
from sa_eventsource.publishing.sender import Sender
from tests.publishing import brokers
from tests.publishing.buses import BUSES, RUN, Bus, Nats

NO_TEXT = "\udcff"


SUBJECTS = {"rabbitmq": "Till.shop.Sold", "nats": f"{RUN}.shop.Sold", "redis": "unused"}


def message(
    bus: Bus, till: str, *, body: bytes = b"{}", key: str = "k", subject: str = "", headers: Mapping[str, str] = {}
) -> Message:
    event_id = uuid4()
    attributes: dict[str, Any] = {"id": str(event_id), "source": "/x", "type": "x", "subject": till, "aggregateversion": "1"}
    attributes |= {"specversion": "1.0", "time": datetime(2026, 1, 2, 3, 4, 5, 6, UTC)}
    return Message(event_id, ("Till", till), {**attributes, "partitionkey": key}, body, subject or SUBJECTS[bus.name], key, headers)


async def sent(sender: Sender, messages: list[Message]) -> list[Outcome]:
    """Send them as a worker does: again, where they have to wait."""
    found: list[Outcome] = [Delayed("not sent")] * len(messages)
    async with asyncio.timeout(60):
        while left := [index for index, outcome in enumerate(found) if isinstance(outcome, Delayed)]:
            outcomes = await asyncio.to_thread(sending_loop.run, sender.send([messages[index] for index in left]))
            for index, outcome in zip(left, outcomes, strict=True):
                found[index] = outcome
            await asyncio.sleep(0.05)
    return found


ILL_FORMED: list[tuple[str, dict[str, Any]]] = [
    *((name, {"headers": {"x": NO_TEXT}}) for name in SUBJECTS),
    *((name, {"key": NO_TEXT}) for name in SUBJECTS),
    ("rabbitmq", {"subject": f"x.{NO_TEXT}"}),
    ("rabbitmq", {"subject": "x" * 256}),
    ("rabbitmq", {"headers": {"x": "y" * 200_000}}),
    ("nats", {"subject": f"{RUN}.{NO_TEXT}"}),
    ("nats", {"subject": f"{RUN}..x"}),
    ("nats", {"subject": f".{RUN}.x"}),
    ("nats", {"subject": f"{RUN}."}),
    ("nats", {"subject": f"{RUN}.*"}),
    ("nats", {"subject": f"{RUN}.>"}),
    ("nats", {"subject": f"{RUN}.{'x' * 5000}"}),
    ("nats", {"headers": {"x": "y" * 2**21}}),
    ("nats", {"body": b"x" * 2**19, "headers": {"x": "y" * 2**19}}),
    ("nats", {"body": b"x" * (2**20 - 1)}),
    ("redis", {"headers": {"x": "y" * 70_000}}),
    ("redis", {"key": "y" * 70_000}),
]


@pytest.mark.parametrize(("name", "what"), ILL_FORMED, ids=[f"{name}-{number}" for number, (name, _) in enumerate(ILL_FORMED)])
async def test_a_message_that_cannot_be_sent_is_refused_and_no_other(name: str, what: dict[str, Any]) -> None:
    brokers.needs(name)
    (bus,) = (each for each in BUSES if each.name == name)
    try:
        await check_refused(bus, what)
    finally:
        bus.publisher.close()


async def check_refused(bus: Bus, what: dict[str, Any]) -> None:
    async with bus.open():
        outcomes = await sent(
            bus.publisher.sender, [message(bus, "a"), message(bus, "b", **what), message(bus, "c"), message(bus, "d", **what)]
        )
        arrived = await bus.arrived()
    assert [isinstance(outcome, Refused) for outcome in outcomes] == [False, True, False, True]
    assert {till for till, _ in arrived} == {"a", "c"}


async def test_a_message_of_just_the_size_that_the_server_takes_arrives() -> None:
    bus = Nats()
    brokers.needs("nats")
    try:
        async with bus.open():
            empty = message(bus, "a", body=b"")
            assert await sent(bus.publisher.sender, [empty]) == [None]
            (taken,) = await bus.messages()
            headers = taken.headers or {}
            size = len("NATS/1.0\r\n\r\n") + sum(len(f"{name}: {value}\r\n") for name, value in headers.items())
            just, over = (message(bus, "a", body=b"x" * (2**20 - size + more)) for more in (0, 1))
            assert await sent(bus.publisher.sender, [just]) == [None]
            (outcome,) = await sent(bus.publisher.sender, [over])
            assert isinstance(outcome, Refused)
    finally:
        bus.publisher.close()
