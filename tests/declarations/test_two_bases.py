"""An application with several declarative bases: what looks after one of them leaves the tables of the others alone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    ReadModelManager,
    RecordedEvent,
    Worker,
    subscribe,
)
from sa_eventsource.mapping import find_tables, tables_of_base, tables_on


class Sent(DomainEvent):
    """What aggregates of both bases have."""

    __event_type__ = "two_bases.Sent"


def send(engine: Engine, aggregate_class: type[Any]) -> None:
    with Session(engine) as session:
        session.add(sent := aggregate_class(id=aggregate_class.__name__))
        sent.apply_event(Sent())
        session.commit()


def test_a_worker_of_one_base_leaves_the_names_of_the_others_tables_to_it(engine: Engine) -> None:
    called: list[str] = []

    class Plain(DeclarativeBase):
        pass

    class Named(DeclarativeBase):
        __eventsource__ = EventSourceOptions(events="named_events", projection_positions="named_positions")

    class Parcel(AggregateRoot[str], Plain):
        __aggregate_type__ = "two_bases.Parcel"
        __ignored_events__ = (Sent,)

    @subscribe(f"two_bases.{engine.dialect.name}", Sent, base=Named)  # a closure is declared once under a name
    def of_the_other(recorded: RecordedEvent[Sent], session: Session) -> None:
        called.append(recorded.aggregate_id)

    Plain.metadata.create_all(engine)
    send(engine, Parcel)
    assert Worker(engine, Plain).names == ()
    assert ReadModelManager(engine, Plain).status() == []
    assert dict(Named.metadata.tables) == {}

    class Letter(AggregateRoot[str], Named):  # its module is imported afterwards
        __aggregate_type__ = "two_bases.Letter"
        __ignored_events__ = (Sent,)

    Named.metadata.create_all(engine)
    send(engine, Letter)
    assert Worker(engine, Named).run_once() == 1
    assert called == ["Letter"]


def test_a_base_that_is_asked_for_its_tables_has_them_under_its_own_names() -> None:
    class Bare(DeclarativeBase):
        __eventsource__ = EventSourceOptions(events="bare_events")

    assert find_tables(Bare.metadata) is None
    assert dict(Bare.metadata.tables) == {}
    assert tables_of_base("test", Bare).events.name == "bare_events"
    assert tables_on(Bare.metadata) is find_tables(Bare.metadata) is tables_of_base("test", Bare)
