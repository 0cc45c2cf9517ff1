"""Wrong declarations fail when the class is defined, with an error that names what is wrong and what to write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import Field
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, validates

from sa_eventsource import DeclarationError, DomainEvent, ReadModel, RecordedEvent, evolves, handles, map_from_event, upcast
from sa_eventsource.read_models import append, count, day, decrement, first, last, max_, remove, sum_
from sa_eventsource.time_ordered_ids import uuid7


class Base(DeclarativeBase):
    """The declarative base of these tests."""


class Made(DomainEvent):
    """An event with fields of all kinds."""

    __event_type__ = "wrong.Made"
    name: str
    number: int
    price: Decimal
    ratio: float
    on: date
    token: UUID = Field(default_factory=uuid7)


class Numbered(DomainEvent):
    """An event with fields of the log's names."""

    __event_type__ = "wrong.Numbered"
    aggregate_id: str
    occurred_at: datetime


class Gone(DomainEvent):
    """An event without fields."""

    __event_type__ = "wrong.Gone"


class OldPaid(DomainEvent):
    """How a payment looked once."""

    __event_type__ = "wrong.Paid"
    amount: int


class Paid(DomainEvent):
    """How it looks now."""

    __event_type__ = "wrong.Paid"
    __event_version__ = 2
    amount: Decimal


@upcast(Paid, from_version=1)
def _paid(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


FIELDS: dict[str, tuple[Any, Callable[[], Any], list[str]]] = {
    "an unknown field": (str, lambda: map_from_event(Made, source="nme"), ["Made has no 'nme'", "name, number"]),
    "the time of recording": (datetime, lambda: map_from_event(Made, source="recorded_at"), ["occurred_at", "@handles"]),
    "no field of the same name": (str, lambda: map_from_event(Made), ["Wrong.field", "Made has no 'field'", "source="]),
    "a path into a value": (str, lambda: map_from_event(Made, source="name.first"), ["Made", "name.first"]),
    "a type that cannot hold the source": (
        int,
        lambda: map_from_event(Made, source="name"),
        ["int", "cannot hold the str", "Mapped[str]"],
    ),
    "a decimal in an int": (int, lambda: map_from_event(Made, source="price"), ["cannot hold the Decimal"]),
    "a constant of another type": (int, lambda: map_from_event({Made: "one"}), ["cannot hold 'one'"]),
    "mixed reducers": (Decimal, lambda: map_from_event({Made: sum_("price"), Gone: last("x")}), ["Gone"]),
    "a sum beside a constant": (int, lambda: map_from_event({Made: count(), Gone: 7}), ["mixes count and 7"]),
    "a sum of floats": (float, lambda: map_from_event(Made, reduce=sum_("ratio")), ["int or Decimal"]),
    "the greatest of truths": (bool, lambda: map_from_event(Made, reduce=max_("name")), ["cannot hold"]),
    "a list that is none": (str, lambda: map_from_event(Made, reduce=append("name")), ["Mapped[list[str]]"]),
    "a distinct list with removals": (
        list[str],
        lambda: map_from_event({Made: append("name", distinct=True), Paid: remove(day())}),
        ["cannot hold the date"],
    ),
    "distinct beside remove": (
        list[Decimal],
        lambda: map_from_event({Made: append("price", distinct=True), Paid: remove("amount")}),
        ["distinct for all"],
    ),
    "an old version": (int, lambda: map_from_event(OldPaid, source="amount"), ["OldPaid", "old version", "map that"]),
    "a default that is another each time": (UUID, lambda: map_from_event(Made, source="token"), ["another default each time"]),
    "a function that chooses": (
        int,
        lambda: map_from_event(Made, source=lambda event: event.number or 0),
        ["cannot choose", "@handles"],
    ),
    "a function that divides": (
        Decimal,
        lambda: map_from_event(Made, source=lambda event: event.price / 2),
        ["+, - and *", "@handles"],
    ),
    "a function that adds text and number": (
        str,
        lambda: map_from_event(Made, source=lambda event: event.name + 1),
        ["worked out"],
    ),
    "a function of floats": (float, lambda: map_from_event(Made, source=lambda event: event.ratio * 2), ["exactly"]),
    "a day of something else": (date, lambda: map_from_event(Made, source=day("name")), ["needs a datetime"]),
    "a function where a constant is meant": (str, lambda: map_from_event({Made: lambda event: event.name}), ["last(...)"]),
    "metadata as a date": (date, lambda: map_from_event(Made, source="metadata.day"), ["JSON value"]),
    "no event": (str, map_from_event, ["names no event"]),
    "a column without a table": (str, lambda: map_from_event(Made, source="name", column=mapped_column()), ["__tablename__"]),
    "an annotation that no field can have": (Session, lambda: map_from_event(Made, source="name"), ["Session", "Decimal"]),
    "a field's name where a constant is meant": (
        str,
        lambda: map_from_event({Made: "name"}),
        ["'name'", "constant", 'last("name")'],
    ),
    "a key of the event and of the log": (
        str,
        lambda: map_from_event({Numbered: last("aggregate_id"), Made: last("name")}, key=True),
        ["Numbered has a field aggregate_id of its own", 'source="log.aggregate_id"', 'source="event.aggregate_id"'],
    ),
    "a time of the event and of the log in a key": (
        date,
        lambda: map_from_event({Numbered: last(day()), Made: last(day())}, key=True),
        ["Numbered has a field occurred_at of its own", 'source="log.occurred_at"'],
    ),
    "a key that an event lacks": (
        str,
        lambda: map_from_event({Made: last("name"), Gone: last("name")}, key=True),
        ["Gone has no 'name'"],
    ),
    "a key that cannot be one": (Decimal, lambda: map_from_event({Made: last("price")}, key=True), ["cannot be a key"]),
    "a key with a reducer": (str, lambda: map_from_event(Made, reduce=first("name"), key=True), ["key", "first()"]),
}


@pytest.mark.parametrize("what", FIELDS)
def test_a_field_is_refused(what: str) -> None:
    annotation, declare, words = FIELDS[what]
    held: Any = Mapped
    with pytest.raises(DeclarationError) as caught:
        type(
            "Wrong",
            (ReadModel, Base),
            {
                "__module__": __name__,
                "__annotations__": {"field": held[annotation], "other": held[int]},
                "field": declare(),
                "other": map_from_event(Made, Numbered, reduce=count()),
            },
        )
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_two_sources_are_refused() -> None:
    with pytest.raises(DeclarationError, match="two sources"):
        map_from_event(Made, source="name", reduce=first("number"))


def test_a_mapping_stands_alone() -> None:
    with pytest.raises(DeclarationError, match="a mapping alone"):
        map_from_event({Made: "x"}, source="name")


def test_only_events_are_taken() -> None:
    with pytest.raises(DeclarationError, match="DomainEvent classes, not 'Made'"):
        map_from_event("Made")  # type: ignore[arg-type]


def test_a_time_zone_must_exist() -> None:
    with pytest.raises(DeclarationError, match="Europe/Amsterdam"):
        day(zone="Europe/Nowhere")


def declare(**namespace: Any) -> type[Any]:
    return type(
        "Wrong",
        (ReadModel, Base),
        {
            "__module__": __name__,
            "__annotations__": {"number": Mapped[int]} | ({"name": Mapped[int]} if "name" in namespace else {}),
            "number": map_from_event(Made, reduce=count()),
            **namespace,
        },
    )


@pytest.mark.parametrize(
    ("namespace", "words"),
    [
        ({"__consistency__": "later"}, 'must be "strong" or "eventual"'),
        ({"__projection_name__": ""}, "1 to 230 characters"),
        ({"__projection_name__": "orders@2"}, "none of #, @ and NUL"),
        ({"__indexes__": (("number", "nothing"),)}, "names 'nothing'; the fields are id, number"),
        ({"__removed_by__": (Made,), "name": map_from_event(Made, Gone, reduce=count())}, "removes the row and cannot set a field"),
        (
            {
                "__removed_by__": (Gone,),
                "__annotations__": {"number": Mapped[int], "on": Mapped[date]},
                "on": map_from_event(key=True, source=day()),
            },
            "needs the aggregate's id in the key",
        ),
        (
            {"__annotations__": {"version": Mapped[int]}, "number": None, "version": map_from_event(Made, source="number")},
            "is kept by the library",
        ),
        ({"__annotations__": {}}, "has no annotation"),
        ({"__annotations__": {"number": int}}, "must be annotated Mapped"),
        ({"number": None}, "takes no event"),
        ({"__removed_by__": Gone}, "__removed_by__ = (Gone,)"),
        ({"__removed_by__": ("Gone",)}, "__removed_by__ = (OrderCancelled,)"),
        ({"__indexes__": ("number",)}, "__indexes__ = (('number',),)"),
    ],
)
def test_a_model_is_refused(namespace: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare(**namespace)
    assert words in str(caught.value)


@pytest.mark.parametrize("table", [{}, {"__tablename__": "wrong"}], ids=["shared table", "own table"])
@pytest.mark.parametrize("name", ["metadata", "registry", "_positions", "__name"])
def test_a_reserved_name_is_refused(name: str, table: dict[str, Any]) -> None:
    annotations = {"__annotations__": {"number": Mapped[int], name: Mapped[str]}}
    with pytest.raises(DeclarationError, match=rf"Wrong\.{name} is a reserved name"):
        declare(**annotations, **table, **{name: map_from_event(Made, source="name")})


@pytest.mark.parametrize("table", [{}, {"__tablename__": "wrong"}], ids=["shared table", "own table"])
@pytest.mark.parametrize(
    "forgotten",
    [
        {"__annotations__": {"number": Mapped[int], "forgotten": Mapped[str]}},
        {"__annotations__": {"number": "Mapped[int]", "forgotten": "Mapped[str]"}},
    ],
)
def test_a_field_that_no_event_sets_is_refused(forgotten: dict[str, Any], table: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=r"Wrong\.forgotten is set by no event; write forgotten: Mapped.* = map_from_event"):
        declare(**forgotten, **table)


def test_a_column_in_the_shared_table_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"Wrong\.name is set by no event.*__tablename__"):
        declare(name=mapped_column())


def test_a_column_that_the_base_has_is_refused_in_the_shared_table() -> None:
    class WithNote(DeclarativeBase):
        note: Mapped[str] = mapped_column()

    with pytest.raises(DeclarationError, match=r"Noted\.note is set by no event.*__tablename__"):

        class Noted(ReadModel, WithNote):
            number: Mapped[int] = map_from_event(Made)


def test_an_id_that_no_event_sets_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r'Wrong\.id.*map_from_event\(key=True, source="aggregate_id", column='):
        declare(__tablename__="wrong", id=mapped_column(primary_key=True))


def test_a_key_that_is_unique_already_is_refused_as_unique() -> None:
    """Another unique index would refuse one of two transactions that make the row at once."""
    with pytest.raises(DeclarationError, match=r"Wrong\.name is the key.*leave unique=True out"):
        declare(__annotations__={"number": Mapped[int], "name": Mapped[str]}, name=map_from_event(Made, key=True, unique=True))


def test_what_makes_a_reducer_is_no_reducer() -> None:
    with pytest.raises(DeclarationError, match=r"reduce=count\(\)"):
        map_from_event(Made, reduce=count)  # type: ignore[arg-type]


def test_two_models_of_one_name_are_refused() -> None:
    class First(ReadModel, Base):
        __projection_name__ = "taken"
        number: Mapped[int] = map_from_event(Made)

    with pytest.raises(DeclarationError, match=r"'taken' is declared twice.*First.*Second.*__projection_name__"):

        class Second(ReadModel, Base):
            __projection_name__ = "taken"
            number: Mapped[int] = map_from_event(Made)


def test_a_mapped_model_is_not_inherited_from() -> None:
    class Parent(ReadModel, Base):
        number: Mapped[int] = map_from_event(Made)

    with pytest.raises(DeclarationError, match="__abstract__ = True"):

        class Child(Parent):
            name: Mapped[str] = map_from_event(Made)


def test_handlers_need_a_table_of_their_own() -> None:
    with pytest.raises(DeclarationError, match="__tablename__"):

        class Handling(ReadModel, Base):
            @classmethod
            @handles(Made)
            def _made(cls, event: RecordedEvent[Made], session: Session) -> None:
                """Do nothing."""


def test_an_event_is_taken_by_fields_or_by_a_handler() -> None:
    with pytest.raises(DeclarationError, match="choose one"):

        class Both(ReadModel, Base):
            __tablename__ = "both"
            number: Mapped[int] = map_from_event(Made)

            @classmethod
            @handles(Made)
            def _made(cls, event: RecordedEvent[Made], session: Session) -> None:
                """Do nothing."""


@pytest.mark.parametrize("kind", ["a method", "a static method", "a class method"])
def test_a_handler_that_cannot_be_called_is_refused(kind: str) -> None:
    def with_self(self: Any, recorded: Any, session: Any) -> None: ...

    def with_the_event(recorded: Any) -> None: ...

    made: dict[str, Callable[[], Any]] = {
        "a method": lambda: handles(Gone)(with_self),
        "a static method": lambda: staticmethod(handles(Gone)(with_the_event)),
        "a class method": lambda: classmethod(handles(Gone)(with_the_event)),
    }
    marked = made[kind]()
    with pytest.raises(
        DeclarationError, match=r"(?s)Wrong\.gone is called with the event and the session.*@classmethod.*def gone\(cls"
    ):
        declare(__tablename__="wrong", gone=marked)


def test_handles_takes_events() -> None:
    with pytest.raises(DeclarationError, match="@handles takes"):
        handles(str)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="@handles takes"):
        handles()


def test_decrement_counts_down_by_one() -> None:
    assert decrement().sign == -1
    assert decrement().counts


# Refused when it has been mapped, and collected later.
_again = pytest.mark.filterwarnings("ignore:This declarative base already contains a class")


def validator(name: str) -> Any:
    return validates(name)(lambda _row, _name, value: value)


@_again
@pytest.mark.parametrize("table", [{}, {"__tablename__": "wrong"}], ids=["shared table", "own table"])
@pytest.mark.parametrize("name", ["number", "id", "version", "created_at", "updated_at"])
def test_validators_of_what_statements_write_are_refused(name: str, table: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=rf"Wrong: @validates\('{name}'\) would never be called.*Pydantic"):
        declare(**table, valid=validator(name))


@_again
def test_validators_of_what_a_default_alone_sets_are_refused() -> None:
    with pytest.raises(DeclarationError, match=r"Wrong: @validates\('note'\) would never be called"):
        declare(__tablename__="wrong", note=mapped_column(String, server_default=""), valid=validator("note"))


@_again
@pytest.mark.parametrize("name", ["id", "version"])
def test_validators_of_what_evolving_methods_do_not_set_are_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match=rf"Evolving: @validates\('{name}'\) would never be called"):

        class Evolving(ReadModel, Base):
            number: Mapped[int] = mapped_column(default=0)
            valid = validator(name)

            @evolves(Made)
            def _made(self, recorded: RecordedEvent[Made]) -> None:
                self.number += 1


@_again
@pytest.mark.parametrize("name", ["number", "id", "updated_at"])
def test_validators_of_what_statements_write_are_refused_beside_handlers(name: str) -> None:
    with pytest.raises(DeclarationError, match=rf"Beside: @validates\('{name}'\) would never be called"):

        class Beside(ReadModel, Base):
            __tablename__ = "beside"
            number: Mapped[int] = map_from_event(Made)
            valid = validator(name)

            @classmethod
            @handles(Gone)
            def _gone(cls, event: RecordedEvent[Gone], session: Session) -> None:
                """Do nothing."""


@_again
def test_what_is_called_when_a_session_updates_a_row_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"Wrong\.number has an onupdate=, which would never be called.*updated_at"):
        declare(__tablename__="wrong", number=map_from_event(Made, column=mapped_column(onupdate=1)))
    with pytest.raises(DeclarationError, match=r"Wrong\.note has an onupdate="):
        declare(__tablename__="wrong", note=mapped_column(String, server_default="", onupdate="changed"))
