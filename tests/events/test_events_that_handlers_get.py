"""The event that an ``@applies`` method gets: as a load reads it, which is the one that was applied only if nobody can tell."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from sa_eventsource import DomainEvent
from sa_eventsource.events import as_read, encode


class Colour(Enum):
    RED = "red"


class Values(DomainEvent):
    __event_type__ = "handlers_get.Values"
    text: str
    number: int
    fraction: float
    amount: Decimal
    uuid: UUID
    day: date
    content: bytes
    colour: Colour
    kind: Literal["a", "b"]
    pair: tuple[str, int]
    note: str | None


class WithDefault(DomainEvent):
    __event_type__ = "handlers_get.WithDefault"
    text: str
    note: str = "none"


class WithList(DomainEvent):
    __event_type__ = "handlers_get.WithList"
    items: list[str]


class WithListInTuple(DomainEvent):
    __event_type__ = "handlers_get.WithListInTuple"
    items: tuple[list[str], ...]


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True)
    text: str = "x"


class WithModel(DomainEvent):
    __event_type__ = "handlers_get.WithModel"
    inner: Inner


class WithMoment(DomainEvent):
    __event_type__ = "handlers_get.WithMoment"
    moment: datetime


class WithSet(DomainEvent):
    __event_type__ = "handlers_get.WithSet"
    items: frozenset[str]


class Thawed(DomainEvent):
    __event_type__ = "handlers_get.Thawed"
    model_config = ConfigDict(frozen=False)
    text: str


class WithPrivate(DomainEvent):
    __event_type__ = "handlers_get.WithPrivate"
    text: str
    _seen: list[str] = PrivateAttr(default_factory=list)


class WithBound(DomainEvent):
    __event_type__ = "handlers_get.WithBound"
    number: int = Field(gt=0)


VALUES = Values(
    text="a",
    number=1,
    fraction=0.5,
    amount=Decimal("1.50"),
    uuid=uuid4(),
    day=date(2026, 1, 1),
    content=b"\x00",
    colour=Colour.RED,
    kind="a",
    pair=("a", 1),
    note=None,
)


@pytest.mark.parametrize(
    "event", [VALUES, WithDefault(text="a", note="b"), WithBound(number=1)], ids=lambda each: type(each).__name__
)
def test_an_event_in_which_nothing_can_change_is_handed_on(event: DomainEvent) -> None:
    assert as_read(event, encode(event)) is event


@pytest.mark.parametrize(
    "event",
    [
        WithDefault(text="a"),  # read from the log, every field was given
        WithList(items=["a"]),
        WithListInTuple(items=(["a"],)),
        WithModel(inner=Inner()),
        WithMoment(moment=datetime(2026, 1, 1, tzinfo=UTC)),
        WithSet(items=frozenset({"a"})),
        Thawed(text="a"),
        WithPrivate(text="a"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_any_other_is_read_from_its_payload(event: DomainEvent) -> None:
    again: Any = as_read(event, encode(event))
    assert again is not event
    assert again == event if not isinstance(event, WithPrivate) else again.text == event.text
    assert again.model_fields_set == set(type(event).model_fields)


def test_an_event_is_read_anew_when_classes_were_declared_since() -> None:
    payload = encode(VALUES)

    class Declared(DomainEvent):
        __event_type__ = "handlers_get.Declared"

    assert as_read(VALUES, payload) is not VALUES
    assert as_read(VALUES, encode(VALUES)) is VALUES
    assert Declared()
