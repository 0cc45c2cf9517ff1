"""What the codec proves, what it reads back, and what it refuses at once."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, ConfigDict, Field, FutureDatetime, field_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from sqlalchemy import Engine, text

from sa_eventsource import DeclarationError, DomainEvent, EventPayloadError
from sa_eventsource.events import decode, encode
from sa_eventsource.events.comparison import difference
from sa_eventsource.events.exactness import proof_of
from sa_eventsource.events.jsonb import as_text, parsed
from sa_eventsource.types import JsonValue
from tests.events.kinds_of_fields import (
    Base64OneWay,
    CardByEnum,
    CashByEnum,
    FloatDuration,
    Number,
    OtherMoment,
    Pair,
    Plain,
    Point,
    Rate,
)

T = TypeVar("T")


def event_of(annotation: Any, default: Any = ...) -> Any:
    body: dict[str, Any] = {"__annotations__": {"value": annotation}, "__module__": __name__, "__qualname__": "EventOfOneField"}
    if default is not ...:
        body["value"] = default
    return type("EventOfOneField", (DomainEvent,), body)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Literal[Plain.A], Plain.A),
        (Annotated[CardByEnum | CashByEnum, Field(discriminator="kind")], CardByEnum()),
        (Literal[b"x"], b"x"),
        (Pair, Pair.P),
        (Rate, Rate.R),
        (dict[tuple[int, int], str], {(1, 2): "a"}),
        (dict[Point, str], {Point(x=1): "a"}),  # pyright: ignore[reportUnhashable] - frozen
        (dict[Literal[1, 2], str], {1: "a"}),
        (dict[Number, str], {Number.ONE: "a"}),
        (dict[int | None, str], {None: "a"}),
        (dict[str | None, int], {None: 1, "None": 2}),
        (int, 10**5000),
        (list[int], [1, 10**4400]),
        (datetime, datetime(1970, 1, 1, tzinfo=ZoneInfo("Africa/Monrovia"))),
        (time, time(12, 4, tzinfo=ZoneInfo("Europe/Prague"))),
        (time, time(12, 4, tzinfo=timezone(timedelta(seconds=1)))),
        (Base64OneWay, Base64OneWay(raw=b"abcd")),
        (FloatDuration, FloatDuration(length=timedelta(days=300_000, microseconds=1))),
        (Any, 1e16),
        (int | float, 1e16),
        (Any, {"deep": [1e300]}),
        (datetime, OtherMoment(2024, 1, 1, tzinfo=UTC)),
        (OrderedDict[str, int], OrderedDict(bb=1, a=2)),
    ],
    ids=map(str, range(23)),
)
def test_what_would_come_back_as_another_value_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(EventPayloadError) as caught:
        encode(event_of(annotation)(value=value))
    assert caught.value.field.split(".")[0] in ("value", "")


class Beyond(IntEnum):
    """Numbers of which one does not fit 64 bits."""

    LOW = 1
    TOP = 2**63


@pydantic_dataclass(config=ConfigDict(extra="allow"))
class OpenData:
    """A dataclass that keeps what it does not declare."""

    x: int = 1


class InMilliseconds(DomainEvent):
    """Its moments are written without their offset."""

    __event_type__ = "exactness.InMilliseconds"
    model_config = ConfigDict(ser_json_temporal="milliseconds")
    moment: datetime


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Beyond, Beyond.TOP),
        (set[Beyond], {Beyond.LOW, Beyond.TOP}),
        (OpenData, OpenData(x=1, y=2)),  # type: ignore[call-arg]
        (deque[int], deque([1], maxlen=3)),
        (defaultdict[str, int], defaultdict(int, a=1)),
    ],
    ids=["enum", "set of enums", "dataclass", "deque", "defaultdict"],
)
def test_what_lies_beside_the_entries_comes_back_or_is_refused(annotation: Any, value: Any) -> None:
    event_class: Any = type("Beside", (DomainEvent,), {"__annotations__": {"v": annotation}, "__module__": __name__})
    event = event_class(v=value)
    try:
        again = encode_and_read(event)
    except EventPayloadError as error:
        assert error.field.split(".")[0] == "v"
    else:
        assert difference(again, event) is None


def encode_and_read(event: DomainEvent) -> DomainEvent:
    """Write an event and read it as a later load does."""
    found = decode(type(event).__event_type__, 1, as_text(parsed(encode(event))))
    assert isinstance(found, DomainEvent)
    return found


def test_a_moment_that_would_come_back_with_another_offset_is_refused() -> None:
    encode(InMilliseconds(moment=datetime(2026, 1, 1, tzinfo=UTC)))
    with pytest.raises(EventPayloadError):
        encode(InMilliseconds(moment=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))))


def test_a_field_that_is_left_out_when_it_is_written_is_refused() -> None:
    event_class = event_of(int, Field(default=5, exclude_if=lambda value: value == 0))
    with pytest.raises(EventPayloadError, match="come back as 5"):
        encode(event_class(value=0))
    assert encode(event_class(value=1)) == '{"value":1}'


def test_a_default_that_breaks_the_fields_own_rule_is_refused() -> None:
    for rule in (Field(-1, gt=0), Field(-1, multiple_of=2), Field(10, le=5)):
        with pytest.raises(EventPayloadError, match="read back"):
            encode(event_of(int, rule)())


def test_a_moment_that_must_lie_in_the_future_cannot_be_read_later() -> None:
    class Scheduled(DomainEvent):
        due: list[FutureDatetime]

    with pytest.raises(DeclarationError, match=r"Scheduled\.due"):
        encode(Scheduled(due=[datetime(9000, 1, 1, tzinfo=UTC)]))


def test_an_event_of_a_subclass_of_a_model_is_refused_whenever_the_subclass_was_declared() -> None:
    class Address(BaseModel):
        city: str

    class Relocated(DomainEvent):
        to: Address

    encode(Relocated(to=Address(city="Ely")))

    class FullAddress(Address):
        street: str

    with pytest.raises(EventPayloadError, match="FullAddress"):
        encode(Relocated(to=FullAddress(city="Ely", street="Mill Lane")))


def test_a_value_that_nobody_has_validated_is_refused_by_its_type() -> None:
    class Line(BaseModel):
        quantity: int
        price: Decimal

    class Sold(DomainEvent):
        lines: list[Line]
        number: int = 1

    line = Line(quantity=1, price=Decimal(1))
    encode(Sold(lines=[line]))
    line.quantity = True
    with pytest.raises(EventPayloadError, match="True would come back as 1") as caught:
        encode(Sold(lines=[line]))
    assert caught.value.field == "lines.0.quantity"
    with pytest.raises(EventPayloadError, match=r"number|True"):
        encode(Sold.model_construct(lines=[], number=True))


def test_a_nul_character_is_found_where_it_is_a_text_only_when_written() -> None:
    with pytest.raises(EventPayloadError, match="NUL") as caught:
        encode(event_of(list[PurePosixPath])(value=[PurePosixPath("a\x00")]))
    assert caught.value.field == "value.0"


def test_the_repeated_hour_of_a_clock_is_kept_by_its_offset() -> None:
    event = event_of(datetime)(value=datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Prague")))
    again: Any = decode("EventOfOneField", 1, encode(event))
    assert again.value == datetime(2024, 10, 27, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("annotation", "is_proven"),
    [
        (int, True),
        (Annotated[int, Field(gt=0)], True),
        (dict[str, list[Decimal | None]], True),
        (dict[UUID, date], True),
        (tuple[int, ...], True),
        (Plain, True),
        (Literal["a", "b"], True),
        (list[Point], True),
        (int | str, False),
        (Any, False),
        (Literal[Plain.A], False),
        (Rate, False),
        (dict[Number, int], False),
        (Base64OneWay, False),
        (FloatDuration, False),
    ],
    ids=repr,
)
def test_only_what_is_known_to_be_exact_is_proven(annotation: Any, is_proven: bool) -> None:
    assert (proof_of(event_of(annotation)) is not None) is is_proven


def test_settings_that_are_not_known_end_the_proof() -> None:
    class Lowered(DomainEvent):
        model_config = ConfigDict(str_to_lower=True)
        name: str

    class Doubled(DomainEvent):
        amount: int

        @field_validator("amount")
        @classmethod
        def _double(cls, value: int) -> int:
            return value * 2

    assert proof_of(Lowered) is None
    assert proof_of(Doubled) is None
    with pytest.raises(EventPayloadError, match="4 would come back as 8"):
        encode(Doubled(amount=2))
    encode(Doubled(amount=0))


def test_a_class_that_writes_itself_otherwise_is_stored_as_it_is_read() -> None:
    class Renders(DomainEvent):
        n: int

        def model_dump_json(self, **_options: Any) -> str:
            return '{"n": 7}'

    assert decode("Renders", 1, encode(Renders(n=1))) == Renders(n=1)


@pytest.mark.parametrize("value", [{"a": [1, "x", None, True, {"b": 2.5}]}, [], "text", None, 10**30, -0.0])
def test_json_values_can_be_fields(value: Any) -> None:
    event_class = event_of(JsonValue)
    assert decode("EventOfOneField", 1, encode(event_class(value=value))) == event_class(value=value)
    with pytest.raises(EventPayloadError, match="come back as"):
        encode(event_class(value={"t": (1, 2)}))


class Changed(DomainEvent, Generic[T]):
    old: T
    new: T


class CountChanged(Changed[int]):
    pass


def test_a_generic_event_is_stored_under_the_name_of_a_class_of_its_own() -> None:
    with pytest.raises(DeclarationError, match=r"class ChangedInt\(Changed\[int\]\)"):
        encode(Changed[int](old=1, new=2))
    event = CountChanged(old=1, new=2)
    assert decode("CountChanged", 1, encode(event)) == event
    with pytest.raises(LookupError):
        decode("Changed[int]", 1, "{}")


def test_an_abstract_event_cannot_be_stored() -> None:
    class Common(DomainEvent):
        __abstract__ = True

    with pytest.raises(DeclarationError, match="abstract"):
        encode(Common())


def test_an_event_of_an_older_version_cannot_be_stored() -> None:
    class MovedV1(DomainEvent):
        __event_type__ = "MovedTwice"

    class MovedV2(DomainEvent):
        __event_type__ = "MovedTwice"
        __event_version__ = 2

    with pytest.raises(DeclarationError, match=r"read as .*MovedV2, version 2"):
        encode(MovedV1())
    encode(MovedV2())


def test_an_event_of_a_class_that_was_declared_anew_cannot_be_stored() -> None:
    def declare() -> type[DomainEvent]:
        class Cell(DomainEvent):
            pass

        return Cell

    first, second = declare(), declare()
    with pytest.raises(DeclarationError, match="declared again"):
        encode(first())
    encode(second())


@pytest.mark.parametrize(
    "document",
    [
        "[1e16, -0.0, -0, 1.5e3, 1.50e1, 1e-7, 1E5, 1.0, 5e-324, 1e22, 1.7976931348623157e308, 0.1]",
        '{"bb": 1, "a": {"z": [], "é": null}, "a": {"y": 2, "x": 1, "x": 3}, "": true, "ab": "\\u00e9 \\\\u0000"}',
        '"text"',
        "12345678901234567890123",
    ],
)
def test_jsonb_gives_back_what_the_codec_expects(postgres_engine: Engine, document: str) -> None:
    with postgres_engine.connect() as connection:
        given = connection.scalar(text("SELECT CAST(CAST(:document AS jsonb) AS text)"), {"document": document})
    assert given is not None
    ours, theirs = (json.loads(each, object_pairs_hook=list) for each in (as_text(parsed(document)), given))
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("document", ["NaN", "[Infinity]", "{", "[1e999999999]"])
def test_what_jsonb_does_not_take_is_an_error(document: str) -> None:
    with pytest.raises(ValueError, match=r"number|Expecting"):
        parsed(document)


def test_enumerations_of_one_plain_type_are_proven() -> None:
    class Many(Enum):
        A = "a"
        B = 2

    assert proof_of(event_of(Many)) is None
    assert pickle.loads(pickle.dumps(CountChanged(old=1, new=2))) == CountChanged(old=1, new=2)
