"""A function as a source is what the database will do for every event, or it is refused; it never becomes a constant in silence."""

from __future__ import annotations

import functools
import itertools
import math
import operator
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from sa_eventsource import DeclarationError, DomainEvent, RecordedEvent
from sa_eventsource.read_models import increment
from sa_eventsource.read_models.expressions import resolve
from sa_eventsource.read_models.value_types import value_type
from sa_eventsource.testing import recorded


class Owner(BaseModel):
    """A model within an event."""

    city: str


class Named(DomainEvent):
    """An event with fields to calculate with."""

    __event_type__ = "functions.Named"
    name: str
    status: str
    pieces: int
    price: Decimal
    coupon: str | None = None
    owner: Owner


RATE = Decimal("1.21")
TEXT: Any = value_type(str)
_numbers = itertools.count()


def named() -> RecordedEvent[Named]:
    ann = Named(name="Ann", status="vip", pieces=3, price=Decimal("1.50"), owner=Owner(city="Utrecht"))
    (made,) = recorded(ann, of="Person", id="p-1", at=datetime(2026, 5, 1, tzinfo=UTC), position=11, version=4, user="eve")
    return made


def gross(event: Any) -> Any:
    return event.pieces * event.price


def label(event: Any) -> Any:
    return event.name if event.coupon is None else event.coupon


def named_or_not(event: Any) -> Any:
    with suppress(Exception):
        return f"{event.name}"
    return event.name


def kind_of(event: Any) -> Any:
    match event.name:
        case [_, _]:
            return event.status
        case _:
            return event.name


def look_up(event: Any) -> Any:
    import calendar

    return event.name + calendar.day_name[0]


class Helpers:
    """Functions that a source reaches by a dot, and objects that can be called."""

    @staticmethod
    def label(event: Any) -> Any:
        return label(event)

    def __call__(self, event: Any) -> Any:
        return label(event)


EVENT = named().event
RIGHT: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "a field": (lambda event: event.name, "Ann"),
    "a field of a model": (lambda event: event.owner.city + "!", "Utrecht!"),
    "a calculation": (lambda event: event.pieces * event.price * RATE - 1, Decimal("4.4450")),
    "a sign": (lambda event: -event.pieces, -3),
    "a function": (gross, Decimal("4.50")),
    "a function that is called": (lambda event: gross(event) + 1, Decimal("5.50")),
    "a sum": (lambda event: sum([event.pieces, event.price]), Decimal("4.50")),
    "a sum of a loop": (lambda event: sum(getattr(event, each) for each in ("pieces", "price")), Decimal("4.50")),
    "a product": (lambda event: math.prod([event.pieces, event.price]), Decimal("4.50")),
    "an operator": (lambda event: operator.add(event.pieces, 1), 4),
    "a partial": (functools.partial(operator.attrgetter("name")), "Ann"),
    "what the log knows": (lambda event: event.aggregate_id + "/" + event.metadata.user, "p-1/eve"),
}


@pytest.mark.parametrize("what", RIGHT)
def test_what_is_noted_comes_to_the_same(what: str) -> None:
    function, right = RIGHT[what]
    assert resolve(function, Named, TEXT).evaluate(named()) == right


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "f-string": (lambda event: f"{event.name} of {event.owner.city}", "into text"),
    "format()": (lambda event: "{}".format(event.name), "into text"),  # noqa: UP032 - one of several ways
    "%s": (lambda event: "%s" % event.name, "into text"),  # noqa: UP031 - one of several ways
    "str()": (lambda event: str(event.name), "into text"),
    "repr()": (repr, "into text"),
    "join": (lambda event: "".join((event.name, event.status)), r"\+, - and \*"),  # noqa: FLY002 - one of several ways
    "==": (lambda event: event.status == "vip", "compare"),
    "!=": (lambda event: event.status != "vip", "compare"),
    "<": (lambda event: event.pieces < 3, "compare"),
    "max()": (lambda event: max(event.pieces, 1), "compare"),
    "a choice by ==": (lambda event: "VIP" if event.status == "vip" else "normal", "compare"),
    "in": (lambda event: event.status in ("vip", "gold"), "compare"),
    "a dict": (lambda event: {"vip": "VIP"}.get(event.status, "?"), "look it up"),
    "a set": (lambda event: event.status in {"vip", "gold"}, "look it up"),
    "or": (lambda event: event.coupon or "none", "choose"),
    "not": (lambda event: not event.coupon, "choose"),
    "a choice": (lambda event: event.name if event.coupon else event.status, "choose"),
    "is None": (lambda event: event.coupon is None, "`is`"),
    "a choice by is None": (lambda event: event.name if event.coupon is None else event.status, "`is`"),
    "a choice by is not None": (lambda event: event.coupon if event.coupon is not None else event.status, "`is`"),
    "is None within": (lambda event: next(each is None for each in (event.coupon,)), "`is`"),
    "is None in a function": (lambda event: "~" + label(event), r"`is` in label\(\)"),
    "is None in a method": (lambda event: "~" + Helpers.label(event), r"`is` in label\(\)"),
    "is None in a partial": (functools.partial(label), "`is`"),
    "is None in an object": (Helpers(), "`is`"),
    "isinstance()": (lambda event: event.name if isinstance(event.coupon, str) else event.status, "type"),
    "match": (kind_of, "`match`"),
    "type()": (lambda event: event.name + type(event).__name__, r"type\(\)"),
    "__class__": (lambda event: event.__class__.__name__, "type"),
    "callable()": (lambda event: event.name if callable(event.coupon) else event.status, r"callable\(\)"),
    "hasattr()": (lambda event: event.name if hasattr(event, "nickname") else event.status, "no 'nickname'"),
    "getattr()": (lambda event: getattr(event, "nickname", "none"), "no 'nickname'"),
    "a class variable": (lambda event: event.name + event.__event_type__, "__event_type__"),
    "a method": (lambda event: event.name.upper(), "no 'name.upper'"),
    "an index": (lambda event: event.name[0], r"\+, - and \*"),
    "a length": (lambda event: len(event.name), r"\+, - and \*"),
    "rounding": (lambda event: round(event.price, 1), r"\+, - and \*"),
    "a try": (named_or_not, "`try` or `with`"),
    "an import": (look_up, "`import`"),
    "today": (lambda _event: date.today(), r"date.today\(\)"),  # noqa: DTZ011 - what is refused
    "today beside the event": (lambda event: event.name + str(date.today()), r"date.today\(\)"),  # noqa: DTZ011 - what is refused
    "now beside the event": (lambda event: event.name + datetime.now(UTC).isoformat(), r"datetime.now\(\)"),
    "a clock": (lambda event: event.pieces + int(time.time()), r"time.time\(\)"),
    "a new id": (lambda event: event.name + str(uuid.uuid4()), r"uuid.uuid4\(\)"),
    "a drawn number": (lambda event: event.pieces + random.randint(1, 9), r"random.randint\(\)"),
    "a counter": (lambda event: event.pieces + next(_numbers), "something else each time"),
    "a constant": (lambda _event: "shop", "write a constant as such"),
    "None": (lambda _event: None, "write a constant as such"),
    "the whole event": (lambda event: event, "the whole Named"),
    "several values": (lambda event: (event.name, event.status), "a tuple"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_noted_is_refused(what: str) -> None:
    function, words = REFUSED[what]
    with pytest.raises(DeclarationError, match=words):
        resolve(function, Named, TEXT)


def test_a_number_is_a_source() -> None:
    assert increment(2).source is not None
    assert resolve(2, Named, TEXT).evaluate(named()) == 2
