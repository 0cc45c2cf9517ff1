"""A publisher publishes the events of all tenants: each message says whose it is, and what one has confirmed is its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from faststream.kafka import KafkaBroker
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import EventSourceOptions, Publisher, Worker
from sa_eventsource.publishing.messages import Message
from sa_eventsource.publishing.outcomes import Delayed, Outcome
from sa_eventsource.publishing.sender import Sender
from tests.clinic import AnyPatient, Discharged
from tests.database_roles import PLAIN_ROLES, engine_as, for_tenant, grant_with_tables, session_of
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    """A base of its own: workers of the others have no broker to publish to."""

    __eventsource__ = EventSourceOptions(tenants=True, roles=PLAIN_ROLES, master_keys=MASTER_KEYS)


class Patient(AnyPatient, Base):
    __aggregate_type__ = "publishing_tenants.Patient"


grant_with_tables(Base)

NAME = "shared.publisher"
publisher = Publisher(NAME, Discharged, broker=KafkaBroker(), base=Base)
"""Its sender is replaced by the tests."""


of_tenant = Publisher(
    "shared.of_tenant",
    Discharged,
    broker=KafkaBroker(),
    base=Base,
    subject=lambda event, tenant: f"{tenant}.patients.{event.aggregate_id}",
    key=lambda event, *, tenant: f"{tenant}:{event.aggregate_id}",
    headers=lambda _event, tenant=None: {"whose": str(tenant)},
)
of_event = Publisher(
    "shared.of_event",
    Discharged,
    broker=KafkaBroker(),
    base=Base,
    subject=lambda event: event.aggregate_id,
    key="patient {0.aggregate_id}".format,
    headers=lambda event, other="x": {"version": event.version, "other": other},
)


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


def discharge(engine: Engine, patient_id: str) -> None:
    """Have each of two tenants discharge a patient of this id."""
    for tenant in ("alpha", "beta"):
        with session_of(engine, tenant) as session:
            patient = Patient(id=patient_id)
            patient.apply_event(Discharged())
            session.add(patient)
            session.commit()


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def app(owner: Engine) -> Iterator[Engine]:
    engine = engine_as(owner, PLAIN_ROLES.app)
    discharge(engine, "1")
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
    discharge(app, "2")
    broker.delays = ("1",)
    working = Worker(worker, Base, only=[NAME])
    working.run_once()
    assert sorted(broker.sent, key=str) == [("alpha", "2"), ("beta", "2")]
    broker.delays = ()
    working.run_once()
    assert Counter(broker.sent) == Counter((tenant, patient) for tenant in ("alpha", "beta") for patient in ("1", "2"))


def test_functions_of_events_may_ask_whose_they_are(worker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that do not ask are called as usual."""
    sent: dict[str, list[Message]] = {}
    for each in (publisher, of_tenant, of_event):
        monkeypatch.setattr(each, "sender", _Keeping(sent.setdefault(each.name, [])))
    Worker(worker, Base).run_once()
    asked = {(each.subject, each.key, each.headers["whose"]) for each in sent["shared.of_tenant"]}
    assert asked == {(f"{tenant}.patients.1", f"{tenant}:1", tenant) for tenant in ("alpha", "beta")}
    unasked = [(each.subject, each.key, dict(each.headers)) for each in sent["shared.of_event"]]
    assert unasked == [("1", "patient 1", {"version": "1", "other": "x"})] * 2


class _Keeping(NotedSender):
    def __init__(self, messages: list[Message]) -> None:
        super().__init__()
        self._messages = messages

    def _answer(self, message: Message) -> Outcome:
        self._messages.append(message)
        return None
