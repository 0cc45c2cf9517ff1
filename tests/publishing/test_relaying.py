"""What a publisher makes of a broker's answers: what is confirmed, refused, delayed, and in which order it is sent."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import Session

from sa_eventsource import (
    AsyncWorker,
    DeclarationError,
    DeliveryDelayedError,
    MessageRefusedError,
    Publisher,
    ReadModelManager,
    Worker,
)
from sa_eventsource.consumers import consumers_on
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import EventReplayer, parked_streams, retry_stream
from sa_eventsource.publishing.messages import Message
from tests.publishing.scripted_sender import ScriptedSender
from tests.publishing.shop import Base, Till, publish, publisher, sell, sharded
from tests.shop import Sold
from tests.waiting import wait_until

pytestmark = pytest.mark.slow_on_sqlite

NAME = "publishing.seam"


@pytest.fixture
def shop(engine: Engine) -> Engine:
    return engine


def version(message: Message) -> int:
    return int(message.attributes["aggregateversion"])


def of(till: str, *versions: int) -> Callable[[Message], bool]:
    return lambda message: message.stream[1] == till and version(message) in versions


def parked(engine: Engine) -> list[tuple[str, int]]:
    (consumer,) = [each for each in consumers_on(tables_on(Base.metadata)) if each.name == NAME]
    with Session(engine) as session:
        return [(stream.aggregate_id, stream.events) for stream in parked_streams(session, consumer)]


def problems(engine: Engine) -> list[str]:
    return [each for each in ReadModelManager(engine, Base).problems() if each.startswith(NAME)]


def test_each_event_is_sent_once_and_each_stream_in_order(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, "a", "b", "c", times=40)
    assert publish(shop, NAME) == 120
    assert Counter(broker.sent) == Counter((till, number) for till in "abc" for number in range(1, 41))
    for till in "abc":
        assert [number for name, number in broker.sent if name == till] == list(range(1, 41))
    assert publish(shop, NAME) == 0


def test_messages_of_several_streams_are_in_flight_together(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, *(f"t-{number}" for number in range(20)), times=2)
    publish(shop, NAME)
    assert max(broker.together) == 20
    assert sum(broker.together) == 40


def test_a_refused_message_stops_its_stream_and_no_other(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, "a", "b", times=5)
    broker.refuses = of("a", 3)
    publish(shop, NAME)
    assert [number for name, number in broker.sent if name == "a"] == [1, 2]
    assert [number for name, number in broker.sent if name == "b"] == [1, 2, 3, 4, 5]
    assert parked(shop) == [("a", 3)]
    sell(shop, "a", "b")
    publish(shop, NAME)
    assert parked(shop) == [("a", 4)]
    assert len(broker.sent) == 8
    assert problems(shop) == [f"{NAME} has parked 4 events"]


def test_what_was_parked_is_sent_in_order_once_the_broker_takes_it(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, "a", "b", times=5)
    broker.refuses = of("a", 2)
    publish(shop, NAME)
    broker.refuses = of("a", 4)
    (consumer,) = [each for each in consumers_on(tables_on(Base.metadata)) if each.name == NAME]
    with Session(shop) as session:
        (stream,) = parked_streams(session, consumer)
        assert "the broker refuses it under the subject 'Till.shop.Sold': no queue is bound for it" in str(stream.error)
        with pytest.raises(MessageRefusedError, match="version 4") as caught:
            retry_stream(session, consumer, stream)
        assert (caught.value.subscription, caught.value.subject) == (NAME, "Till.shop.Sold")
        # What was confirmed is parked no longer, and is not sent again.
        (stream,) = parked_streams(session, consumer)
        assert (stream.events, "version 4" in str(stream.error), stream.attempts) == (2, True, None)
        broker.refuses = lambda _: False
        assert retry_stream(session, consumer, stream) == 2
    sell(shop, "a")
    publish(shop, NAME)
    assert [number for name, number in broker.sent if name == "a"] == [1, 2, 3, 4, 5, 6]
    assert parked(shop) == []


def test_a_broker_that_is_away_only_delays(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, "a", "b", times=3)
    broker.delays = lambda _: True
    with Worker(shop, Base, only=[NAME]):
        wait_until(lambda: problems(shop), "the status says nothing")
        (said,) = problems(shop)
        assert "waits" in said
        assert "the broker is away" in said
        broker.delays = lambda _: False
        wait_until(lambda: len(broker.sent) == 6, "nothing is sent")
        wait_until(lambda: not problems(shop), "the status does not mend")
    assert parked(shop) == []


def test_what_is_confirmed_behind_a_delayed_message_is_not_sent_again(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, "a", "b", "c", times=4)
    broker.delays = of("b", 1, 3)
    worker = Worker(shop, Base, only=[NAME])
    assert worker.run_once() == 1  # the first of a: it lies before
    assert {("a", 1), ("c", 1)} <= set(broker.sent)
    assert "b" not in {till for till, _ in broker.sent}
    broker.delays = of("b", 3)
    worker.run_once()
    broker.delays = lambda _: False
    worker.run_once()
    assert Counter(broker.sent) == Counter((till, number) for till in "abc" for number in range(1, 5))
    for till in "abc":
        assert [number for name, number in broker.sent if name == till] == [1, 2, 3, 4]


def test_what_is_confirmed_is_not_sent_again_where_the_commit_fails(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, "a", "b", times=3)
    fails = [True]

    @event.listens_for(shop, "commit")
    def fail(_connection: object) -> None:
        if broker.sent and fails:
            fails.clear()
            raise DeliveryDelayedError(NAME, "the commit fails")

    worker = Worker(shop, Base, only=[NAME])
    worker.run_once()
    assert len(broker.sent) == 6
    assert worker.run_once() == 6
    assert len(broker.sent) == 6
    event.remove(shop, "commit", fail)


def test_a_publisher_that_is_sent_back_publishes_again(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, "a", times=3)
    worker = Worker(shop, Base, only=[NAME])
    worker.run_once()
    EventReplayer(shop, Base).rewind(NAME, to="beginning")
    assert worker.run_once() == 3
    assert broker.sent == [("a", 1), ("a", 2), ("a", 3)] * 2


def test_nothing_is_published_of_what_was_rolled_back(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, "a")
    with Session(shop) as session:
        till = session.get_one(Till, "a")
        till.apply_event(Sold(number=2))
        session.flush()
        session.rollback()
    assert publish(shop, NAME) == 1
    assert broker.sent == [("a", 1)]


def test_an_event_that_no_message_can_be_made_of_is_parked(shop: Engine, broker: ScriptedSender) -> None:
    sell(shop, "a", "b", times=3)
    publisher._headers = lambda recorded, _tenant: {"x": str(1 // (3 - recorded.version if recorded.aggregate_id == "a" else 1))}
    try:
        publish(shop, NAME)
    finally:
        publisher._headers = None
    assert parked(shop) == [("a", 1)]
    assert Counter(broker.sent) == Counter([("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)])


async def test_an_asynchronous_worker_publishes_and_its_loop_goes_on_meanwhile(
    async_engine: AsyncEngine, broker: ScriptedSender
) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    loop_ran = threading.Event()

    async with async_sessionmaker(async_engine)() as session:
        till = Till(id="a")
        till.apply_event(Sold(number=1))
        session.add(till)
        await session.commit()

    loop = asyncio.get_running_loop()

    def delays(_: Message) -> bool:
        loop.call_soon_threadsafe(loop_ran.set)
        return not loop_ran.wait(10)

    broker.delays = delays
    async with AsyncWorker(async_sessionmaker(async_engine), Base, only=[NAME]):
        async with asyncio.timeout(20):
            while not broker.sent:  # noqa: ASYNC110 - it is another loop that sends
                await asyncio.sleep(0.005)
    assert broker.sent == [("a", 1)]


def test_shards_share_the_streams_out(postgres_engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    tills = [f"t-{number}" for number in range(30)]
    sell(postgres_engine, *tills, times=5)
    before, sharded.sender = sharded.sender, (broker := ScriptedSender())
    try:
        with Worker(postgres_engine, Base, only=[sharded.name]), Worker(postgres_engine, Base, only=[sharded.name]):
            wait_until(lambda: len(broker.sent) == 150, "not all are sent")
            manager = ReadModelManager(postgres_engine, Base)
            wait_until(lambda: [each.lag_events for each in manager.status() if each.name == sharded.name] == [0], "it lags")
        for till in tills:
            assert [number for name, number in broker.sent if name == till] == [1, 2, 3, 4, 5]
        with postgres_engine.connect() as connection:
            names = set(connection.scalars(select(tables_on(Base.metadata).projection_positions.c.projection_name)))
        assert {f"{sharded.name}#{number}/3" for number in (1, 2, 3)} <= names
        # With another number, it does not start over.
        sharded._shards = 2
        worker = Worker(postgres_engine, Base, only=[sharded.name])
        assert worker.run_once() == 0
        assert "has begun with another number of shards (publishing.sharded#1/3" in caplog.text
        assert len(broker.sent) == 150
    finally:
        sharded.sender, sharded._shards = before, 3


def test_declarations_that_make_no_sense_are_refused() -> None:
    broker: Any = publisher.broker
    with pytest.raises(DeclarationError, match="takes a name and event classes"):
        Publisher("publishing.none", broker=broker)
    with pytest.raises(DeclarationError, match="batch_size is 0"):
        Publisher("publishing.none", Sold, broker=broker, batch_size=0)
    with pytest.raises(DeclarationError, match="timeout is 0"):
        Publisher("publishing.none", Sold, broker=broker, timeout=0)
    with pytest.raises(TypeError, match="takes a broker of FastStream, such as RabbitBroker"):
        Publisher("publishing.none", Sold, broker="amqp://")
    with pytest.raises(DeclarationError, match="declared twice"):
        Publisher(NAME, Sold, broker=broker)
    with pytest.raises(DeclarationError, match=f"has the broker object of publisher '{NAME}'.* broker=RabbitBroker"):
        Publisher("publishing.none", Sold, broker=broker)
    assert not [each for each in consumers_on(tables_on(Base.metadata)) if each.name == "publishing.none"]
