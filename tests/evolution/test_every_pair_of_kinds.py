"""Every kind of field, changed into every other one: the check is held to what Pydantic reads, by values at the edges of each kind.

Where the check finds nothing, what the first class has stored is read by the second, and means the same. Where it calls a change
incompatible, one of the values shows it: it is refused, or read as another one. Both directions are among the ordered pairs: what
is FORWARD for one is BACKWARD for the other.
"""

from __future__ import annotations

import enum
import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic_core import to_jsonable_python
from sqlalchemy import create_engine, text

from sa_eventsource import DomainEvent, EventDecodeError, EventPayloadError
from sa_eventsource.events import decode, encode
from sa_eventsource.evolution import Shape, differences, shape_of


class Suit(enum.Enum):
    HEARTS = "hearts"
    SPADES = "spades"


class MoreSuits(enum.Enum):
    HEARTS = "hearts"
    SPADES = "spades"
    CLUBS = "clubs"


class Grade(enum.IntEnum):
    LOW = 0
    HIGH = 1


class Place(BaseModel):
    street: str
    number: int = 1


class PlaceWithNote(Place):
    note: str | None = None


class PlaceByDecimal(BaseModel):
    street: str
    number: Decimal


class ClosedPlace(BaseModel):
    model_config = ConfigDict(extra="forbid")
    street: str
    number: int = 1


class ByCard(BaseModel):
    by: Literal["card"] = "card"
    number: str


class ByCash(BaseModel):
    by: Literal["cash"] = "cash"
    amount: Decimal


class Count(RootModel[int]):
    pass


class Counts(RootModel[list[int]]):
    pass


class Code(RootModel[Annotated[str, Field(max_length=3)]]):
    model_config = ConfigDict(frozen=True)


class Kind(NamedTuple):
    """A kind of field: how it is declared, values at its edges, and what stands behind its name."""

    annotation: Any
    values: tuple[Any, ...]
    field: dict[str, Any] = {}


WHOLE = (0, 1, -1, 7, 100, 101, 255, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 10**30, 10**400)
FLOATS = (0.0, 1.0, -1.0, 0.5, 0.1, -0.1, 1e16, 1e22, 1.5e300, 5e-324, 2.0**53, 100.0, 100.5)
DECIMALS = (
    *map(Decimal, ("0", "1", "-1", "1.0", "1.50", "0.1", "-0.10", "1E+2", "1e-7", "100.01")),
    Decimal("123456789012345678.123456789"),
)
TEXTS = ("", "a", "1", "0", "1.0", "true", "null", "abcdef", "ä\U0001f600", " 1 ", "2020-01-01", "aGk=", "hearts", "x" * 300)
UUIDS = (
    UUID(int=0),
    UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479"),
    UUID("0198a5a4-3c00-7abc-8def-0123456789ab"),
    UUID(int=2**128 - 1),
)
DATES = (date(1, 1, 1), date(1970, 1, 1), date(2000, 2, 29), date(9999, 12, 31))
MOMENTS = (
    datetime(1, 1, 2, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2025, 3, 1, 12, 30, 1, 5, tzinfo=UTC),
    datetime(2025, 3, 1, 23, tzinfo=timezone(timedelta(hours=-11))),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
)
TIMES = (time(0), time(12, 30), time(23, 59, 59, 999_999), time(1, 2, tzinfo=UTC))
SPANS = (timedelta(0), timedelta(days=1), timedelta(seconds=-1), timedelta(days=400, microseconds=1), timedelta(hours=36))
BYTES = (b"", b"a", b"1", b"hi", "ä".encode(), b"more than two")
PLACES: tuple[dict[str, Any], ...] = ({"street": "s"}, {"street": "", "number": 2**53 + 1})
CARD, CASH = ByCard(number="1"), ByCash(amount=Decimal("1.50"))

KINDS: dict[str, Kind] = {
    "int": Kind(int, WHOLE),
    "int from 0": Kind(Annotated[int, Field(ge=0)], (0, 1, 2**53 + 1, 10**30)),
    "int above 0": Kind(Annotated[int, Field(gt=0)], (1, 2, 2**53 + 1, 10**30)),
    "int to 100": Kind(Annotated[int, Field(ge=0, le=100)], (0, 1, 50, 100)),
    "int to 2**53": Kind(Annotated[int, Field(ge=-(2**53), le=2**53)], (0, 1, -(2**53), 2**53)),
    "even int": Kind(Annotated[int, Field(multiple_of=2)], (0, 2, -4, 2**60)),
    "int by fours": Kind(Annotated[int, Field(multiple_of=4)], (0, 4, -8, 2**60)),
    "float": Kind(float, FLOATS),
    "float from 0": Kind(Annotated[float, Field(ge=0)], (0.0, 0.5, 1e22, 5e-324)),
    "float to 1": Kind(Annotated[float, Field(ge=0, lt=1)], (0.0, 0.5, 0.999999999)),
    "Decimal": Kind(Decimal, DECIMALS),
    "Decimal from 0": Kind(Annotated[Decimal, Field(ge=0)], tuple(each for each in DECIMALS if each >= 0)),
    "money": Kind(Annotated[Decimal, Field(max_digits=6, decimal_places=2)], (*map(Decimal, ("0", "-1.5", "1234.56", "9999.99")),)),
    "money of 4 places": Kind(
        Annotated[Decimal, Field(max_digits=8, decimal_places=4)], (*map(Decimal, ("0", "-1.5", "1234.5678", "0.0001")),)
    ),
    "short money of 4 places": Kind(
        Annotated[Decimal, Field(max_digits=6, decimal_places=4)], (*map(Decimal, ("0", "-1.5", "99.9999", "0.0001")),)
    ),
    "Decimal of 3 places": Kind(Annotated[Decimal, Field(decimal_places=3)], (*map(Decimal, ("0", "-1.123", "1E+20", "1234.7")),)),
    "Decimal of 6 digits": Kind(Annotated[Decimal, Field(max_digits=6)], (*map(Decimal, ("0", "-123456", "0.12345", "1.50")),)),
    "whole Decimal": Kind(
        Annotated[Decimal, Field(decimal_places=0)], tuple(map(Decimal, ("0", "7", "-100", "1E+2", "9007199254740993", "1E+400")))
    ),
    "bool": Kind(bool, (True, False)),
    "str": Kind(str, TEXTS),
    "str to 3": Kind(Annotated[str, Field(max_length=3)], ("", "abc", "1", "äöü")),
    "str from 1": Kind(Annotated[str, Field(min_length=1)], ("a", "1", "abcdef", " ", "\U0001f600")),
    "digits": Kind(Annotated[str, Field(pattern=r"^\d*$")], ("", "0", "007", "12345678")),
    "bytes": Kind(bytes, BYTES),
    "bytes to 2": Kind(Annotated[bytes, Field(max_length=2)], (b"", b"hi", "ä".encode())),
    "date": Kind(date, DATES),
    "date from 2000": Kind(Annotated[date, Field(ge=date(2000, 1, 1))], (date(2000, 1, 1), date(9999, 12, 31))),
    "datetime": Kind(datetime, MOMENTS),
    "time": Kind(time, TIMES),
    "timedelta": Kind(timedelta, SPANS),
    "UUID": Kind(UUID, UUIDS),
    "Enum": Kind(Suit, tuple(Suit)),
    "wider Enum": Kind(MoreSuits, tuple(MoreSuits)),
    "IntEnum": Kind(Grade, tuple(Grade)),
    "Literal": Kind(Literal["hearts", "spades"], ("hearts", "spades")),
    "Literal int": Kind(Literal[0, 1], (0, 1)),
    "Literal str int": Kind(Literal["0", "1"], ("0", "1")),
    "Literal bool": Kind(Literal[True], (True,)),
    "Any": Kind(Any, (None, True, 1, 2**53 + 1, "a", "1", 1.5, ["a"], {"a": 1})),
    "Optional int": Kind(int | None, (None, *WHOLE)),
    "Optional float": Kind(float | None, (None, *FLOATS)),
    "Optional str": Kind(str | None, (None, *TEXTS)),
    "Optional UUID": Kind(UUID | None, (None, *UUIDS)),
    "Optional Enum": Kind(Suit | None, (None, *Suit)),
    "list of int": Kind(list[int], ([], [1], [0, 0, 2**53 + 1])),
    "list of str": Kind(list[str], ([], ["a"], ["a", "a"], ["1", ""])),
    "list of float": Kind(list[float], ([], [0.1], [1.0, 1.0, 1e22])),
    "list of Decimal": Kind(list[Decimal], ([], [Decimal("0.10"), Decimal("0.1")], [Decimal("1E+2")], [Decimal(1), Decimal(1)])),
    "short list": Kind(Annotated[list[int], Field(max_length=2)], ([], [1, 1], [2**53 + 1])),
    "set of int": Kind(set[int], (set(), {1}, {0, 1, 2**53 + 1})),
    "set of str": Kind(set[str], (set(), {"a"}, {"a", "1"})),
    "frozenset of int": Kind(frozenset[int], (frozenset(), frozenset({0, 1, 2**53 + 1}))),
    "tuple of int": Kind(tuple[int, ...], ((), (1,), (1, 1, 1), (2**53 + 1,))),
    "pair": Kind(tuple[int, str], ((1, "a"), (2**53 + 1, "1"))),
    "pair of int": Kind(tuple[int, int], ((1, 1), (0, 2**53 + 1))),
    "triple": Kind(tuple[int, int, int], ((1, 2, 3), (1, 1, 2**53 + 1))),
    "dict of int": Kind(dict[str, int], ({}, {"a": 1}, {"1": 2**53 + 1, "": 0})),
    "dict of float": Kind(dict[str, float], ({}, {"a": 0.1}, {"1": 1.0})),
    "dict by UUID": Kind(dict[UUID, int], ({}, {UUIDS[1]: 1, UUIDS[0]: 2**53 + 1})),
    "dict by int": Kind(dict[int, int], ({}, {1: 1, -1: 2**53 + 1})),
    "model": Kind(Place, tuple(Place(**each) for each in PLACES)),
    "model with note": Kind(PlaceWithNote, (PlaceWithNote(street="s"), PlaceWithNote(street="s", note="n"))),
    "model by Decimal": Kind(PlaceByDecimal, (PlaceByDecimal(street="s", number=Decimal("1.5")),)),
    "closed model": Kind(ClosedPlace, tuple(ClosedPlace(**each) for each in PLACES)),
    "Optional model": Kind(Place | None, (None, Place(street="s"))),
    "list of models": Kind(list[Place], ([], [Place(street="s"), Place(street="s")])),
    "tagged union": Kind(Annotated[ByCard | ByCash, Field(discriminator="by")], (CARD, CASH)),
    "one of the union": Kind(ByCard, (CARD,)),
    "untagged union": Kind(ByCard | ByCash, (CARD, CASH)),
    "Optional tagged union": Kind(Annotated[ByCard | ByCash | None, Field(discriminator="by")], (None, CARD, CASH)),
    "root of int": Kind(Count, tuple(map(Count, WHOLE))),
    "root of short str": Kind(Code, (Code(""), Code("abc"))),
    "root of list": Kind(Counts, (Counts([]), Counts([1, 1, 2**53 + 1]))),
    "list of roots": Kind(list[Count], ([], [Count(1), Count(1), Count(2**53 + 1)])),
    "int or str": Kind(int | str, (0, 1, 2**53 + 1, "a", "1", "")),
    "str or int": Kind(str | int, (0, 1, 2**53 + 1, "a", "1", "")),
    "UUID or str": Kind(UUID | str, (*UUIDS, "a", "")),
    "bool or int": Kind(bool | int, (True, False, 0, 1, 2, 2**53 + 1)),
    "int or float": Kind(int | float, (0, -1, 2**53 + 1, 0.5, 1e-7)),
    "bool or str": Kind(bool | str, (True, False, "true", "1", "")),
    "bool or Decimal": Kind(bool | Decimal, (True, False, *DECIMALS)),
    "date or Decimal": Kind(date | Decimal, (*DATES, *DECIMALS)),
    "datetime or float": Kind(datetime | float, (*MOMENTS, *FLOATS)),
    "timedelta or int": Kind(timedelta | int, (*SPANS, *WHOLE)),
    "Enum or int": Kind(Grade | int, (*Grade, -1, 2, 2**53 + 1)),
    "date or str": Kind(date | str, (*DATES, "a", "")),
    "model or str": Kind(Place | str, (Place(street="s"), "a", "")),
    "int under an alias": Kind(int, WHOLE, {"alias": "b"}),
    "int with a default": Kind(int, WHOLE, {"default": 5}),
    "str with a default": Kind(str, TEXTS, {"default": "5"}),
    "int with a default under an alias": Kind(int, WHOLE, {"alias": "b", "default": 5}),
    "list with a default": Kind(list[int], ([], [1, 1, 2**53 + 1]), {"default_factory": list}),
}
"""All that a field may be, by name."""


def _class(name: str, kind: Kind) -> type[DomainEvent]:
    body = {"a": Field(**kind.field)} if kind.field else {}
    options = {
        "__module__": __name__,
        "__qualname__": name,
        "__event_type__": f"pairs.{name}",
        "__annotations__": {"a": kind.annotation},
    }
    return type(name, (DomainEvent,), {**options, **body})


CLASSES = {name: _class(name, kind) for name, kind in KINDS.items()}
SHAPES: dict[str, Shape] = {name: shape_of(each) for name, each in CLASSES.items()}


@pytest.fixture(scope="module")
def stored(postgres_url: str) -> dict[str, list[tuple[Any, str]]]:
    """What the classes write, by kind: each value, and the JSON text that PostgreSQL gives back of it."""
    written: dict[str, list[tuple[Any, str]]] = {}
    engine = create_engine(postgres_url)
    ask = text("SELECT CAST(t AS jsonb)::text FROM unnest(CAST(:texts AS text[])) WITH ORDINALITY AS u(t, n) ORDER BY n")
    with engine.connect() as connection:
        for name, kind in KINDS.items():
            events = [(value, CLASSES[name](**{kind.field.get("alias", "a"): value})) for value in kind.values]
            storable = [(value, encoded) for value, event in events if (encoded := _encoded(event)) is not None]
            texts = connection.scalars(ask, {"texts": [encoded for _, encoded in storable]}).all()
            written[name] = [(value, given) for (value, _), given in zip(storable, texts, strict=True)]
    engine.dispose()
    return written


def _encoded(event: DomainEvent) -> str | None:
    try:
        return encode(event)
    except EventPayloadError:
        return None  # no such event is in a log


def _is_same(written: Any, read: Any) -> bool:
    """Check whether two values mean the same: numbers by what they count, times and ids also as texts, models by their fields.

    A Decimal and its text are not the same: 1.5 and 1.50 are one number, and two texts.
    """
    written, read = (each.value if isinstance(each, enum.Enum) else each for each in (written, read))
    written, read = (each.root if isinstance(each, RootModel) else each for each in (written, read))
    if isinstance(written, bool) or isinstance(read, bool) or written is None or read is None:
        return written is read
    if isinstance(written, int | float | Decimal) and isinstance(read, int | float | Decimal):
        return _number(written) == (Decimal(read) if isinstance(written, Decimal) else _number(read))
    if isinstance(written, BaseModel | dict) and isinstance(read, BaseModel | dict):
        return _has_same_members(written, read)
    if isinstance(written, list | tuple | set | frozenset) and isinstance(read, list | tuple | set | frozenset):
        return _has_same_items(written, read)
    if isinstance(read, str) and not isinstance(written, str | int | float | Decimal | bytes):
        return bool(to_jsonable_python(written) == read)
    return type(written) is type(read) and bool(written == read)


def _number(value: float | Decimal) -> Decimal:
    """Say which number is written: a float is written as the shortest text that it is read from."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _has_same_members(written: BaseModel | dict[Any, Any], read: BaseModel | dict[Any, Any]) -> bool:
    before, after = _members(written), _members(read)
    is_complete = before.keys() <= after.keys() if isinstance(read, BaseModel) else before.keys() == after.keys()
    return is_complete and all(_is_same(value, after[key]) for key, value in before.items())


def _members(value: BaseModel | dict[Any, Any]) -> dict[str, Any]:
    return {str(key): each for key, each in dict(value).items()}


def _has_same_items(written: Any, read: Any) -> bool:
    if isinstance(written, set | frozenset) or isinstance(read, set | frozenset):
        left = list(read)
        for each in written:
            match = next((other for other in left if _is_same(each, other)), left)
            if match is left:
                return False
            left.remove(match)
        return not left
    return len(written) == len(read) and all(map(_is_same, written, read))


def _why_lost(value: Any, given: str, written: str, read: str) -> str | None:
    """Say what happens to a stored value for the second class, if that is something else."""
    try:
        event = decode(f"pairs.{read}", 1, given)
    except EventDecodeError as error:
        return f"{given} is refused: {error.reason}"
    assert isinstance(event, CLASSES[read])
    key = KINDS[written].field.get("alias", "a")
    if KINDS[read].field.get("alias", "a") != key:
        return f"{given} is read as {event!r}: {key} is dropped"
    found = vars(event)["a"]
    if KINDS[read].annotation is Any:
        value = json.loads(given)[key]  # it takes JSON as it is
    return None if _is_same(value, found) else f"{given} is read as {found!r}"


@pytest.mark.parametrize("written", KINDS)
def test_what_is_called_compatible_is_read_as_it_was_and_what_is_not_has_an_example(
    written: str, stored: dict[str, list[tuple[Any, str]]]
) -> None:
    wrong = []
    for read in KINDS:
        found = differences(SHAPES[written], SHAPES[read])
        lost = next(filter(None, (_why_lost(value, given, written, read) for value, given in stored[written])), None)
        if not found and lost is not None:
            wrong.append(f"{written} -> {read} is called compatible: {lost}")
        is_refuted = any(each.verdict == "incompatible" for each in found)
        if is_refuted and lost is None:
            wrong.append(f"{written} -> {read} is called incompatible, and all values are read: {found[0].reason}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("int by fours", "even int"),
        ("money", "money of 4 places"),
        ("Decimal of 3 places", "Decimal"),
        ("tagged union", "Optional tagged union"),
        ("root of int", "int"),
        ("int", "root of int"),
        ("str to 3", "root of short str"),
        ("root of list", "list of int"),
        ("list of roots", "list of int"),
    ],
)
def test_what_is_wider_is_proven(written: str, read: str) -> None:
    assert differences(SHAPES[written], SHAPES[read]) == []
