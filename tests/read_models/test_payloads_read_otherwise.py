"""What an event's own validators and serializers make of a payload is what every way to a row's value makes of it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventReplayer,
    EventStore,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    fold,
    handles,
    map_from_event,
)
from sa_eventsource.read_models import sum_
from tests.committing import commit_events, commit_stored

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def from_cents(value: Any) -> Any:
    return Decimal(value) / 100 if isinstance(value, int) and not isinstance(value, bool) else value


class Starred(DomainEvent):
    """Writes all fields as cents."""

    __event_type__ = "otherwise.Starred"
    value: Decimal

    @field_serializer("*")
    def _write(self, value: Decimal) -> int:
        return int(value * 100)

    @field_validator("value", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return from_cents(value)


class Whole(DomainEvent):
    """Is written as a whole."""

    __event_type__ = "otherwise.Whole"
    value: Decimal

    @model_serializer(mode="wrap")
    def _write(self, _handler: Any) -> dict[str, int]:
        return {"cents": int(self.value * 100)}

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        return {"value": from_cents(values["cents"])} if "cents" in values else values


class Mended(DomainEvent):
    """Knows what its field was called once."""

    __event_type__ = "otherwise.Mended"
    value: Decimal

    @model_validator(mode="before")
    @classmethod
    def _mend(cls, values: Any) -> Any:
        return {"value": values["amount"]} if "amount" in values else values


class Aliased(DomainEvent):
    """Likewise, by aliases."""

    __event_type__ = "otherwise.Aliased"
    value: str = Field(validation_alias=AliasChoices("value", "old"))


class Lowered(DomainEvent):
    """Got a validator later."""

    __event_type__ = "otherwise.Lowered"
    value: str

    @field_validator("value")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.strip().lower()


class Configured(DomainEvent):
    """Strips all its texts."""

    __event_type__ = "otherwise.Configured"
    model_config = ConfigDict(str_strip_whitespace=True)
    value: str


class Seconds(DomainEvent):
    """Writes times as numbers."""

    __event_type__ = "otherwise.Seconds"
    model_config = ConfigDict(ser_json_temporal="seconds")
    value: datetime


class Grade(enum.Enum):
    """Finds its members in any case."""

    GOOD = "good"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.GOOD if str(value).lower() == "good" else None


class Graded(DomainEvent):
    """Has such a member."""

    __event_type__ = "otherwise.Graded"
    value: Grade


class Sealed(BaseModel):
    """Is written backwards."""

    text: Annotated[str, PlainSerializer(lambda value: value[::-1]), PlainValidator(lambda value: value[::-1])]
    note: Annotated[str, StringConstraints(to_upper=True)] = ""


class Enclosing(DomainEvent):
    """Has a model within that is read otherwise."""

    __event_type__ = "otherwise.Enclosing"
    value: Sealed


class Parts(DomainEvent):
    """Has models where the database does not reach them."""

    __event_type__ = "otherwise.Parts"
    value: dict[str, Sealed]


class Plain(DomainEvent):
    """Is read as it is stored, except for its forms."""

    __event_type__ = "otherwise.Plain"
    uid: UUID
    number: int
    days: list[date] = []
    moments: list[datetime] = []


class Address(BaseModel):
    """Knows some keys."""

    city: str
    zone: int = 7


class Moved(DomainEvent):
    """Has a document of it."""

    __event_type__ = "otherwise.Moved"
    address: Address
    others: list[Address] = []


UID = "AB3DE6A2-98C1-4E1B-B6A5-0F1BFE1F8A01"

# The event, the field, its type; what is stored: an event, or an older payload; what is right.
CASES: dict[str, tuple[type[DomainEvent], str, Any, Any, Any]] = {
    "a serializer of all fields": (Starred, "value", Decimal, lambda: Starred(value=Decimal("1.5")), Decimal("1.5")),
    "a serializer of the event": (Whole, "value", Decimal, lambda: Whole(value=Decimal("1.5")), Decimal("1.5")),
    "a validator of older payloads": (Mended, "value", Decimal, {"amount": "7.5"}, Decimal("7.5")),
    "an older alias": (Aliased, "value", str, {"old": "x"}, "x"),
    "a later validator": (Lowered, "value", str, {"value": " ABC "}, "abc"),
    "a later setting": (Configured, "value", str, {"value": " ABC "}, "ABC"),
    "times as numbers": (Seconds, "value", datetime, lambda: Seconds(value=MOMENT), MOMENT),
    "an enumeration that finds members": (Graded, "value", Grade, {"value": "GOOD"}, Grade.GOOD),
    "a field of a model within": (Enclosing, "value.note", str, {"value": {"text": "cba", "note": "ok"}}, "OK"),
    "a model within": (
        Enclosing,
        "value",
        dict[str, Any],
        {"value": {"text": "cba", "note": "ok"}},
        {"text": "cba", "note": "OK"},
    ),
    "models out of reach": (Parts, "value", dict[str, Any], {"value": {"x": {"text": "a"}}}, {"x": {"text": "a", "note": ""}}),
    "a UUID in capitals": (Plain, "uid", UUID, {"uid": UID, "number": 7}, UUID(UID)),
    "a UUID in capitals as text": (Plain, "uid", str, {"uid": UID, "number": 7}, UID.lower()),
    "a whole number with a point": (Plain, "number", int, {"uid": UID, "number": 7.0}, 7),
    "days": (Plain, "days", list[date], {"uid": UID, "number": 7, "days": ["2026-01-01T00:00:00"]}, [date(2026, 1, 1)]),
    "moments": (
        Plain,
        "moments",
        list[datetime],
        {"uid": UID, "number": 7, "moments": ["2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.5Z"]},
        [MOMENT, MOMENT.replace(microsecond=500_000)],
    ),
    "keys that a model does not know": (
        Moved,
        "address",
        dict[str, Any],
        {"address": {"city": "Utrecht", "street": "Oudegracht"}},
        {"city": "Utrecht", "zone": 7},
    ),
    "keys that models do not know": (
        Moved,
        "others",
        list[Any],
        {"address": {"city": "Utrecht"}, "others": [{"city": "Gouda", "zone": 1, "street": "Markt"}]},
        [{"city": "Gouda", "zone": 1}],
    ),
}


@pytest.mark.parametrize("own_table", [False, True], ids=["shared table", "own table"])
@pytest.mark.parametrize("what", CASES)
def test_every_way_reads_it_as_the_class_does(engine: Engine, what: str, own_table: bool) -> None:
    event_class, source, kind, stored, right = CASES[what]
    held: Any = Mapped

    class Base(DeclarativeBase): ...

    class Thing(AggregateRoot[str], Base):
        __ignored_events__ = (event_class,)

    def declare(consistency: str) -> Any:
        namespace = {"__tablename__": f"things_{consistency}"} if own_table else {}
        return type(
            f"Things{consistency}",
            (ReadModel, Base),
            {
                "__module__": __name__,
                "__consistency__": consistency,
                "__annotations__": {"id": Mapped[str], "field": held[kind]},
                "id": map_from_event(key=True, source="log.aggregate_id"),
                "field": map_from_event(event_class, source=source),
                **namespace,
            },
        )

    strong, eventual = declare("strong"), declare("eventual")
    Base.metadata.create_all(engine)

    def value(model: Any) -> Any:
        with Session(engine) as session:
            return session.scalars(select(model.field)).one()

    if isinstance(stored, dict):
        commit_stored(engine, Thing, "x", event_class.__event_type__, stored)
        EventReplayer(engine, Base).rebuild(strong)
    else:
        commit_events(engine, Thing, "x", stored())
    with Session(engine) as session:
        folded = fold(eventual, EventStore(session, Base).events.all())
    found = {"the fold": folded["x"]["field"], "the strong model": value(strong)}
    manager = ReadModelManager(engine, Base)
    assert manager.catch_up(eventual) == 1
    found["the catch-up"] = value(eventual)
    EventReplayer(engine, Base).rebuild(eventual)
    found["the rebuild"] = value(eventual)
    EventReplayer(engine, Base).rebuild_rows(eventual, ["x"])
    found["the rebuild of the row"] = value(eventual)
    assert found == dict.fromkeys(found, right)
    assert {type(each) for each in found.values()} == {type(right)}


class Base(DeclarativeBase):
    """Base of an account."""


class Account(AggregateRoot[str], Base):
    """Has events of both kinds."""

    __aggregate_type__ = "otherwise.Account"
    __ignored_events__ = (Starred, Lowered, Plain)


class Totals(ReadModel, Base):
    """Takes events of both kinds, and a handler between them."""

    __tablename__ = "otherwise_totals"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(key=True, source="log.aggregate_id")
    total: Mapped[Decimal] = map_from_event({Starred: sum_("value"), Plain: sum_("number")})
    seen: Mapped[Decimal | None] = mapped_column(default=None)

    @classmethod
    @handles(Lowered)
    def _lowered(cls, recorded: RecordedEvent[Lowered], session: Session) -> None:
        row = session.get_one(cls, recorded.aggregate_id)
        row.seen = row.total


class Sums(ReadModel, Base):
    """Takes events of both kinds."""

    __consistency__ = "strong"

    id: Mapped[str]
    total: Mapped[Decimal] = map_from_event({Starred: sum_("value"), Plain: sum_("number")})


def test_events_of_both_kinds_meet_in_one_row(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(account := Account(id="x"))
        account.apply_event(Starred(value=Decimal("1.5")))
        account.apply_event(Plain(uid=UUID(int=1), number=2))
        account.apply_event(Lowered(value="now"))
        account.apply_event(Starred(value=Decimal("0.25")))
        session.commit()
        account.apply_event(Plain(uid=UUID(int=2), number=1))
        session.commit()
    for _ in range(2):
        with Session(engine) as session:
            row = session.get_one(Totals, "x")
            assert (row.total, row.seen, row.version) == (Decimal("4.75"), Decimal("3.5"), 4)
            assert session.get_one(Sums, "x").total == Decimal("4.75")
        for model in (Totals, Sums):
            EventReplayer(engine, Base).rebuild(model)


def test_a_reading_of_its_own_is_another_declaration() -> None:
    def declare(event_class: type[DomainEvent]) -> str:
        class Own(DeclarativeBase): ...

        class Rows(ReadModel, Own):
            id: Mapped[str]
            value: Mapped[str] = map_from_event(event_class)

        fingerprint: str = Rows.__read_model_definition__.fingerprint
        return fingerprint

    def make(constraints: Callable[[], Any]) -> type[DomainEvent]:
        class Said(DomainEvent):
            __event_type__ = "otherwise.Said"
            value: Annotated[str, constraints()]

        return Said

    stripped = declare(make(lambda: StringConstraints(strip_whitespace=True)))
    assert declare(make(lambda: StringConstraints(max_length=9))) != stripped
