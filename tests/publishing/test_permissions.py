"""A broker that has no permission for one routing key, subject or stream: what goes there is parked, and the rest goes on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aio_pika
import nats
import pytest
import redis
from faststream.nats import NatsBroker
from faststream.rabbit import RabbitBroker
from faststream.redis import RedisBroker
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource import Publisher, ReadModelManager
from tests import processes
from tests.publishing import brokers
from tests.publishing.buses import RUN
from tests.publishing.shop import Base, Till, publish, sell
from tests.shop import Sold, TillClosed
from tests.waiting import wait_until

USER = f"sa_eventsource_monkey_{RUN}"

rabbitmq = Publisher(
    "publishing.permitted.rabbitmq",
    Sold,
    TillClosed,
    broker=RabbitBroker(f"amqp://{USER}:secret@{brokers.HOST}:{brokers.PORTS['rabbitmq']}/", logger=None),
    channel=USER,
    base=Base,
)
streams = Publisher(
    "publishing.permitted.redis",
    Sold,
    TillClosed,
    broker=RedisBroker(f"redis://{USER}:secret@{brokers.HOST}:{brokers.PORTS['redis']}"),
    base=Base,
)
stream = Publisher(
    "publishing.permitted.redis.stream",
    Sold,
    broker=RedisBroker(f"redis://{USER}:secret@{brokers.HOST}:{brokers.PORTS['redis']}"),
    channel=f"{USER}.all",
    base=Base,
)
jetstream = Publisher(
    "publishing.permitted.nats", Sold, TillClosed, broker=NatsBroker("nats://127.0.0.1:1", logger=None), base=Base
)


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    for each in (rabbitmq, streams, stream, jetstream):
        each.close()


def program(name: str) -> str:
    """Find a program of a broker's; skip the test where there is none, and fail where it should be there."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"there is no {name}, and CI is set")
        pytest.skip(f"there is no {name}")
    return found


def close(engine: Engine, till: str) -> None:
    with Session(engine) as session:
        session.get_one(Till, till).apply_event(TillClosed())
        session.commit()


def sell_and_close(engine: Engine) -> None:
    """What may be published, what may not and has one behind it, and another stream's."""
    sell(engine, "a", "b")
    close(engine, "a")
    sell(engine, "a", "b")


def problems(engine: Engine, publisher: Publisher) -> list[str]:
    return [each for each in ReadModelManager(engine, Base).problems() if each.startswith(f"{publisher.name} ")]


@contextmanager
def rabbitmq_user(*, exchange: str, topics: str) -> Iterator[None]:
    """Make a user of RabbitMQ's that may write to some exchanges, and to some topics of the test's."""
    control = program("rabbitmqctl")

    def run(*arguments: str) -> None:
        done = subprocess.run([control, "--quiet", *arguments], capture_output=True, text=True, check=False, timeout=300)
        if done.returncode and not os.environ.get("CI"):
            pytest.skip(f"rabbitmqctl may not be used here: {done.stderr[-200:]}")
        assert not done.returncode, done.stderr

    run("add_user", USER, "secret")
    try:
        run("set_permissions", USER, "^$", exchange, ".*")
        run("set_topic_permissions", USER, USER, topics, ".*")
        yield
    finally:
        run("delete_user", USER)


async def declare() -> Any:
    connection = await aio_pika.connect(f"amqp://guest:guest@{brokers.HOST}:{brokers.PORTS['rabbitmq']}/")
    channel = await connection.channel()
    exchange = await channel.declare_exchange(USER, aio_pika.ExchangeType.TOPIC, auto_delete=True)
    queue = await channel.declare_queue(USER, exclusive=True)
    await queue.bind(exchange, "#")
    return connection, queue


@pytest.mark.slow  # each call of rabbitmqctl starts a virtual machine
async def test_a_routing_key_that_rabbitmq_refuses_is_parked(shop: Engine) -> None:
    brokers.needs("rabbitmq")
    sell_and_close(shop)
    with rabbitmq_user(exchange=".*", topics=r"^Till\.shop\.Sold$"):
        connection, queue = await declare()
        assert await asyncio.to_thread(publish, shop, rabbitmq.name) >= 3
        assert queue.declaration_result.message_count == 0
        arrived = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            arrived.append((message.headers["ce-subject"], message.headers["ce-aggregateversion"]))
        await connection.close()
    assert sorted(arrived) == [("a", "1"), ("b", "1"), ("b", "2")]
    assert problems(shop, rabbitmq) == [f"{rabbitmq.name} has parked 2 events"]


@pytest.mark.slow
async def test_where_rabbitmq_refuses_the_exchange_the_publisher_waits(shop: Engine) -> None:
    brokers.needs("rabbitmq")
    sell(shop, "a")
    with rabbitmq_user(exchange="^nothing$", topics=".*"):
        connection, _ = await declare()
        assert await asyncio.to_thread(publish, shop, rabbitmq.name) == 0
        await connection.close()
    (problem,) = problems(shop, rabbitmq)
    assert "is waiting" in problem
    assert "ACCESS_REFUSED" in problem


@contextmanager
def redis_user(*rights: str) -> Iterator[redis.Redis]:
    """Make a user of Redis's."""
    brokers.needs("redis")
    with redis.Redis(host=brokers.HOST, port=brokers.PORTS["redis"], decode_responses=True) as client:
        client.execute_command("ACL", "SETUSER", USER, "on", ">secret", *rights)
        try:
            yield client
        finally:
            client.execute_command("ACL", "DELUSER", USER)
            client.delete("Till.shop.Sold", f"{USER}.all")


def test_a_stream_that_redis_refuses_is_parked(shop: Engine) -> None:
    sell_and_close(shop)
    with redis_user("~Till.shop.Sold", "+@all") as client:
        before = client.xlen("Till.shop.Sold")
        assert publish(shop, streams.name) >= 3
        assert client.xlen("Till.shop.Sold") == before + 3
    assert problems(shop, streams) == [f"{streams.name} has parked 2 events"]


@pytest.mark.parametrize("rights", [("~nothing", "+@all"), ("~*", "+@all", "-xadd")], ids=["the only stream", "the command"])
def test_where_redis_refuses_all_the_publisher_waits(rights: tuple[str, ...], shop: Engine) -> None:
    sell(shop, "a")
    with redis_user(*rights):
        assert publish(shop, stream.name) == 0
        (problem,) = problems(shop, stream)
        assert "is waiting" in problem
        assert "NoPermissionError" in problem


def address_in(folder: Path) -> str:
    """Read where a server of NATS's listens, once it has written that into a folder."""
    wait_until(lambda: any(each.read_text() for each in folder.glob("*.ports")), "it does not listen")
    (ports,) = folder.glob("*.ports")
    address: str = json.loads(ports.read_text())["nats"][0]
    return address.removeprefix("nats://")


async def test_a_subject_that_nats_refuses_is_parked_at_once(shop: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "nats.conf"
    configuration.write_text(
        f"""
        listen: "127.0.0.1:-1"
        jetstream {{ store_dir: "{tmp_path}" }}
        authorization {{ users: [
            {{ user: all, password: secret }},
            {{ user: some, password: secret, permissions: {{ publish: ["Till.shop.Sold", "$JS.API.>"] }} }},
        ] }}
        """
    )
    process = processes.start([program("nats-server"), "-c", str(configuration), "--ports_file_dir", str(tmp_path)])
    server = await asyncio.to_thread(address_in, tmp_path)
    client = await nats.connect(f"nats://all:secret@{server}")
    await client.jetstream().add_stream(name="tills", subjects=["Till.>"])
    monkeypatch.setattr(jetstream.sender, "broker", NatsBroker(f"nats://some:secret@{server}", logger=None))
    monkeypatch.setattr(jetstream.sender, "timeout", 600.0)
    sell_and_close(shop)
    assert await asyncio.to_thread(publish, shop, jetstream.name) >= 3
    assert (await client.jetstream().stream_info("tills")).state.messages == 3
    assert problems(shop, jetstream) == [f"{jetstream.name} has parked 2 events"]
    jetstream.close()
    await client.close()
    processes.end(process)
