"""Models, events and histories that Hypothesis puts together."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_serializer,
    model_validator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, map_from_event, upcast
from sa_eventsource.read_models import (
    append,
    count,
    day,
    decrement,
    first,
    increment,
    last,
    max_,
    min_,
    month,
    remove,
    sum_,
    week,
    year,
)


class Base(DeclarativeBase):
    """Base of everything generated."""


class Kind(enum.Enum):
    """An enumeration of texts."""

    SMALL = "small"
    LARGE = "large"


class Level(enum.IntEnum):
    """An enumeration of numbers."""

    LOW = 1
    HIGH = 10


class Address(BaseModel):
    """A model within an event, with a field that payloads of old lack."""

    model_config = ConfigDict(frozen=True)
    city: str
    district: str | None = None
    zone: int = 7


class Opened(DomainEvent):
    """Has a field of every type."""

    __event_type__ = "generated.Opened"
    key: str | None
    text: str | None
    number: int | None
    amount: Decimal | None
    ratio: float | None
    flag: bool | None
    on: date | None
    at: AwareDatetime | None
    uid: UUID | None
    kind: Kind | None
    level: Level | None
    tags: list[str] | None
    days: list[date]
    moments: list[AwareDatetime | None]
    uids: list[UUID]
    counts: list[int] | None
    address: Address | None
    addresses: list[Address]
    written: Annotated[str, Field(alias="written_as")] = "by alias"
    added_later: str = "default of old payloads"
    price_later: Decimal = Decimal("0.50")


class Changed(DomainEvent):
    """Shares some fields; had another name and shape once."""

    __event_type__ = "generated.Changed"
    __event_version__ = 2
    __former_types__ = ("generated.Altered",)
    key: str | None
    text: str | None
    number: int | None
    amount: Decimal | None
    at: AwareDatetime | None


@upcast(Changed, from_version=1)
def _from_version_1(payload: dict[str, Any]) -> dict[str, Any]:
    value = payload.pop("value")
    return {**payload, "amount": value, "at": None}


def _from_cents(value: Any) -> Any:
    return Decimal(value) / 100 if isinstance(value, int) else value


class Told(DomainEvent):
    """Is read otherwise than it is stored: by validators, serializers and aliases."""

    __event_type__ = "generated.Told"
    key: Annotated[str | None, AfterValidator(lambda value: value and value.strip())]
    name: Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True)]
    price: Decimal
    remark: str | None = Field(default=None, validation_alias=AliasChoices("remark", "note"))
    days: list[date] = []
    number: int | None = None

    @field_serializer("price")
    def _to_cents(self, value: Decimal) -> int:
        return int(value * 100)

    @model_validator(mode="before")
    @classmethod
    def _mend(cls, payload: Any) -> Any:
        price = payload["cost"] if "cost" in payload else payload["price"]
        return {**{name: value for name, value in payload.items() if name != "cost"}, "price": _from_cents(price)}


class Closed(DomainEvent):
    """Ends a stream's row."""

    __event_type__ = "generated.Closed"
    key: str | None
    number: int | None


class Thing(AggregateRoot, Base):
    """The aggregate that the events belong to."""

    __aggregate_type__ = "generated.Thing"
    __ignored_events__ = (Opened, Changed, Told, Closed)


AMSTERDAM = "Europe/Amsterdam"
KATHMANDU = "Asia/Kathmandu"

Declare = Callable[[], Any]

FIELDS: dict[str, tuple[Any, Declare]] = {
    "text": (str | None, lambda: map_from_event(Opened, Changed)),
    "first_text": (str | None, lambda: map_from_event(Opened, Changed, reduce=first("text"))),
    "least_text": (str | None, lambda: map_from_event(Opened, Changed, reduce=min_("text"))),
    "greatest_text": (str | None, lambda: map_from_event(Opened, reduce=max_("text"))),
    "texts": (list[str], lambda: map_from_event({Opened: append("text"), Changed: remove("text")})),
    "all_texts": (list[str], lambda: map_from_event(Opened, Changed, reduce=append("text"))),
    "different_texts": (list[str], lambda: map_from_event(Opened, Changed, reduce=append("text", distinct=True))),
    "different_numbers": (list[int], lambda: map_from_event(Opened, reduce=append("number", distinct=True))),
    "amounts": (list[Decimal], lambda: map_from_event({Opened: append("amount"), Changed: remove("amount")})),
    "moments": (list[datetime], lambda: map_from_event(Opened, reduce=append("at"))),
    "number": (int | None, lambda: map_from_event(Opened)),
    "numbers": (int, lambda: map_from_event(Opened, Changed, reduce=sum_("number"))),
    "number_as_decimal": (Decimal | None, lambda: map_from_event(Changed, source="number")),
    "amount": (Decimal | None, lambda: map_from_event(Changed)),
    "total": (Decimal, lambda: map_from_event(Opened, Changed, reduce=sum_("amount"))),
    "balance": (Decimal, lambda: map_from_event({Opened: increment("amount"), Changed: decrement("amount")})),
    "least": (Decimal | None, lambda: map_from_event(Opened, Changed, reduce=min_("amount"))),
    "greatest": (Decimal | None, lambda: map_from_event(Changed, reduce=max_("amount"))),
    "product": (Decimal | None, lambda: map_from_event(Opened, source=lambda event: event.number * event.amount - 1)),
    "joined": (str | None, lambda: map_from_event(Opened, source=lambda event: event.text + "/" + event.address.city)),
    "ratio": (float | None, lambda: map_from_event(Opened)),
    "least_ratio": (float | None, lambda: map_from_event(Opened, reduce=min_("ratio"))),
    "flag": (bool | None, lambda: map_from_event(Opened)),
    "on": (date | None, lambda: map_from_event(Opened)),
    "latest_on": (date | None, lambda: map_from_event(Opened, reduce=max_("on"))),
    "at": (datetime | None, lambda: map_from_event(Opened, Changed)),
    "earliest": (datetime | None, lambda: map_from_event(Opened, Changed, reduce=min_("at"))),
    "at_day": (date | None, lambda: map_from_event(Opened, source=day("at", KATHMANDU))),
    "week": (date | None, lambda: map_from_event(Opened, source=week("occurred_at", AMSTERDAM))),
    "year": (date | None, lambda: map_from_event(Changed, source=year())),
    "uid": (UUID | None, lambda: map_from_event(Opened)),
    "least_uid": (UUID | None, lambda: map_from_event(Opened, reduce=min_("uid"))),
    "uid_text": (str | None, lambda: map_from_event(Opened, source="uid")),
    "kind": (Kind | None, lambda: map_from_event(Opened)),
    "kind_text": (str | None, lambda: map_from_event(Opened, source="kind")),
    "level": (Level | None, lambda: map_from_event(Opened)),
    "tags": (list[str] | None, lambda: map_from_event(Opened)),
    "days": (list[date], lambda: map_from_event(Opened, Told)),
    "moments_then": (list[datetime], lambda: map_from_event(Opened, source="moments")),
    "uids": (list[UUID], lambda: map_from_event(Opened)),
    "counts": (list[int] | None, lambda: map_from_event(Opened)),
    "name": (str | None, lambda: map_from_event(Told)),
    "names": (list[str], lambda: map_from_event({Told: append("name"), Opened: append("text"), Changed: remove("text")})),
    "price": (Decimal | None, lambda: map_from_event(Told, reduce=max_())),
    "spent": (Decimal, lambda: map_from_event({Told: increment(lambda event: event.price * 2), Opened: increment("amount")})),
    "remark": (str | None, lambda: map_from_event(Told)),
    "told": (int, lambda: map_from_event(Told, reduce=count())),
    "address": (dict[str, Any] | None, lambda: map_from_event(Opened)),
    "addresses": (list[Any] | None, lambda: map_from_event(Opened)),
    "city": (str | None, lambda: map_from_event(Opened, source="address.city")),
    "zone": (int | None, lambda: map_from_event(Opened, source="address.zone")),
    "written": (str | None, lambda: map_from_event(Opened)),
    "added_later": (str | None, lambda: map_from_event(Opened)),
    "prices": (Decimal, lambda: map_from_event(Opened, reduce=sum_("price_later"))),
    "status": (str | None, lambda: map_from_event({Opened: "it's open", Changed: "100 % changed"})),
    "kind_set": (Kind | None, lambda: map_from_event({Opened: Kind.SMALL, Changed: Kind.LARGE, Closed: None})),
    "is_open": (bool | None, lambda: map_from_event({Opened: True, Closed: False})),
    "opened": (int, lambda: map_from_event(Opened, reduce=count())),
    "open_now": (int, lambda: map_from_event({Opened: increment(), Closed: decrement()})),
    "stream": (str | None, lambda: map_from_event(Opened, Changed, source="aggregate_id")),
    "stream_version": (int | None, lambda: map_from_event(Opened, Changed, source="version")),
    "last_event": (UUID | None, lambda: map_from_event(Opened, Changed, source="event_id")),
    "last_type": (str | None, lambda: map_from_event(Opened, Changed, source="event_type")),
    "last_at": (datetime | None, lambda: map_from_event(Opened, Changed, reduce=max_("occurred_at"))),
    "user": (str | None, lambda: map_from_event(Opened, Changed, source="metadata.user")),
    "user_number": (int | None, lambda: map_from_event(Opened, source="metadata.user")),
    "user_flag": (bool | None, lambda: map_from_event(Opened, source="metadata.user")),
    "user_share": (float | None, lambda: map_from_event(Changed, source="metadata.user")),
    "either": (Decimal | None, lambda: map_from_event({Opened: last("number"), Changed: last("amount")})),
}

_BY_KEY: Declare = lambda: map_from_event(key=True)  # noqa: E731
_NO_UID: dict[type[DomainEvent], Any] = {Changed: None, Told: None, Closed: None}
KEYS: dict[str, dict[str, tuple[Any, Declare]]] = {
    "aggregate": {},
    "text": {"key": (str, _BY_KEY)},
    "text and month": {
        "key": (str, _BY_KEY),
        "month": (date, lambda: map_from_event(key=True, source=month("occurred_at", AMSTERDAM))),
    },
    "day": {"day": (date, lambda: map_from_event(key=True, source=day("occurred_at", KATHMANDU)))},
    "moment": {"moment": (datetime, lambda: map_from_event(key=True, source="occurred_at"))},
    "number": {"number_key": (int, lambda: map_from_event(key=True, source="number"))},
    "uid": {"uid_key": (UUID, lambda: map_from_event({**_NO_UID, Opened: last("uid")}, key=True))},
    "aggregate and type": {
        "stream_key": (str, lambda: map_from_event(key=True, source="aggregate_id")),
        "type_key": (str, lambda: map_from_event(key=True, source="aggregate_type")),
    },
}
_WITH_AGGREGATE = ("aggregate", "aggregate and type")


@dataclass
class Recipe:
    """What a model is made of."""

    key: str
    fields: tuple[str, ...]
    is_removed: bool

    def make(self, consistency: str, *, own_table: bool = False) -> type[Any]:
        """Declare the model."""
        name = f"Generated{next(_numbers)}"
        declared = KEYS[self.key] | {each: FIELDS[each] for each in self.fields}
        namespace: dict[str, Any] = {
            "__module__": __name__,
            "__projection_name__": name,
            "__consistency__": consistency,
            "__annotations__": {each: _MAPPED[annotation] for each, (annotation, _) in declared.items()},
            **{each: declare() for each, (_, declare) in declared.items()},
        }
        if self.is_removed:
            namespace["__removed_by__"] = (Closed,)
        if own_table:
            namespace["__tablename__"] = name.lower()
        return type(name, (ReadModel, Base), namespace)


_numbers = itertools.count()
_MAPPED: Any = Mapped


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """A key, some fields, perhaps an event that removes rows."""
    key = draw(st.sampled_from(sorted(KEYS)))
    is_removed = key in _WITH_AGGREGATE and draw(st.booleans())
    possible = [each for each in FIELDS if not (is_removed and each in {"kind_set", "is_open", "open_now"})]
    fields = draw(st.lists(st.sampled_from(possible), min_size=1, max_size=8, unique=True))
    return Recipe(key, tuple(fields), is_removed)


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6) | st.sampled_from(
    ["a", "b", "é", "%"]
)
_naive = datetime  # Hypothesis adds the zone
_ZONES = [UTC, timezone(timedelta(hours=5, minutes=30)), ZoneInfo(AMSTERDAM), ZoneInfo("America/New_York")]
_MOMENTS = st.datetimes(
    min_value=_naive(1975, 1, 1), max_value=_naive(2100, 1, 1), timezones=st.sampled_from(_ZONES), allow_imaginary=False
)
_RECENT = st.datetimes(min_value=_naive(2026, 3, 27), max_value=_naive(2026, 4, 2), timezones=st.just(UTC))
_EXACT = st.decimals(min_value=-(10**6), max_value=10**6, places=2)
_ANY_DECIMAL = (
    _EXACT
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
    | st.sampled_from([Decimal("1E+3"), Decimal("0.000"), Decimal("1.10"), Decimal("1.1"), Decimal("-0.00"), Decimal("1E-20")])
)
_NUMBERS = st.integers(-3, 3) | st.integers(-(2**40), 2**40)
_METADATA = st.dictionaries(
    st.sampled_from(["user", "other"]), _TEXT | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 3.0, 1e-7]), max_size=2
)


def events(*, decimals: st.SearchStrategy[Decimal] = _ANY_DECIMAL) -> st.SearchStrategy[DomainEvent]:
    """An event with any values."""
    key = st.sampled_from(["x", "y", 'q"', None])
    number = st.none() | _NUMBERS
    address = st.none() | st.builds(Address, city=_TEXT, district=st.none() | _TEXT, zone=st.integers(0, 3))
    opened = st.builds(
        Opened,
        key=key,
        text=st.none() | _TEXT,
        number=number,
        amount=st.none() | decimals,
        ratio=st.none() | st.floats(allow_nan=False, allow_infinity=False).map(lambda each: each + 0.0),
        flag=st.none() | st.booleans(),
        on=st.none() | st.dates(min_value=date(1, 1, 1)),
        at=st.none() | _MOMENTS,
        uid=st.none() | st.uuids(),
        kind=st.none() | st.sampled_from(Kind),
        level=st.none() | st.sampled_from(Level),
        tags=st.none() | st.lists(_TEXT, max_size=2),
        days=st.lists(st.dates(), max_size=2),
        moments=st.lists(st.none() | _MOMENTS, max_size=2),
        uids=st.lists(st.uuids(), max_size=2),
        counts=st.none() | st.lists(_NUMBERS, max_size=2),
        address=address,
        addresses=st.lists(st.builds(Address, city=_TEXT), max_size=2),
        written_as=_TEXT,
        added_later=_TEXT,
        price_later=decimals,
    )
    changed = st.builds(
        Changed, key=key, text=st.none() | _TEXT, number=number, amount=st.none() | decimals, at=st.none() | _MOMENTS
    )
    told = st.builds(
        Told,
        key=key,
        name=_TEXT,
        price=st.decimals(min_value=0, max_value=10**6, places=2),
        remark=st.none() | _TEXT,
        days=st.lists(st.dates(), max_size=2),
        number=number,
    )
    closed = st.builds(Closed, key=key, number=number)
    return opened | opened | changed | changed | told | closed


@dataclass
class Happening:
    """One event of a history: of which stream, when, with which metadata."""

    stream: str
    event: DomainEvent
    occurred_at: datetime
    metadata: dict[str, Any]


def histories(*, decimals: st.SearchStrategy[Decimal] = _ANY_DECIMAL, max_size: int = 14) -> st.SearchStrategy[list[Happening]]:
    """Events of a few streams."""
    happening = st.builds(
        Happening,
        stream=st.sampled_from(["s1", "s2", "s3"]),
        event=events(decimals=decimals),
        occurred_at=_RECENT,
        metadata=_METADATA,
    )
    return st.lists(happening, min_size=1, max_size=max_size)


EXACT_DECIMALS = _EXACT
"""Decimals that SQLite's binary fractions keep."""
