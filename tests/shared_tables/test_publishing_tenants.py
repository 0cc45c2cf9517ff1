"""A publisher publishes the events of all tenants: each message says whose it is, and what one has confirmed is its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from faststream.kafka import KafkaBroker
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, Publisher, Worker, create_roles
from sa_eventsource.publishing.messages import Message
from sa_eventsource.publishing.outcomes import Delayed, Outcome
from sa_eventsource.publishing.sender import Sender
from tests.roles.clinic import drop_roles
from tests.shared_tables.hotel import OWN, ROLES, engine_as, for_tenant, session_of


class Base(DeclarativeBase):
    """A base of its own: workers of the others have no broker to publish to."""

    __eventsource__ = EventSourceOptions(tenants=True, roles=ROLES)


class Rung(DomainEvent):
    __event_type__ = "shared.Rung"


class Bell(AggregateRoot[str], Base):
    __aggregate_type__ = "shared.Bell"
    __ignored_events__ = (Rung,)


NAME = "shared.publisher"
publisher = Publisher(NAME, Rung, broker=KafkaBroker(), base=Base)
"""Its sender is replaced by the tests."""


class NotedSender(Sender):
    """A broker that takes all but what belongs to some streams, and notes whose it was."""

    def __init__(self) -> None:
        super().__init__(object(), None, 10.0)
        self.sent: list[tuple[str | None, str]] = []
        self.delays: tuple[str, ...] = ()

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        return [self._answer(each) for each in messages]

    def _answer(self, message: Message) -> Outcome:
        if message.stream[1] in self.delays:
            return Delayed("the broker is away")
        self.sent.append((message.as_headers().get("ce-tenantid"), message.stream[1]))
        return None

    async def send_through(self, connection: Any, messages: Sequence[Message]) -> Sequence[Outcome]:
        raise NotImplementedError

    def publish(self, message: Message) -> Any:
        raise NotImplementedError

    def describe(self, subject: str, **described: Any) -> None:
        raise NotImplementedError

    async def check(self, connection: Any) -> None:
        raise NotImplementedError

    async def close(self) -> None: ...


def ring(engine: Engine, bell_id: str) -> None:
    """Have each of two tenants ring a bell of this id."""
    for tenant in ("alpha", "beta"):
        with session_of(engine, tenant) as session:
            bell = Bell(id=bell_id)
            bell.apply_event(Rung())
            session.add(bell)
            session.commit()


@pytest.fixture
def owner(postgres_engine: Engine) -> Iterator[Engine]:
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
        for name in ROLES.names():
            connection.exec_driver_sql(f"ALTER ROLE {name} LOGIN PASSWORD '{OWN}'")
    yield postgres_engine
    drop_roles(postgres_engine, *ROLES.names())


@pytest.fixture
def app(owner: Engine) -> Iterator[Engine]:
    engine = engine_as(owner, ROLES.app)
    ring(engine, "1")
    yield engine
    engine.dispose()


@pytest.fixture
def broker() -> Iterator[NotedSender]:
    before, noted = publisher.sender, NotedSender()
    publisher.sender = noted
    yield noted
    publisher.sender = before


def test_a_message_says_whose_it_is(worker: Engine, broker: NotedSender) -> None:
    Worker(worker, Base, only=[NAME]).run_once()
    assert sorted(broker.sent, key=str) == [("alpha", "1"), ("beta", "1")]


def test_it_does_so_where_a_worker_works_for_one_tenant(worker: Engine, broker: NotedSender) -> None:
    Worker(for_tenant(worker, "beta"), Base, only=[NAME]).run_once()
    assert broker.sent == [("beta", "1")]


def test_what_is_confirmed_behind_a_delayed_message_is_not_sent_again(app: Engine, worker: Engine, broker: NotedSender) -> None:
    ring(app, "2")
    broker.delays = ("1",)
    working = Worker(worker, Base, only=[NAME])
    working.run_once()
    assert sorted(broker.sent, key=str) == [("alpha", "2"), ("beta", "2")]
    broker.delays = ()
    working.run_once()
    assert Counter(broker.sent) == Counter((tenant, bell) for tenant in ("alpha", "beta") for bell in ("1", "2"))
