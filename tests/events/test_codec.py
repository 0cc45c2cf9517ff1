"""Events to JSON text and back: exactly, or refused with the field's name."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field, field_serializer

from sa_eventsource import DomainEvent, EventDecodeError, EventPayloadError, UnknownEventTypeError
from sa_eventsource.events import decode, decode_metadata, encode, encode_metadata


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Priority(IntEnum):
    LOW = 1
    HIGH = 2


class Line(BaseModel):
    sku: str
    price: Decimal
    due: date | None = None


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    number: str


class EverythingHappened(DomainEvent):
    text: str
    whole: int
    number: Decimal
    measure: float
    identity: UUID
    colour: Colour
    priority: Priority
    lines: list[Line]
    pair: tuple[int, str]
    prices: dict[UUID, Decimal]
    counts: dict[int, str]
    data: bytes
    payment: Annotated[Card | Cash, Field(discriminator="kind")]
    either: int | str
    day: date
    moment: datetime
    clock: time
    duration: timedelta
    members: frozenset[int]
    maybe: str | None


storable_text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
decimals = st.decimals(allow_nan=False, allow_infinity=False)
aware = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=11))]))
everything = st.builds(
    EverythingHappened,
    text=storable_text,
    whole=st.integers(),
    number=decimals,
    measure=st.floats(allow_nan=False, allow_infinity=False),
    identity=st.uuids(),
    colour=st.sampled_from(Colour),
    priority=st.sampled_from(Priority),
    lines=st.lists(st.builds(Line, sku=storable_text, price=decimals, due=st.none() | st.dates()), max_size=3),
    pair=st.tuples(st.integers(), storable_text),
    prices=st.dictionaries(st.uuids(), decimals, max_size=3),
    counts=st.dictionaries(st.integers(), storable_text, max_size=3),
    data=st.binary(),
    payment=st.builds(Card, number=storable_text) | st.builds(Cash, number=storable_text),
    either=st.integers() | storable_text,
    day=st.dates(),
    moment=aware,
    clock=st.times(),
    duration=st.timedeltas(),
    members=st.frozensets(st.integers()),
    maybe=st.none() | storable_text,
)


@given(everything)
def test_an_event_comes_back_equal(event: EverythingHappened) -> None:
    again = decode("EverythingHappened", 1, encode(event))
    assert again == event
    assert isinstance(again, EverythingHappened)
    assert {type(each.price) for each in again.lines} <= {Decimal}
    assert [str(each.price) for each in again.lines] == [str(each.price) for each in event.lines]
    assert type(again.either) is type(event.either)
    assert again.moment.utcoffset() == event.moment.utcoffset() or again.moment == event.moment


@given(everything)
def test_the_order_of_keys_does_not_matter(event: EverythingHappened) -> None:
    shuffled = json.dumps(dict(sorted(json.loads(encode(event)).items(), key=lambda item: (len(item[0]), item[0]))))
    assert decode("EverythingHappened", 1, shuffled) == event


class AnythingHappened(DomainEvent):
    value: Any


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ("a\x00b", "value", "NUL"),
        ({"k": [1, {"z": "a\x00"}]}, "value.k.1.z", "NUL"),
        ({"a\x00": 1}, "value.a\x00", "NUL"),
        (math.nan, "value", "nan"),
        ([1.0, -math.inf], "value.1", "inf"),
        (Decimal("NaN"), "value", "NaN"),
        (datetime(2024, 1, 1), "value", "time zone"),  # noqa: DTZ001 - the point
        ("\ud800", "value", "JSON"),
        (Decimal("1.0"), "value", "come back"),
        ((1, 2), "value", "come back"),
        ({1: 2}, "value", "come back"),
        (uuid4(), "value", "come back"),
        (object(), "value", "JSON"),
    ],
)
def test_what_would_not_survive_is_refused_by_field(value: Any, field: str, reason: str) -> None:
    with pytest.raises(EventPayloadError, match=reason) as caught:
        encode(AnythingHappened(value=value))
    assert (caught.value.event_type, caught.value.field) == ("AnythingHappened", field)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "a \\u0000 b", "\\", {"a": [1, 2.5, None, True, "x"]}, 10**30, 0.1, ""])
def test_what_only_looks_dangerous_passes(value: Any) -> None:
    event = AnythingHappened(value=value)
    assert decode("AnythingHappened", 1, encode(event)) == event


class Timed(DomainEvent):
    class Inner(BaseModel):
        at: datetime

    inner: list[Inner]


def test_a_time_without_zone_is_refused_in_nested_models() -> None:
    with pytest.raises(EventPayloadError) as caught:
        encode(Timed(inner=[Timed.Inner(at=datetime(2024, 1, 1))]))  # noqa: DTZ001 - the point
    assert caught.value.field == "inner.0.at"


def test_unvalidated_values_of_a_wrong_type_are_refused() -> None:
    with pytest.raises(EventPayloadError):
        encode(Line2.model_construct(amount="three"))
    with pytest.raises(EventPayloadError, match="inf"):
        encode(Line2.model_construct(amount=1, ratio=math.inf))


class Line2(DomainEvent):
    amount: int
    ratio: float = 1.0


class Metres(BaseModel):
    x: int


class Feet(BaseModel):
    x: int


class Measured(DomainEvent):
    length: Metres | Feet


def test_a_member_of_a_union_that_would_come_back_as_another_is_refused() -> None:
    encode(Measured(length=Metres(x=1)))
    with pytest.raises(EventPayloadError, match="discriminator") as caught:
        encode(Measured(length=Feet(x=1)))
    assert caught.value.field == "length"


class WithHiddenField(DomainEvent):
    shown: int
    hidden: int = Field(default=0, exclude=True)


class WithSerializer(DomainEvent):
    value: int

    @field_serializer("value")
    def _double(self, value: int) -> int:
        return value * 2


class WithComputed(DomainEvent):
    value: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return self.value * 2


class WithTwoAliases(DomainEvent):
    value: int = Field(validation_alias="read", serialization_alias="written")


class BaseAddress(BaseModel):
    city: str


class FullAddress(BaseAddress):
    street: str


class Moved(DomainEvent):
    to: BaseAddress


@pytest.mark.parametrize(
    "event",
    [
        WithHiddenField(shown=1, hidden=2),
        WithSerializer(value=1),
        WithComputed(value=1),
        WithTwoAliases.model_validate({"read": 1}),
        Moved(to=FullAddress(city="a", street="b")),
    ],
    ids=lambda event: type(event).__name__,
)
def test_models_that_write_otherwise_than_they_read_are_refused(event: DomainEvent) -> None:
    with pytest.raises(EventPayloadError):
        encode(event)


class WithAlias(DomainEvent):
    value: int = Field(alias="theValue")


def test_an_alias_is_written_and_read() -> None:
    event = WithAlias(theValue=1)
    assert json.loads(encode(event)) == {"theValue": 1}
    assert decode("WithAlias", 1, encode(event)) == event


def test_a_payload_that_does_not_fit_names_event_type_version_and_fields() -> None:
    event_id = uuid4()
    with pytest.raises(EventDecodeError, match="amount") as caught:
        decode("Line2", 1, '{"amount": "x", "extra": 1}', event_id=event_id)
    assert caught.value.event_id == event_id
    assert (caught.value.event_type, caught.value.event_version) == ("Line2", 1)
    assert set(caught.value.fields) == {"amount", "extra"}
    assert str(event_id) in str(caught.value)


def test_text_that_is_no_json_is_an_error_of_the_event() -> None:
    with pytest.raises(EventDecodeError):
        decode("Line2", 1, "{")


def test_an_unknown_type_names_event_type_and_version() -> None:
    event_id = uuid4()
    with pytest.raises(UnknownEventTypeError, match="__former_types__") as caught:
        decode("NeverDeclared", 3, "{}", event_id=event_id)
    assert (caught.value.event_type, caught.value.event_version, caught.value.event_id) == ("NeverDeclared", 3, event_id)


def test_events_are_frozen_and_refuse_unknown_fields() -> None:
    event = Line2(amount=1)
    with pytest.raises(ValueError, match="frozen"):
        event.amount = 2
    with pytest.raises(ValueError, match="Extra"):
        Line2.model_validate({"amount": 1, "other": 2})
    with pytest.raises(ValueError, match="finite"):
        Line2(amount=1, ratio=math.nan)


def test_metadata_comes_back_and_none_is_stored_for_an_empty_one() -> None:
    assert encode_metadata({}) is None
    assert decode_metadata(None) == {}
    metadata: dict[str, Any] = {"user": "ann", "n": 1, "nested": {"list": [1, None, True, 2.5]}}
    assert decode_metadata(encode_metadata(metadata)) == metadata


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"a": object()}, "a"),
        ({"a": {"b": math.nan}}, "a.b"),
        ({"a": "\x00"}, "a"),
        ({"a": [uuid4()]}, "a.0"),
        ({1: "a"}, ""),
        ({"a": "\ud800"}, ""),
    ],
)
def test_metadata_that_json_cannot_hold_is_refused(metadata: Any, field: str) -> None:
    with pytest.raises(EventPayloadError) as caught:
        encode_metadata(metadata)
    assert caught.value.field == field
