"""The upcaster that is given to paste: it names the fields that differ, also within other models."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from sa_eventsource.evolution.shapes import shape_of
from sa_eventsource.evolution.upcaster_code import upcaster_code


class Street(BaseModel):
    name: str
    number: int


class Place(BaseModel):
    name: str
    house: int


class Coins(BaseModel):
    amount: int


class Money(BaseModel):
    amount: int
    currency: str


class Bought(BaseModel):
    what: str
    price: Coins


class Sold(BaseModel):
    what: str
    price: Money


def body(before: type[BaseModel], now: type[BaseModel]) -> list[str]:
    return upcaster_code("code.Order", 1, shape_of(before), shape_of(now)).splitlines()[2:-1]


def test_fields_of_a_model_within_are_named() -> None:
    class Before(BaseModel):
        to: Street

    class Now(BaseModel):
        to: Place

    assert body(Before, Now) == ['    payload["to"]["house"] = payload["to"].pop("number")  # has it been renamed?']


def test_fields_of_models_in_lists_and_in_lists_of_lists_are_named() -> None:
    class Before(BaseModel):
        lines: list[Bought]
        pages: tuple[list[Bought], ...]

    class Now(BaseModel):
        lines: list[Sold]
        pages: tuple[list[Sold], ...]

    assert body(Before, Now) == [
        '    for item in payload["lines"]:',
        '        item["price"]["currency"] = ...  # required now, and not stored before',
        '    for item in payload["pages"]:',
        "        for item_2 in item:",
        '            item_2["price"]["currency"] = ...  # required now, and not stored before',
    ]


def test_where_a_value_itself_differs_the_way_to_the_difference_is_written() -> None:
    class Before(BaseModel):
        by_name: dict[str, Coins]
        maybe: Coins | None
        lengths: list[Coins]
        numbers: list[int]

    class Now(BaseModel):
        by_name: dict[str, Money]
        maybe: Money | None
        lengths: tuple[Money]
        numbers: list[bool]

    assert body(Before, Now) == [
        """    payload["by_name"] = ...  # {}.currency: 'currency' is required, and is not written""",
        """    payload["maybe"] = ...  # currency: 'currency' is required, and is not written""",
        '    payload["lengths"] = ...  # list is written, and tuple is read',
        '    payload["numbers"] = ...  # []: integer is written, and boolean is read',
    ]


def test_the_code_runs_on_what_was_stored() -> None:
    class Before(BaseModel):
        lines: list[Bought]

    class Now(BaseModel):
        lines: list[Sold]

    code = upcaster_code("code.Order", 1, shape_of(Before), shape_of(Now)).replace("...", "'EUR'")
    names: dict[str, Any] = {"Any": Any, "upcast": lambda *_, **__: lambda function: function}
    code = code.replace("@upcast(code.Order", "@upcast('code.Order'").replace("code.order_from_1", "order_from_1")
    exec(code, names)
    payload = names["order_from_1"](Before(lines=[Bought(what="pen", price=Coins(amount=3))]).model_dump())
    assert Now.model_validate(payload).lines == [Sold(what="pen", price=Money(amount=3, currency="EUR"))]
