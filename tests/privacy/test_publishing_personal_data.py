"""Publishers publish placeholders, unless they say that personal data goes out in clear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import pytest
from faststream.kafka import KafkaBroker
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateRoot,
    DeclarationError,
    DomainEvent,
    EventSourceOptions,
    Personal,
    Publisher,
    RecordedEvent,
    applies,
    forget,
)
from sa_eventsource.consumers import Delivery, followers_of
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import take_step
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Named(DomainEvent):
    __event_type__ = "publishing_personal_data.Named"

    name: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]


class Person(AggregateRoot, Base):
    __aggregate_type__ = "publishing_personal_data.Person"

    @applies(Named)
    def _named(self, event: Named) -> None: ...


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for name in ("Ann", "Bob"):
            person = Person(id=name[0])
            person.apply_event(Named(name=name))
            session.add(person)
        session.commit()
        yield session


@pytest.mark.parametrize(("given", "published"), [("masked", ["(forgotten)"] * 2), ("clear", ["(forgotten)", "Bob"])])
def test_what_is_published(session: Session, given: Literal["masked", "clear"], published: list[str]) -> None:
    forget(session, "A", reason="asked", base=Base)
    session.commit()
    publisher = Publisher(f"privacy-{given}", Named, broker=KafkaBroker(), base=Base, personal_data=given)
    bodies: list[bytes] = []

    def deliver(events: Sequence[RecordedEvent[Any]], tenant: str | None) -> Delivery:
        bodies.extend(publisher.message(each, tenant).body for each in events)
        return Delivery(frozenset(each.event_id for each in events))

    publisher.deliver = deliver  # type: ignore[method-assign]
    relay = publisher.on_log(tables_on(Base.metadata), Person)
    (follower,) = followers_of(relay, session.get_bind().dialect)
    take_step(session, follower, None)
    assert bodies == [f'{{"name":"{each}"}}'.encode() for each in published]


def test_another_word_is_refused() -> None:
    with pytest.raises(DeclarationError, match='must be "clear" or "masked"'):
        Publisher("privacy-open", Named, broker=KafkaBroker(), base=Base, personal_data="open")  # type: ignore[arg-type]
