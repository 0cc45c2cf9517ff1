"""Events with fields that the log has a name for, such as ``aggregate_id``: the key of a row is never theirs in silence."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import DeclarationError, DomainEvent, EventReplayer, ReadModel, ReadModelManager, map_from_event
from tests.committing import commit_events
from tests.shop import AnyOrder, OrderPaid


class Placed(DomainEvent):
    """Says itself which aggregate it is of, as in other libraries."""

    __event_type__ = "named.Placed"
    aggregate_id: str
    customer: str


class Base(DeclarativeBase):
    """Base of some orders."""


class Order(AnyOrder, Base):
    """An order, one of whose events does so."""

    __aggregate_type__ = "named.Order"
    __ignored_events__ = (Placed,)


class Orders(ReadModel, Base):
    """Keyed by the aggregate's id, as models are."""

    __consistency__ = "strong"

    id: Mapped[str]
    customer: Mapped[str] = map_from_event(Placed)
    payment_id: Mapped[str] = map_from_event(OrderPaid)


class Named(ReadModel, Base):
    """Likewise, in so many words."""

    __removed_by__ = (OrderPaid,)

    key: Mapped[str] = map_from_event(key=True, source="log.aggregate_id")
    said: Mapped[str] = map_from_event(Placed, source="aggregate_id")


class Said(ReadModel, Base):
    """Keyed by what the events say."""

    said: Mapped[str] = map_from_event(key=True, source="event.aggregate_id")
    customer: Mapped[str] = map_from_event(Placed)


def rows(engine: Engine, model: type[Any], *names: str) -> list[tuple[Any, ...]]:
    with Session(engine) as session:
        return [tuple(getattr(row, name) for name in names) for row in session.scalars(select(model))]


def test_the_key_is_the_stream_unless_the_declaration_says_otherwise(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    commit_events(engine, Order, "o-1", Placed(aggregate_id="x", customer="Ann"), OrderPaid(payment_id="p-1"))
    commit_events(engine, Order, "o-2", OrderPaid(payment_id="p-2"))
    commit_events(engine, Order, "o-3", Placed(aggregate_id="y", customer="Cyd"))
    right = [("o-1", "Ann", "p-1"), ("o-2", None, "p-2"), ("o-3", "Cyd", None)]
    assert sorted(rows(engine, Orders, "id", "customer", "payment_id")) == right
    ReadModelManager(engine, Base).catch_up()
    for _ in range(2):
        assert rows(engine, Named, "key", "said") == [("o-3", "y")]
        assert sorted(rows(engine, Said, "said", "customer")) == [("x", "Ann"), ("y", "Cyd")]
        for model in (Named, Said):
            EventReplayer(engine, Base).rebuild(model)


def test_a_key_with_two_meanings_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r'source="log.aggregate_id" or source="event.aggregate_id"'):

        class Ambiguous(ReadModel, Base):
            __removed_by__ = (OrderPaid,)
            id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
            customer: Mapped[str] = map_from_event(Placed)
