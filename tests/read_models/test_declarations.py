"""How declarations are understood: sources, reducers, keys, types, bases and mixins."""

# ruff: noqa: E501 - tables of declarations and what they give
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportIncompatibleVariableOverride=false, reportAttributeAccessIssue=false
# Classes on bases that are made in the tests: mypy 2.4.1 crashes on them, pyright does not see their bases.

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AwareDatetime
from sqlalchemy import Engine, MetaData, Numeric, String, select
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import (
    DeclarativeBase,
    DeclarativeBaseNoMeta,
    DeclarativeMeta,
    Mapped,
    MappedAsDataclass,
    Session,
    declarative_base,
    declared_attr,
    mapped_column,
    registry,
)

from sa_eventsource import DeclarationError, ReadModel, map_from_event
from sa_eventsource.read_models import (
    append,
    count,
    day,
    decrement,
    definition_of,
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
from tests.read_models import unquoted_models
from tests.read_models.depot import (
    CAUSATION,
    CORRELATION,
    EVENT,
    PACKED_AT,
    REFERENCE,
    Address,
    Channel,
    Lost,
    Packed,
    Rank,
    Sent,
    new_base,
    row,
    rows,
)

LATER = datetime(2024, 12, 31, 23, 0, tzinfo=UTC)
ID = UUID("0190a5e5-0000-7c7e-8c2e-3b1f6f3f0a11")


def _model(own_table: bool = False, **fields: tuple[Any, Any]) -> Any:
    """Declare a strong model with the given fields: annotation and declaration of each."""
    body: dict[str, Any] = {name: declared for name, (_, declared) in fields.items()}
    body["__annotations__"] = {name: Mapped[annotation] for name, (annotation, _) in fields.items()}
    body |= {"__consistency__": "strong", "__module__": __name__} | ({"__tablename__": "own"} if own_table else {})
    return type("Model", (ReadModel, new_base()), body)


both_tables = pytest.mark.parametrize("own_table", [False, True], ids=["shared table", "own table"])


# Sources: the type of the field, its declaration, and what it holds after one event.
SOURCES: dict[str, tuple[Any, Callable[[], Any], Any]] = {
    "a field by its name": (str, lambda: map_from_event(Packed, source="customer_id"), "c-1"),
    "an int": (int, lambda: map_from_event(Packed, source="pieces"), 3),
    "an int in a Decimal": (Decimal, lambda: map_from_event(Packed, source="pieces"), Decimal(3)),
    "a Decimal": (Decimal, lambda: map_from_event(Packed, source="weight"), Decimal("1.50")),
    "a float": (float, lambda: map_from_event(Packed, source="ratio"), 0.25),
    "a bool": (bool, lambda: map_from_event(Packed, source="gift"), True),
    "a date": (date, lambda: map_from_event(Packed, source="due"), date(2024, 3, 4)),
    "a datetime": (datetime, lambda: map_from_event(Packed, source="packed_at"), PACKED_AT),
    "a datetime with a zone": (AwareDatetime, lambda: map_from_event(Packed, source="packed_at"), PACKED_AT),
    "a UUID": (UUID, lambda: map_from_event(Packed, source="reference"), REFERENCE),
    "a UUID in a str": (str, lambda: map_from_event(Packed, source="reference"), str(REFERENCE)),
    "an Enum of texts": (Channel, lambda: map_from_event(Packed, source="channel"), Channel.WEB),
    "an Enum of numbers": (Rank, lambda: map_from_event(Packed, source="rank"), Rank.HIGH),
    "a list": (list[str], lambda: map_from_event(Packed, source="tags"), ["a", "b"]),
    "a dict": (dict[str, Any], lambda: map_from_event(Packed, source="extra"), {"x": [1, None]}),
    "a model as a document": (dict[str, Any], lambda: map_from_event(Packed, source="address"), {"city": "Utrecht", "number": 7}),
    "an optional field": (str | None, lambda: map_from_event(Packed, source="note"), None),
    "a path": (str, lambda: map_from_event(Packed, source="address.city"), "Utrecht"),
    "aggregate_id": (str, lambda: map_from_event(Packed, source="aggregate_id"), "p-1"),
    "aggregate_type": (str, lambda: map_from_event(Packed, source="aggregate_type"), "depot.Parcel"),
    "version": (int, lambda: map_from_event(Packed, source="version"), 1),
    "position": (int, lambda: map_from_event(Packed, source="position"), 1),
    "event_type": (str, lambda: map_from_event(Packed, source="event_type"), "depot.Packed"),
    "event_id": (UUID, lambda: map_from_event(Packed, source="event_id"), EVENT),
    "correlation_id": (UUID, lambda: map_from_event(Packed, source="correlation_id"), CORRELATION),
    "causation_id": (UUID, lambda: map_from_event(Packed, source="causation_id"), CAUSATION),
    "occurred_at": (datetime, lambda: map_from_event(Packed, source="occurred_at"), PACKED_AT),
    "a text of the metadata": (str, lambda: map_from_event(Packed, source="metadata.user"), "ann"),
    "a number of the metadata": (int, lambda: map_from_event(Packed, source="metadata.level"), 4),
    "a key of the metadata with a dot": (bool, lambda: map_from_event(Packed, source="metadata.a.b"), True),
    "a path into the metadata": (str, lambda: map_from_event(Packed, source="metadata.request.ip"), "::1"),
    "a path into the metadata that ends early": (str | None, lambda: map_from_event(Packed, source="metadata.user.name"), None),
    "what the log knows, named in full": (int, lambda: map_from_event(Packed, source="log.version"), 1),
    "what the event knows, named in full": (int, lambda: map_from_event(Packed, source="event.pieces"), 3),
    "a key that the metadata lack": (str | None, lambda: map_from_event(Packed, source="metadata.nobody"), None),
    "a key of the metadata of another type": (int | None, lambda: map_from_event(Packed, source="metadata.user"), None),
    "a function": (Decimal, lambda: map_from_event(Packed, source=lambda event: event.pieces * event.weight + 1), Decimal("5.50")),
    "a function that takes away": (int, lambda: map_from_event(Packed, source=lambda event: 10 - event.pieces), 7),
    "a function that turns the sign": (int, lambda: map_from_event(Packed, source=lambda event: -event.pieces), -3),
    "a function of texts": (str, lambda: map_from_event(Packed, source=lambda event: event.address.city + "!"), "Utrecht!"),
    "a function that only chooses": (str, lambda: map_from_event(Packed, source=lambda event: event.address.city), "Utrecht"),
    "a function of what the log knows": (int, lambda: map_from_event(Packed, source=lambda event: event.version + 1), 2),
    "a day in UTC": (date, lambda: map_from_event(Packed, source=day()), date(2024, 2, 29)),
    "a day elsewhere": (date, lambda: map_from_event(Packed, source=day("packed_at", "Europe/Amsterdam")), date(2024, 3, 1)),
    "a week": (date, lambda: map_from_event(Packed, source=week()), date(2024, 2, 26)),
    "a month in UTC": (date, lambda: map_from_event(Packed, source=month()), date(2024, 2, 1)),
    "a month elsewhere": (date, lambda: map_from_event(Packed, source=month(zone="Europe/Amsterdam")), date(2024, 3, 1)),
    "a year": (date, lambda: map_from_event(Packed, source=year("occurred_at")), date(2024, 1, 1)),
    "a text": (str, lambda: map_from_event({Packed: "packed"}), "packed"),
    "a member of an Enum": (Channel, lambda: map_from_event({Packed: Channel.SHOP}), Channel.SHOP),
    "a number": (int, lambda: map_from_event({Packed: 5}), 5),
    "a number in a Decimal": (Decimal, lambda: map_from_event({Packed: 5}), Decimal(5)),
    "a constant date": (date, lambda: map_from_event({Packed: date(2020, 1, 2)}), date(2020, 1, 2)),
    "a constant moment": (datetime, lambda: map_from_event({Packed: LATER}), LATER),
    "a constant bool": (bool, lambda: map_from_event({Packed: True}), True),
    "None": (str | None, lambda: map_from_event({Packed: None}), None),
    "a source in a reducer": (str, lambda: map_from_event({Packed: last("address.city")}), "Utrecht"),
    "one of several texts": (Literal["web", "shop"], lambda: map_from_event({Packed: "web"}), "web"),
    "an annotated type": (Annotated[str, "told"], lambda: map_from_event(Packed, source="customer_id"), "c-1"),
}


@both_tables
@pytest.mark.parametrize("name", SOURCES)
def test_a_field_takes(engine: Engine, name: str, own_table: bool) -> None:
    annotation, declared, expected = SOURCES[name]
    found = row(engine, _model(own_table, it=(annotation, declared())), Packed()).it
    assert (found, type(found)) == (expected, type(expected))


# Reducers: the type of the field, its declaration, and what it holds after Packed (3 pieces), Sent (1), Packed (5 pieces, "z").
AGAIN = Packed(pieces=5, weight=Decimal("0.25"), customer_id="c-0", address=Address(city="Ede", number=1))
REDUCERS: dict[str, tuple[Any, Callable[[], Any], Any]] = {
    "last by default": (int, lambda: map_from_event(Packed, source="pieces"), 5),
    "last, said": (int, lambda: map_from_event(Packed, reduce=last("pieces")), 5),
    "first": (int, lambda: map_from_event(Packed, reduce=first("pieces")), 3),
    "first, with its source beside it": (int, lambda: map_from_event(Packed, source="pieces", reduce=first()), 3),
    "last of several events": (int, lambda: map_from_event(Packed, Sent, source="pieces"), 5),
    "the constant of the last event": (str, lambda: map_from_event({Packed: "packed", Sent: "sent"}), "packed"),
    "constants beside sources": (str, lambda: map_from_event({Packed: "packed", Sent: last("carrier")}), "packed"),
    "the first of several sources": (str, lambda: map_from_event({Packed: first("address.city"), Sent: first("carrier")}), "Utrecht"),
    "count": (int, lambda: map_from_event(Packed, reduce=count()), 2),
    "count of several events": (int, lambda: map_from_event(Packed, Sent, Lost, reduce=count()), 3),
    "sum_": (int, lambda: map_from_event(Packed, Sent, reduce=sum_("pieces")), 9),
    "sum_ of a Decimal": (Decimal, lambda: map_from_event(Packed, reduce=sum_("weight")), Decimal("1.75")),
    "sum_ of a function": (Decimal, lambda: map_from_event(Packed, reduce=sum_(lambda event: event.pieces * event.weight)), Decimal("5.75")),
    "increment and decrement by one": (int, lambda: map_from_event({Packed: increment(), Sent: decrement()}), 1),
    "increment and decrement by sources": (int, lambda: map_from_event({Packed: increment("pieces"), Sent: decrement("pieces")}), 7),
    "count beside sum_": (int, lambda: map_from_event({Packed: sum_("pieces"), Sent: count()}), 9),
    "a sum of nothing": (Decimal, lambda: map_from_event(Lost, reduce=sum_(2)), Decimal(0)),
    "min_": (int, lambda: map_from_event(Packed, Sent, reduce=min_("pieces")), 1),
    "max_": (Decimal, lambda: map_from_event(Packed, reduce=max_("weight")), Decimal("1.50")),
    "min_ of texts": (str, lambda: map_from_event({Packed: min_("address.city"), Sent: min_("carrier")}), "Ede"),
    "append": (list[str], lambda: map_from_event({Packed: append("customer_id"), Sent: append("carrier")}), ["c-1", "mail", "c-0"]),
    "append, once each": (list[str], lambda: map_from_event({Packed: append("note", distinct=True), Sent: append("carrier", distinct=True)}), ["mail"]),
    "append of dates": (list[date], lambda: map_from_event(Packed, reduce=append("due")), [date(2024, 3, 4)] * 2),
    "append of members": (list[Channel], lambda: map_from_event(Packed, reduce=append("channel")), [Channel.WEB] * 2),
    "append of decimals": (list[Decimal], lambda: map_from_event(Packed, reduce=append("weight")), [Decimal("1.50"), Decimal("0.25")]),
    "append and remove": (list[str], lambda: map_from_event({Packed: append("customer_id"), Sent: remove("customer")}), ["c-0"]),
    "nothing": (str | None, lambda: map_from_event({Lost: "lost"}), None),
    "a list of nothing": (list[str], lambda: map_from_event({Lost: append("event_type")}), []),
}  # fmt: skip


@both_tables
@pytest.mark.parametrize("name", REDUCERS)
def test_events_come_together_as(engine: Engine, name: str, own_table: bool) -> None:
    annotation, declared, expected = REDUCERS[name]
    other = (int, map_from_event(Packed, Sent, reduce=count()))
    found = row(engine, _model(own_table, it=(annotation, declared()), other=other), Packed(), Sent(), AGAIN).it
    assert (found, type(found)) == (expected, type(expected))


@both_tables
def test_a_field_takes_the_event_field_of_its_name(engine: Engine, own_table: bool) -> None:
    model = _model(own_table, pieces=(int, map_from_event(Packed, Sent)))
    assert row(engine, model, Packed(pieces=8), Sent(pieces=9)).pieces == 9


# Keys: the annotation, the declaration or None, ids of the aggregates, and the keys of the rows that three parcels make.
TEXTS = ("p-1", "p-2", "p-3")
IDS = (UUID(int=1), UUID(int=2), UUID(int=3))
KEYS: dict[str, tuple[Any, Callable[[], Any], tuple[Any, ...], list[Any]]] = {
    "the aggregate's id": (str, lambda: map_from_event(key=True, source="aggregate_id"), TEXTS, list(TEXTS)),
    "an id that is a UUID": (UUID, lambda: map_from_event(key=True, source="aggregate_id"), IDS, list(IDS)),
    "an id that is a number": (int, lambda: map_from_event(key=True, source="aggregate_id"), (7, -8, 9), [-8, 7, 9]),
    "an event's field": (str, lambda: map_from_event(key=True, source="customer_id"), TEXTS, ["c-0", "c-1"]),
    "a number": (int, lambda: map_from_event(key=True, source="pieces"), TEXTS, [3, 5]),
    "a bool": (bool, lambda: map_from_event(key=True, source="gift"), TEXTS, [True]),
    "a date": (date, lambda: map_from_event(key=True, source="due"), TEXTS, [date(2024, 3, 4)]),
    "a moment": (datetime, lambda: map_from_event(key=True, source="packed_at"), TEXTS, [PACKED_AT, LATER]),
    "a UUID": (UUID, lambda: map_from_event(key=True, source="reference"), TEXTS, [REFERENCE]),
    "an Enum of texts": (Channel, lambda: map_from_event(key=True, source="channel"), TEXTS, [Channel.WEB]),
    "an Enum of numbers": (Rank, lambda: map_from_event(key=True, source="rank"), TEXTS, [Rank.HIGH]),
    "a path": (str, lambda: map_from_event(key=True, source="address.city"), TEXTS, ["Ede", "Utrecht"]),
    "metadata": (str, lambda: map_from_event(key=True, source="metadata.user"), TEXTS, ["ann"]),
    "a day": (date, lambda: map_from_event(key=True, source=day(zone="Europe/Amsterdam")), TEXTS, [date(2024, 3, 1)]),
    "a month of the event": (date, lambda: map_from_event(key=True, source=month("packed_at")), TEXTS, [date(2024, 2, 1), date(2024, 12, 1)]),
    "a function": (str, lambda: map_from_event(key=True, source=lambda event: event.customer_id + "/x"), TEXTS, ["c-0/x", "c-1/x"]),
    "a field that may be None": (str, lambda: map_from_event(key=True, source="note"), TEXTS, ["n"]),
}  # fmt: skip


@both_tables
@pytest.mark.parametrize("name", KEYS)
def test_a_row_is_told_by(engine: Engine, name: str, own_table: bool) -> None:
    annotation, declared, ids, expected = KEYS[name]
    model = _model(own_table, number=(int, map_from_event(Packed, reduce=count())), key=(annotation, declared()))
    other = AGAIN.model_copy(update={"packed_at": LATER, "note": "n"})
    found = rows(engine, model, [Packed()], [Packed()], [other], ids=ids)
    assert sorted((each.key for each in found), key=_sortable) == sorted(expected, key=_sortable)
    assert {type(each.key) for each in found} == {type(expected[0])}
    with Session(engine) as session:
        for key in expected:
            assert session.get_one(model, key).key == key
            assert session.scalars(select(model).where(model.key == key)).one().key == key


def _sortable(value: Any) -> Any:
    return getattr(value, "value", value)


@both_tables
def test_the_key_is_the_aggregates_id_by_default(engine: Engine, own_table: bool) -> None:
    model = _model(own_table, pieces=(int, map_from_event(Packed)))
    assert [each.id for each in rows(engine, model, [Packed()], [Packed()])] == ["p-1", "p-2"]
    with Session(engine) as session:
        assert session.get_one(model, "p-2").pieces == 3


def test_the_default_key_takes_the_type_it_is_annotated_with(engine: Engine) -> None:
    class ByUuid(ReadModel, new_base()):  # type: ignore[misc]
        __consistency__ = "strong"
        id: Mapped[UUID]
        pieces: Mapped[int] = map_from_event(Packed)

    class ByNumber(ReadModel, new_base()):  # type: ignore[misc]
        __tablename__ = "by_number"
        __consistency__ = "strong"
        id: Mapped[int]
        pieces: Mapped[int] = map_from_event(Packed)

    assert row_ids(engine, ByUuid, IDS) == list(IDS)
    ByNumber.metadata.drop_all(engine)
    ByUuid.metadata.drop_all(engine)
    assert row_ids(engine, ByNumber, (1, 2, 3)) == [1, 2, 3]


def row_ids(engine: Engine, model: Any, ids: tuple[Any, ...]) -> list[Any]:
    """Get the ids of the rows that a parcel each makes, each found by it."""
    found = [each.id for each in rows(engine, model, *[[Packed()] for _ in ids], ids=ids)]
    with Session(engine) as session:
        return [session.get_one(model, each).id for each in found]


@both_tables
def test_several_fields_tell_a_row_in_the_order_declared(engine: Engine, own_table: bool) -> None:
    model = _model(
        own_table,
        rank=(Rank, map_from_event(key=True)),
        due=(date, map_from_event(key=True)),
        customer_id=(str, map_from_event(key=True)),
        number=(int, map_from_event(Packed, reduce=count())),
    )
    found = rows(engine, model, [Packed(), Packed(rank=Rank.LOW)], [Packed(), Packed(customer_id='"ö,')])
    keys = [(each.rank, each.due, each.customer_id, each.number) for each in found]
    due = date(2024, 3, 4)
    assert keys == [(Rank.LOW, due, "c-1", 1), (Rank.HIGH, due, '"ö,', 1), (Rank.HIGH, due, "c-1", 2)]
    with Session(engine) as session:
        assert session.get_one(model, (Rank.HIGH, due, '"ö,')).number == 1
        assert session.get_one(model, {"rank": Rank.HIGH, "due": due, "customer_id": "c-1"}).number == 2


@both_tables
def test_a_mapping_says_where_each_event_has_the_key(engine: Engine, own_table: bool) -> None:
    model = _model(
        own_table,
        customer_id=(str, map_from_event({Sent: last("customer"), Lost: "nobody"}, key=True)),
        packed=(int, map_from_event(Packed, reduce=count())),
        sent=(int, map_from_event(Sent, reduce=count())),
    )
    found = rows(engine, model, [Packed(), Sent(), Sent(customer="c-0"), Lost()])
    assert [(each.customer_id, each.packed, each.sent) for each in found] == [("c-0", 0, 1), ("c-1", 1, 1), ("nobody", 0, 0)]


@both_tables
def test_an_event_whose_key_is_none_belongs_to_no_row(engine: Engine, own_table: bool) -> None:
    model = _model(own_table, note=(str, map_from_event(key=True)), number=(int, map_from_event(Packed, reduce=count())))
    found = rows(engine, model, [Packed(), Packed(note="n"), Packed(note=""), Packed()])
    assert [(each.note, each.number) for each in found] == [("", 1), ("n", 1)]


@both_tables
def test_the_row_ends_with_the_event_that_removes_it(engine: Engine, own_table: bool) -> None:
    model = _model(own_table, pieces=(int, map_from_event(Packed)))
    assert not definition_of(model).removed_by
    body = {"__removed_by__": (Lost,), "__annotations__": {"pieces": Mapped[int]}, "pieces": map_from_event(Packed)}
    body |= {"__tablename__": "own"} if own_table else {}
    model = type("Model", (ReadModel, new_base()), {"__consistency__": "strong", "__module__": __name__, **body})
    assert [each.id for each in rows(engine, model, [Packed(), Lost()], [Packed()])] == ["p-2"]


def test_version_and_times_are_kept(engine: Engine) -> None:
    found = row(engine, _model(it=(int, map_from_event(Packed, reduce=count()))), Packed(), Sent(), Packed())
    assert (found.version, found.created_at, found.updated_at) == (2, PACKED_AT, PACKED_AT)


def test_the_name_is_the_classs_unless_it_is_said() -> None:
    base = new_base()

    class Unnamed(ReadModel, base):  # type: ignore[misc, valid-type]
        pieces: Mapped[int] = map_from_event(Packed)

    class Named(ReadModel, base):  # type: ignore[misc, valid-type]
        __projection_name__ = "by name"
        pieces: Mapped[int] = map_from_event(Packed)

    assert (definition_of(Unnamed).name, definition_of(Named).name) == ("Unnamed", "by name")
    assert definition_of(Unnamed).consistency == "eventual"
    assert [definition_of(each).tables.read_models for each in (Unnamed, Named)] == [
        {"Unnamed": definition_of(Unnamed), "by name": definition_of(Named)}
    ] * 2


def test_a_function_that_makes_the_class_again_replaces_it(engine: Engine) -> None:
    base: Any = declarative_base(metadata=MetaData())

    def declare(source: str) -> Any:
        class Again(ReadModel, base):  # type: ignore[misc]
            __consistency__ = "strong"
            it: Mapped[str] = map_from_event(Packed, source=source, index=True)

        return Again

    with pytest.warns(Warning, match="Again"):
        declare("customer_id")
        last_one = declare("address.city")
    assert row(engine, last_one, Packed()).it == "Utrecht"


class Counted:
    """A mixin that knows nothing of read models."""

    number: Mapped[int] = map_from_event(Packed, Sent, reduce=count())


class Told(ReadModel):
    """A base that is no model itself, without a declarative base."""

    __abstract__ = True
    __consistency__ = "strong"
    __removed_by__ = (Lost,)
    __indexes__ = (("customer_id", "number"),)

    customer_id: Mapped[str] = map_from_event(Packed)
    number: Mapped[Decimal] = map_from_event(Packed, reduce=sum_("pieces"))


@both_tables
def test_fields_of_mixins_and_abstract_bases_are_inherited(engine: Engine, own_table: bool) -> None:
    base = new_base()

    class OnBase(ReadModel, base):  # type: ignore[misc, valid-type]
        __abstract__ = True
        city: Mapped[str] = map_from_event(Packed, source="address.city")

    class Model(Counted, OnBase, Told):
        if own_table:
            __tablename__ = "own"
        pieces: Mapped[int] = map_from_event(Packed)

    class Other(Counted, OnBase):
        __consistency__ = "strong"
        if own_table:
            __tablename__ = "other"
        city: Mapped[str] = map_from_event(Packed, source="customer_id")

    found = rows(engine, Model, [Packed(), Sent()], [Packed(), Lost()])
    assert [(each.number, each.city, each.customer_id, each.pieces) for each in found] == [(2, "Utrecht", "c-1", 3)]
    assert [type(each.number) for each in found] == [int]  # of Counted, the first of the bases
    with Session(engine) as session:
        assert [(each.number, each.city) for each in session.scalars(select(Other).order_by(Other.id))] == [(2, "c-1"), (1, "c-1")]
    name = "ix_own_customer_id_number" if own_table else "ix_Model_customer_id_number"
    assert name in {index.name for index in definition_of(Model).table.indexes}


def test_a_key_may_come_from_a_mixin(engine: Engine) -> None:
    class PerCustomer:
        customer_id: Mapped[str] = map_from_event({Sent: last("customer")}, key=True)

    class Model(PerCustomer, ReadModel, new_base()):  # type: ignore[misc]
        __consistency__ = "strong"
        number: Mapped[int] = map_from_event(Packed, Sent, reduce=count())

    found = rows(engine, Model, [Packed(), Sent(), Sent(customer="c-2")])
    assert [(each.customer_id, each.number) for each in found] == [("c-1", 2), ("c-2", 1)]


# Bases: each function makes a declarative base of one kind.


def _no_meta() -> Any:
    class Base(DeclarativeBaseNoMeta):
        pass

    return Base


def _by_metaclass() -> Any:
    class Base(metaclass=DeclarativeMeta):
        __abstract__ = True
        registry = registry()
        metadata = registry.metadata
        __init__ = registry.constructor

    return Base


def _dataclass() -> Any:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    return Base


def _names_tables() -> Any:
    class Base(DeclarativeBase):
        @declared_attr.directive
        def __tablename__(cls) -> str:
            return cls.__name__.lower()

    return Base


def _has_columns() -> Any:
    class Base(DeclarativeBase):
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int]

    return Base


def _with_schema_of_types() -> Any:
    class Base(DeclarativeBase):
        type_annotation_map = {str: String(40), Decimal: Numeric(20, 4)}

    return Base


BASES: dict[str, Callable[[], Any]] = {
    "DeclarativeBase": new_base,
    "DeclarativeBaseNoMeta": _no_meta,
    "DeclarativeMeta": _by_metaclass,
    "declarative_base()": declarative_base,
    "generate_base()": lambda: registry().generate_base(),
    "a base that names tables": _names_tables,
    "a type_annotation_map": _with_schema_of_types,
}


@both_tables
@pytest.mark.parametrize("name", BASES)
def test_every_style_of_declarative_base_takes_read_models(engine: Engine, name: str, own_table: bool) -> None:
    base = BASES[name]()

    class Model(ReadModel, base):  # type: ignore[misc]
        __consistency__ = "strong"
        if own_table:
            __tablename__ = "own"
        customer_id: Mapped[str] = map_from_event(key=True)
        weight: Mapped[Decimal] = map_from_event(Packed, reduce=sum_("weight"), index=True)
        reference: Mapped[UUID | None] = map_from_event(Packed)

    found = row(engine, Model, Packed(), Packed())
    assert (found.customer_id, found.weight, found.reference, found.version) == ("c-1", Decimal("3.00"), REFERENCE, 2)
    assert "customer_id='c-1'" in repr(found)


@both_tables
def test_columns_of_the_base_do_not_stand_in_the_way(engine: Engine, own_table: bool) -> None:
    class Model(ReadModel, _has_columns()):  # type: ignore[misc]
        __consistency__ = "strong"
        if own_table:
            __tablename__ = "own"
        pieces: Mapped[int] = map_from_event(Packed)

    found = row(engine, Model, Packed())
    assert (found.id, found.pieces, found.version) == ("p-1", 3, 1)


def test_a_base_that_makes_dataclasses_is_refused_with_the_way_out() -> None:
    with pytest.raises(DeclarationError, match=r"metadata = Base\.metadata"):

        class Model(ReadModel, _dataclass()):  # type: ignore[misc]
            pieces: Mapped[int] = map_from_event(Packed)


@both_tables
def test_the_base_does_not_stand_first(own_table: bool) -> None:
    """SQLAlchemy maps the class before the read model sees it, and says that it cannot."""
    base = new_base()
    with pytest.raises((ArgumentError, InvalidRequestError)):

        class Model(base, ReadModel):  # type: ignore[misc, valid-type]
            if own_table:
                __tablename__ = "own"
            pieces: Mapped[int] = map_from_event(Packed)


@pytest.mark.parametrize("model", ["Shared", "Own"])
def test_annotations_may_be_types_instead_of_texts(engine: Engine, model: str) -> None:
    found = row(engine, getattr(unquoted_models, model), Packed())
    assert (found.customer_id, found.weight, found.tags, found.note) == ("c-1", Decimal("1.50"), ["a", "b"], None)
    unquoted_models.Base.metadata.drop_all(engine)
