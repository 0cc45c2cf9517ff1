"""Which fields of a payload the database reads as the event's class does."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    PlainSerializer,
    StringConstraints,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from sa_eventsource import DomainEvent
from sa_eventsource.events import is_stored_plainly


class Colour(enum.Enum):
    """Members by value."""

    RED = "red"


class Tolerant(enum.Enum):
    """Members by value, in any case."""

    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.RED if str(value).lower() == "red" else None


class Street(BaseModel):
    """Has a plain field and one that is stripped."""

    name: str
    number: Annotated[str, StringConstraints(strip_whitespace=True)] = ""


class Place(BaseModel):
    """Has plain fields."""

    city: str
    area: Decimal | None = None


class Stripped(BaseModel):
    """Strips all its texts."""

    model_config = ConfigDict(str_strip_whitespace=True)
    city: str


class Node(BaseModel):
    """Holds itself."""

    children: list[Node] = []


class Computed(BaseModel):
    """Writes more than it has."""

    city: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return len(self.city)


class Everything(DomainEvent):
    """Fields that are read as they are stored, and others."""

    __event_type__ = "stored.Everything"
    text: str
    short: Annotated[str, Field(max_length=3, pattern="a+")]
    number: Annotated[int, Field(ge=0)]
    amount: Annotated[Decimal, Field(max_digits=5)] | None = None
    ratio: float = 0.5
    flag: bool = True
    on: date
    at: AwareDatetime
    naive: datetime
    uid: UUID
    colour: Colour = Colour.RED
    word: Literal["a", "b"]
    tags: list[str] = []
    anything: Any
    document: dict[str, Any]
    place: Place
    places: list[Place]
    renamed: str = Field(alias="written_as")
    stripped: Annotated[str, StringConstraints(strip_whitespace=True)]
    lowered: Annotated[str, StringConstraints(to_lower=True)]
    mended: Annotated[Decimal, BeforeValidator(lambda value: value or 0)]
    reversed: Annotated[str, PlainSerializer(lambda value: value[::-1])]
    old_names: str = Field(validation_alias=AliasChoices("old_names", "names"))
    left_out: str = Field(default="", exclude=True)
    url: HttpUrl
    tolerant: Tolerant
    street: Street
    of_config: Stripped
    node: Node
    computed: Computed
    checked: str

    @field_validator("checked")
    @classmethod
    def _check(cls, value: str) -> str:
        return value


PLAIN = [
    "text",
    "short",
    "number",
    "amount",
    "ratio",
    "flag",
    "on",
    "at",
    "naive",
    "uid",
    "colour",
    "word",
    "tags",
    "anything",
    "document",
    "place",
    "places",
    "renamed",
    "place.city",
    "place.area",
    "street.name",
]
OTHERWISE = [
    "stripped",
    "lowered",
    "mended",
    "reversed",
    "old_names",
    "left_out",
    "url",
    "tolerant",
    "street",
    "street.number",
    "of_config",
    "of_config.city",
    "node",
    "node.children",
    "computed",
    "checked",
]


@pytest.mark.parametrize("path", PLAIN)
def test_what_is_known_is_plain(path: str) -> None:
    assert is_stored_plainly(Everything, path.split("."))


@pytest.mark.parametrize("path", OTHERWISE)
def test_what_is_not_known_is_read_by_the_class(path: str) -> None:
    assert not is_stored_plainly(Everything, path.split("."))


def _starred() -> type[DomainEvent]:
    class Event(DomainEvent):
        __event_type__ = "stored.starred"
        text: str

        @field_serializer("*")
        def _write(self, value: Any) -> Any:
            return value

    return Event


def _serialized() -> type[DomainEvent]:
    class Event(DomainEvent):
        __event_type__ = "stored.serialized"
        text: str

        @model_serializer(mode="wrap")
        def _write(self, handler: Any) -> Any:
            return handler(self)

    return Event


def _validated() -> type[DomainEvent]:
    class Event(DomainEvent):
        __event_type__ = "stored.validated"
        text: str

        @model_validator(mode="before")
        @classmethod
        def _read(cls, values: Any) -> Any:
            return values

    return Event


def _of_seconds() -> type[DomainEvent]:
    class Event(DomainEvent):
        __event_type__ = "stored.of_seconds"
        model_config = ConfigDict(ser_json_temporal="seconds")
        text: AwareDatetime

    return Event


def _by_name_too() -> type[DomainEvent]:
    class Event(DomainEvent):
        __event_type__ = "stored.by_name_too"
        model_config = ConfigDict(populate_by_name=True)
        text: str = Field(alias="words")

    return Event


def _finished() -> type[DomainEvent]:
    class Event(DomainEvent):
        __event_type__ = "stored.finished"
        text: str

        def model_post_init(self, context: Any, /) -> None:
            object.__setattr__(self, "text", self.text.lower())

    return Event


@pytest.mark.parametrize("make", [_starred, _serialized, _validated, _of_seconds, _by_name_too, _finished])
def test_what_concerns_the_whole_event_concerns_each_field(make: Any) -> None:
    assert not is_stored_plainly(make(), ["text"])
