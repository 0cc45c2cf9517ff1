"""Kinds of fields that an event may have, each with values that Pydantic takes for it."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FutureDate,
    NaiveDatetime,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretStr,
    SerializeAsAny,
    computed_field,
    field_serializer,
    model_serializer,
)
from typing_extensions import TypedDict

from sa_eventsource.types import JsonValue

T = TypeVar("T")


class Plain(enum.Enum):
    A = "a"
    B = "b"


class Number(enum.Enum):
    ONE = 1
    TWO = 2


class Mixed(enum.Enum):
    NUMBER = 1
    TEXT = "1"


class Pair(enum.Enum):
    P = (1, 2)
    Q = (2, 1)


class Rate(enum.Enum):
    R = Decimal("1.5")


class Ratio(enum.Enum):
    HALF = 0.5
    HUGE = 1e16


class Text(enum.StrEnum):
    X = "x"


class Level(enum.IntEnum):
    LOW = 1


class Permissions(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Point(BaseModel):
    model_config = ConfigDict(frozen=True)
    x: int = Field(default=0, ge=-5)


class Point3(Point):
    z: int = 0


class Line(BaseModel):
    sku: str
    price: Decimal
    ratio: float = 1.0
    seen: datetime | None = None


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str = ""


class Cash(BaseModel):
    kind: Literal["cash", "cheque"] = "cash"
    number: str = ""


class CardByEnum(BaseModel):
    kind: Literal[Plain.A] = Plain.A


class CashByEnum(BaseModel):
    kind: Literal[Plain.B] = Plain.B


class Base64OneWay(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")
    raw: bytes


class FloatDuration(BaseModel):
    model_config = ConfigDict(ser_json_timedelta="float")
    length: timedelta


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 1


class Private(BaseModel):
    a: int = 1
    _hidden: int = PrivateAttr(default=0)


class Computed(BaseModel):
    a: int = 1

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.a * 2


class Starred(BaseModel):
    a: int = 1

    @field_serializer("*")
    def _write(self, value: int) -> int:
        return value + 1


class Whole(BaseModel):
    a: int = 1

    @model_serializer
    def _write(self) -> dict[str, Any]:
        return {"a": 2}


class Swapped(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    a: int = Field(default=1, alias="b")
    b: int = Field(default=2, alias="a")


class Lowered(BaseModel):
    model_config = ConfigDict(str_to_lower=True)
    a: str = "UPPER"


class Uncopied(BaseModel):
    hidden: int = Field(default=0, exclude=True)
    sometimes: int = Field(default=5, exclude_if=lambda value: value == 0)


class Numbers(RootModel[list[int]]):
    pass


class Box(BaseModel, Generic[T]):
    content: T


class Tree(BaseModel):
    branches: list[Tree] = Field(default_factory=list)


class Fields(TypedDict, total=False):
    a: int
    b: datetime


@dataclass
class Coordinates:
    x: float
    tags: list[str] = field(default_factory=list)


class Place(NamedTuple):
    x: int
    y: str = ""


class OtherText(str):
    __slots__ = ()


class OtherFloat(float):
    pass


class OtherMoment(datetime):
    pass


class OtherDecimal(Decimal):
    pass


def deep(levels: int) -> Tree:
    return Tree() if levels == 0 else Tree(branches=[deep(levels - 1)])


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(["\x00", "NaN", "1", "\\u0000", "None"])
whole = st.integers() | st.sampled_from([0, 1, 2**63, 10**20, True]) | st.just(4500).map(lambda digits: 10**digits)
floats = st.floats() | st.sampled_from([-0.0, 1e16, 1e23, 1.7976931348623157e308, 5e-324, 0.1, 1e-7, 2.0])
decimals = st.decimals(allow_nan=False) | st.sampled_from([Decimal("1.50"), Decimal("-0"), Decimal("1E+30"), Decimal("NaN")])
zones = st.sampled_from(
    [
        UTC,
        timezone(timedelta(hours=5, minutes=45)),
        timezone(timedelta(hours=1, seconds=7)),
        timezone(-timedelta(hours=23, minutes=59)),
        timezone(timedelta(hours=3, microseconds=5)),
        ZoneInfo("Europe/Prague"),
        ZoneInfo("Africa/Monrovia"),
    ]
)
moments = st.datetimes(timezones=zones | st.none()) | st.sampled_from(
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone(-timedelta(hours=12))),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Prague")),
        OtherMoment(2024, 1, 1, tzinfo=UTC),
    ]
)
times = st.times() | st.times(timezones=zones)
binary = st.binary(max_size=4)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | whole | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
anything = st.one_of(
    json_values,
    decimals,
    moments,
    binary,
    st.tuples(whole),
    st.uuids(),
    st.dictionaries(whole, texts, max_size=2),
    st.sampled_from([Plain.A, Pair.P, Text.X, Level.LOW, Point(x=1), OtherText("t"), OtherFloat(1.5), {1, 2}, object()]),
)
numbers = decimals.filter(Decimal.is_finite)
lines = st.builds(Line, sku=texts, price=numbers, ratio=floats, seen=st.none() | moments)


def listed(annotation: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    """A field of the kind itself, or of something that holds such values."""
    many = st.lists(values, max_size=3)
    return st.one_of(
        st.tuples(st.just(annotation), values),
        st.tuples(st.just(annotation | None), st.none() | values) if _can_be_none(annotation) else st.nothing(),
        st.tuples(st.just(list[annotation]), many),
        st.tuples(st.just(tuple[annotation, ...]), many.map(tuple)),
        st.tuples(st.just(tuple[annotation, int]), st.tuples(values, st.integers())),
        st.tuples(st.just(dict[str, annotation]), st.dictionaries(texts, values, max_size=3)),
        st.tuples(st.just(Sequence[annotation]), many | many.map(tuple)),
        st.tuples(st.just(deque[annotation]), many.map(deque)),
        st.tuples(st.just(Mapping[str, annotation]), st.dictionaries(texts, values, max_size=2)),
    )


def keyed(annotation: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    """A field that holds such values where they must be hashable."""
    return st.one_of(
        st.tuples(st.just(annotation), values),
        st.tuples(st.just(set[annotation]), st.sets(values, max_size=3)),
        st.tuples(st.just(frozenset[annotation]), st.frozensets(values, max_size=3)),
        st.tuples(st.just(dict[annotation, int]), st.dictionaries(values, st.integers(), max_size=3)),
    )


def _can_be_none(annotation: Any) -> bool:
    try:
        _ = annotation | None
    except TypeError:
        return False
    return True


_HASHABLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, texts),
    (int, whole),
    (float, floats),
    (bool, st.booleans()),
    (Decimal, decimals),
    (UUID, st.uuids()),
    (bytes, binary),
    (date, st.dates()),
    (datetime, moments),
    (AwareDatetime, moments),
    (NaiveDatetime, moments),
    (time, times),
    (timedelta, st.timedeltas()),
    (None, st.none()),
    (Plain, st.sampled_from(Plain)),
    (Number, st.sampled_from(Number)),
    (Mixed, st.sampled_from(Mixed)),
    (Pair, st.sampled_from(Pair)),
    (Rate, st.sampled_from(Rate)),
    (Ratio, st.sampled_from(Ratio)),
    (Text, st.sampled_from(Text)),
    (Level, st.sampled_from(Level)),
    (Permissions, st.sampled_from([Permissions.READ, Permissions(3)])),
    (Bits, st.sampled_from([Bits.ONE, Bits(3)])),
    (Literal["a", "b"], st.sampled_from("ab")),
    (Literal[1, 2], st.sampled_from([1, 2])),
    (Literal[1, "1"], st.sampled_from([1, "1"])),
    (Literal[True, 0], st.sampled_from([True, 0])),
    (Literal[Plain.A], st.just(Plain.A)),
    (Literal[b"x"], st.just(b"x")),
    (Literal["a"] | None, st.sampled_from(["a", None])),
    (Literal[Number.ONE, 1], st.sampled_from([Number.ONE, 1])),
    (tuple[int, int], st.tuples(whole, whole)),
    (tuple[()], st.just(())),
    (Point, st.builds(Point, x=st.integers(0, 9))),
    (int | str, whole | texts),
    (int | float, whole | floats),
    (Decimal | float, decimals | floats),
    (str | UUID, texts | st.uuids()),
    (date | datetime, st.dates() | moments),
    (bool | int | str, st.booleans() | whole | texts),
    (str | bytes, texts | binary),
    (int | None, whole | st.none()),
    (str | None, texts | st.none()),
    (Fraction, st.fractions()),
    (ipaddress.IPv4Address, st.ip_addresses(v=4)),
    (PurePosixPath, texts.map(PurePosixPath)),
    (SecretStr, texts.map(SecretStr)),
    (Annotated[int, Field(gt=2)], st.integers(3)),
    (Annotated[str, Field(min_length=2, max_length=3)], st.text("ab", min_size=2, max_size=3)),
    (Annotated[str, Field(pattern="^a+$")], st.just("aa")),
    (Annotated[Decimal, Field(max_digits=4)], st.just(Decimal("1.5"))),
    (Annotated[int, AfterValidator(lambda value: value + 1)], st.integers()),
    (Annotated[int, PlainSerializer(lambda value: str(value * 2))], st.integers()),
    (Annotated[datetime, PlainSerializer(lambda value: value.date().isoformat())], moments),
    (re.Pattern[str], st.sampled_from([re.compile("a+")])),
    (FutureDate, st.just(date(2999, 1, 1))),
    (Place, st.builds(Place, whole, texts)),
]

_OTHERS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Any, anything),
    (object, anything),
    (JsonValue, json_values),
    (Decimal, st.just(Decimal("sNaN"))),
    (list, st.lists(anything, max_size=2)),
    (dict, json_values),
    (set, st.sets(whole, max_size=2)),
    (Line, lines),
    (Point | Line, lines | st.just(Point3(x=1, z=2))),
    (SerializeAsAny[Point], st.just(Point3())),
    (Annotated[Card | Cash, Field(discriminator="kind")], st.sampled_from([Card(number="1"), Cash(), Cash(kind="cheque")])),
    (Annotated[CardByEnum | CashByEnum, Field(discriminator="kind")], st.sampled_from([CardByEnum(), CashByEnum()])),
    (Card | Cash, st.sampled_from([Card(), Cash(number="2")])),
    (Base64OneWay, binary.map(lambda raw: Base64OneWay(raw=raw))),
    (FloatDuration, st.timedeltas().map(lambda length: FloatDuration(length=length))),
    (Open, st.sampled_from([Open(), Open.model_validate({"b": 1}), Open.model_validate({"b": Decimal(1)})])),
    (Private, st.builds(Private)),
    (Computed, st.builds(Computed)),
    (Starred, st.builds(Starred)),
    (Whole, st.sampled_from([Whole(), Whole(a=2)])),
    (Swapped, st.builds(Swapped)),
    (Lowered, st.builds(Lowered)),
    (Uncopied, st.sampled_from([Uncopied(), Uncopied(hidden=1), Uncopied(sometimes=0)])),
    (Numbers, st.lists(whole, max_size=3).map(Numbers)),
    (Box[int], whole.map(lambda value: Box[int](content=value))),
    (Box[Any], anything.map(lambda value: Box[Any](content=value))),
    (Tree, st.integers(0, 230).map(deep)),
    (Fields, st.fixed_dictionaries({}, optional={"a": whole, "b": moments})),
    (Coordinates, st.builds(Coordinates, floats, st.lists(texts, max_size=2))),
    (OrderedDict[str, int], st.sampled_from([OrderedDict(aa=1, b=2), OrderedDict(b=1, aa=2)])),
    (defaultdict[str, int], st.just(defaultdict(int, a=1))),
    (Counter[str], st.just(Counter("aab"))),
    (
        dict[str, dict[int, list[Line]]],
        st.dictionaries(texts, st.dictionaries(whole, st.lists(lines, max_size=2), max_size=2), max_size=2),
    ),
]

_KINDS = [*(keyed(*each) for each in _HASHABLE), *(listed(*each) for each in (*_HASHABLE, *_OTHERS))]


@st.composite
def kinds(draw: st.DrawFn) -> tuple[Any, Any]:
    """An annotation, and a value that Pydantic takes for it in most cases."""
    return draw(_KINDS[draw(st.integers(0, len(_KINDS) - 1))])


unvalidated = st.sampled_from(
    [
        True,
        1,
        1.0,
        "1",
        OtherText("a"),
        OtherFloat(2.5),
        OtherDecimal("1.5"),
        OtherMoment(2024, 1, 1, tzinfo=UTC),
        Point3(z=1),
        None,
        (1,),
        [1],
    ]
)
"""Values that an event holds though nobody has validated them."""
