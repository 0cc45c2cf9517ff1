"""What is called compatible is read, exactly: any class that is followed by any other one, and the cases that people ask about."""

from __future__ import annotations

import enum
import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import GenericAlias
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, given, settings, target
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sa_eventsource import DomainEvent, EventPayloadError, Personal
from sa_eventsource.events import as_text, encode, parsed
from sa_eventsource.evolution import differences, shape_of


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Wider(enum.Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Line(BaseModel):
    sku: str
    number: int = 1


class LineWithNote(BaseModel):
    sku: str
    number: int = 1
    note: str | None = None


class StrictLine(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sku: str


class Card(BaseModel):
    by: Literal["card"] = "card"
    number: str


class Cash(BaseModel):
    by: Literal["cash"] = "cash"
    amount: Decimal


def shout(text: str) -> str:
    return text.upper()


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
decimals = st.decimals(-10_000, 10_000, places=2)
moments = st.datetimes(timezones=st.just(UTC))
lines = st.builds(Line, sku=texts, number=st.integers(0, 9))
payments = st.one_of(st.builds(Card, number=texts), st.builds(Cash, amount=decimals))

KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "text": (str, texts),
    "short text": (Annotated[str, Field(max_length=8)], texts),
    "shorter text": (Annotated[str, Field(max_length=3)], st.text("abc", max_size=3)),
    "pattern": (Annotated[str, Field(pattern="^[ab]*$")], st.text("ab", max_size=5)),
    "shouted": (Annotated[str, AfterValidator(shout)], st.text("AB", max_size=5)),
    "whole": (int, st.integers()),
    "whole from 0": (Annotated[int, Field(ge=0)], st.integers(0)),
    "whole above 0": (Annotated[int, Field(gt=0)], st.integers(1)),
    "small": (Annotated[int, Field(ge=0, le=100)], st.integers(0, 100)),
    "strict": (Annotated[int, Field(strict=True)], st.integers()),
    "float": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "decimal": (Decimal, decimals),
    "decimal from 0": (Annotated[Decimal, Field(ge=0)], st.decimals(0, 10_000, places=2)),
    "money": (Annotated[Decimal, Field(max_digits=12, decimal_places=2)], decimals),
    "truth": (bool, st.booleans()),
    "uuid": (UUID, st.uuids()),
    "date": (date, st.dates()),
    "moment": (datetime, moments),
    "duration": (timedelta, st.timedeltas(timedelta(-9), timedelta(9))),
    "bytes": (bytes, st.binary(max_size=5)),
    "colour": (Colour, st.sampled_from(Colour)),
    "more colours": (Wider, st.sampled_from(Wider)),
    "literal": (Literal["red", "green"], st.sampled_from(["red", "green"])),
    "literal number": (Literal[1, 2], st.sampled_from([1, 2])),
    "any": (Any, st.one_of(texts, st.integers(), st.none(), st.lists(texts, max_size=2))),
    "line": (Line, lines),
    "line with note": (LineWithNote, st.builds(LineWithNote, sku=texts, note=st.none() | texts)),
    "strict line": (StrictLine, st.builds(StrictLine, sku=texts)),
    "payment": (Annotated[Card | Cash, Field(discriminator="by")], payments),
    "card": (Annotated[Card, Field()], st.builds(Card, number=texts)),
    "text or whole": (str | int, st.one_of(texts, st.integers())),
    "whole or text": (int | str, st.one_of(texts, st.integers())),
    "uuid or text": (UUID | str, st.one_of(st.uuids(), texts)),
    "personal": (Annotated[str | None, Personal(subject="owner")], st.none() | texts),
    "personal and named": (Annotated[str, Personal(subject="owner", placeholder="(gone)")], texts),
}


def _wrapped(name: str, wrapping: str) -> tuple[Any, st.SearchStrategy[Any]]:
    annotation: Any
    annotation, values = KINDS[name]
    wrapped: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
        "optional": (_or_none(annotation), st.none() | values),
        "list": (GenericAlias(list, (annotation,)), st.lists(values, max_size=3)),
        "tuple": (GenericAlias(tuple, (annotation, ...)), st.lists(values, max_size=3).map(tuple)),
        "pair": (GenericAlias(tuple, (annotation, int)), st.tuples(values, st.integers(0, 9))),
        "dict": (GenericAlias(dict, (str, annotation)), st.dictionaries(texts, values, max_size=3)),
        "uuid keys": (GenericAlias(dict, (UUID, annotation)), st.dictionaries(st.uuids(), values, max_size=3)),
    }
    return (annotation, values) if name.startswith("personal") else wrapped.get(wrapping, (annotation, values))


def _or_none(annotation: Any) -> Any:
    return Optional[annotation]  # noqa: UP045 - Annotated types have no |


WRAPPINGS = ["plain", "plain", "plain", "optional", "list", "tuple", "pair", "dict", "uuid keys"]
NEAR = [
    ("whole", "decimal"),
    ("whole from 0", "whole"),
    ("whole above 0", "whole from 0"),
    ("small", "float"),
    ("small", "whole from 0"),
    ("shorter text", "text"),
    ("uuid", "text"),
    ("moment", "text"),
    ("date", "text"),
    ("float", "decimal"),
    ("colour", "more colours"),
    ("literal", "text"),
    ("literal", "colour"),
    ("line", "line with note"),
    ("text", "any"),
    ("card", "payment"),
    ("personal", "personal and named"),
    ("money", "decimal"),
    # These do not fit, and are called so: here they are to be drawn if one is ever called compatible.
    ("whole", "float"),
    ("decimal", "float"),
    ("float", "whole"),
    ("float", "small"),
    ("whole", "strict"),
    ("whole", "truth"),
    ("truth", "whole"),
    ("whole", "whole above 0"),
    ("whole from 0", "whole above 0"),
    ("whole from 0", "small"),
    ("decimal", "money"),
    ("decimal", "decimal from 0"),
    ("decimal", "text"),
    ("text", "shorter text"),
    ("text", "pattern"),
    ("text", "shouted"),
    ("text", "decimal"),
    ("text", "uuid"),
    ("text", "literal"),
    ("uuid", "uuid or text"),
    ("text", "uuid or text"),
    ("whole", "text or whole"),
    ("uuid", "bytes"),
    ("text", "bytes"),
    ("bytes", "text"),
    ("moment", "date"),
    ("date", "moment"),
    ("more colours", "colour"),
    ("literal number", "whole"),
    ("literal number", "truth"),
    ("any", "text"),
    ("any", "text or whole"),
    ("payment", "card"),
    ("line with note", "line"),
    ("line", "strict line"),
]

Drawn = tuple[str, str]
fields = st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(WRAPPINGS))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, Drawn], dict[str, Any], dict[str, str]]:
    """A class, what happens to each field, and aliases of the second one."""
    before = draw(st.dictionaries(st.sampled_from(["a", "b", "c"]), fields, min_size=1, max_size=2))
    after: dict[str, Any] = {}
    for name, (kind, wrapping) in before.items():
        change = draw(st.sampled_from(["near"] * 8 + ["same", "optional", "other", "gone"]))
        if change == "near":
            near = [other for one, other in NEAR if one == kind] or [kind]
            after[name] = (draw(st.sampled_from(near)), wrapping, False)
        elif change == "other":
            after[name] = (*draw(fields), False)
        elif change == "optional":
            after[name] = (kind, "optional" if wrapping == "plain" else wrapping, False)
        elif change == "same":
            after[name] = (kind, wrapping, False)
    if draw(st.booleans()):
        after["d"] = ("text", "optional", draw(st.booleans()))
    aliases = {name: f"{name}_" for name in after if draw(st.integers(0, 29)) == 0}
    return before, after, aliases


def _event(name: str, declared: dict[str, tuple[Any, bool]], aliases: dict[str, str] | None = None) -> Any:
    body: dict[str, Any] = {
        field: Field(alias=alias) if not has_default else Field(default=None, alias=alias)
        for field, (_, has_default) in declared.items()
        if (alias := (aliases or {}).get(field)) is not None or has_default
    }
    annotations = {"owner": str, **{field: annotation for field, (annotation, _) in declared.items()}}
    options = {"__module__": __name__, "__qualname__": name, "__event_type__": f"evolution.{name}", "__annotations__": annotations}
    return type(name, (DomainEvent,), {**options, **body})


def _same(one: Any, other: Any) -> bool:
    """Compare JSON as a value: 3, 3.0 and "3.00" are one number where one class has a decimal."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(key in other and _same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, int | float | Decimal) and isinstance(other, int | float | Decimal | str):
        return Decimal(str(one)) == Decimal(str(other))
    return bool(one == other)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], max_examples=max(300, settings().max_examples))
@given(pairs(), st.data())
def test_what_is_called_compatible_is_read_exactly(
    drawn: tuple[dict[str, Drawn], dict[str, Any], dict[str, str]], data: st.DataObject
) -> None:
    before, after, aliases = drawn
    old = _event("Old", {name: (_wrapped(*each)[0], False) for name, each in before.items()})
    new = _event("New", {name: (_wrapped(*each[:2])[0], each[2]) for name, each in after.items()}, aliases)
    found = differences(shape_of(old), shape_of(new))
    target(float(not found))
    assume(not found)
    for _ in range(3):
        event = old(owner="o", **{name: data.draw(_wrapped(*each)[1]) for name, each in before.items()})
        try:
            stored = as_text(parsed(encode(event)))
        except EventPayloadError:
            continue  # no such event is in a log
        read = new.model_validate_json(stored)
        again = json.loads(read.model_dump_json(by_alias=True), parse_float=Decimal)
        assert _same(json.loads(stored, parse_float=Decimal), again), (stored, again)


@pytest.mark.parametrize("name", sorted(KINDS))
@pytest.mark.parametrize("wrapping", ["plain", "optional", "list", "dict"])
def test_a_class_that_has_not_changed_is_compatible(name: str, wrapping: str) -> None:
    one = _event("Same", {"a": (_wrapped(name, wrapping)[0], False)})
    other = _event("Same", {"a": (_wrapped(name, wrapping)[0], False)})
    assert not differences(shape_of(one), shape_of(other))


@pytest.mark.parametrize(
    ("before", "now", "verdict", "words"),
    [
        (str, UUID, "incompatible", "text is written, and uuid is read"),
        (str, int, "incompatible", "a: text is written"),
        (Decimal, int, "incompatible", "decimal is written"),
        (int, float, "incompatible", "2\\*\\*53"),
        (str, Annotated[str, Field(max_length=5)], "incompatible", "max_length is 5"),
        (str, Annotated[str, Field(pattern="^a$")], "unproven", "pattern"),
        (Wider, Colour, "incompatible", "'blue' may be written"),
        (str | None, str, "incompatible", "null is written"),
        (list[int], list[Annotated[int, Field(ge=1)]], "incompatible", r"a\[\]: ge is 1"),
        (list[str], set[str], "incompatible", "drops what is there twice"),
        (Annotated[Card | Cash, Field(discriminator="by")], Card, "incompatible", "a type named by 'by'"),
        (LineWithNote, Line, "incompatible", "a.note: 'note' is written, and is dropped silently"),
        (LineWithNote, StrictLine, "incompatible", "refused as unknown"),
        (str, Annotated[str, AfterValidator(shout)], "unproven", "a validator"),
        (date, datetime, "incompatible", "date is written, and moment is read"),
        (
            Annotated[str | None, Personal(subject="owner")],
            Annotated[str, Personal(subject="owner", placeholder="x")],
            "incompatible",
            "null is written",
        ),
    ],
)
def test_what_does_not_fit_is_told(before: Any, now: Any, verdict: str, words: str) -> None:
    found = differences(shape_of(_event("Before", {"a": (before, False)})), shape_of(_event("Now", {"a": (now, False)})))
    assert found[0].verdict == verdict
    assert re.search(words, f"{found[0].path}: {found[0].reason}"), found


def test_the_placeholder_of_forgotten_subjects_must_be_read_too() -> None:
    before = _event("Before", {"a": (Annotated[str, Personal(subject="owner", placeholder="(gone)")], False)})
    now = _event("Now", {"a": (Annotated[str, Field(max_length=3)], False)})
    found = differences(shape_of(before), shape_of(now))
    assert any("placeholder" in each.reason for each in found)


def test_an_alias_is_the_name_that_counts() -> None:
    before = _event("Before", {"a": (int, False)}, {"a": "b"})
    now = _event("Now", {"b": (int, False)})
    assert not differences(shape_of(before), shape_of(now))
    assert differences(shape_of(_event("Before", {"a": (int, False)})), shape_of(_event("Now", {"a": (int, False)}, {"a": "b"})))
