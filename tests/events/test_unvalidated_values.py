"""A value that nobody has validated is written only if it will be read: defaults, copies, and what was changed in place."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy.orm import Session

from sa_eventsource import DomainEvent, EventPayloadError, EventStore
from sa_eventsource.events import as_read, encode
from sa_eventsource.events.exactness import proof_of
from tests.events.boxes import Base, Box, same

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine, MetaData

_numbers = itertools.count()


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: Annotated[int, Field(ge=0)] = 9


class Dog(BaseModel):
    kind: Literal["dog", "hound"] = "dog"
    lives: Annotated[int, Field(ge=0)] = 1


class Line(BaseModel):
    sku: str = ""
    colour: str = ""


def line_of(**values: Any) -> Line:
    """Make a line that has just these values."""
    line = Line()
    vars(line).clear()
    vars(line).update(values)
    return line


class Grown(Enum):
    """Makes a member of any value."""

    ONE = "one"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        made: Any = object.__new__(cls)
        made._name_, made._value_ = str(value), value
        return made


def declared(annotation: Any, default: Any = ...) -> Any:
    body: dict[str, Any] = {"__annotations__": {"first": int, "value": annotation}, "first": 1, "__module__": __name__}
    return type(f"Unvalidated{next(_numbers)}", (DomainEvent,), body if default is ... else {**body, "value": default})


def _changed_in_place(annotation: Any, value: Any) -> DomainEvent:
    event: Any = declared(list[annotation])(value=[])
    event.value.append(value)
    return event  # type: ignore[no-any-return]


def _within(annotation: Any, value: Any) -> DomainEvent:
    name = f"Inner{next(_numbers)}"
    inner: Any = type(name, (BaseModel,), {"__annotations__": {"value": annotation}, "value": None, "__module__": __name__})
    holder = inner()
    holder.value = value
    event: Any = declared(dict[str, inner])(value={})
    event.value["held"] = holder
    return event  # type: ignore[no-any-return]


ROUTES: dict[str, Callable[[Any, Any], DomainEvent]] = {
    "default": lambda annotation, value: declared(annotation, Field(default_factory=lambda: value))(),
    "construct": lambda annotation, value: declared(annotation).model_construct(first=1, value=value),
    "copy": lambda annotation, value: declared(annotation, None)().model_copy(update={"value": value}),
    "in place": _changed_in_place,
    "within a model": _within,
}
"""The ways by which a value gets into an event, and past Pydantic."""


OUTSIDE: dict[str, tuple[Any, Any]] = {
    "text literal": (Literal["open", "closed"], "opne"),
    "number literal": (Literal[1, 2], 3),
    "literal or none": (Literal["a"] | None, "b"),
    "literals in a list": (list[Literal["a"]], ["a", "b"]),
    "literals in a set": (set[Literal[1]], {1, 2}),
    "literals in a tuple": (tuple[Literal["a"], int], ("b", 1)),
    "literals in a long tuple": (tuple[Literal["a"], ...], ("a", "b")),
    "literals as keys": (dict[Literal["a"], int], {"b": 1}),
    "literals as values": (dict[str, Literal["a"]], {"a": "b"}),
    "another literal's number": (Literal[1, 2], True),
    "tag": (Annotated[Cat | Dog, Field(discriminator="kind")], Cat(lives=1).model_copy(update={"kind": "dog"})),
    "tag of none": (Annotated[Cat | Dog, Field(discriminator="kind")], Dog.model_construct(kind="bird", lives=1)),
    "a tagged model's bound": (Annotated[Cat | Dog, Field(discriminator="kind")], Dog.model_construct(kind="dog", lives=-1)),
    "enum": (Grown, Grown("two")),
    "bound": (Annotated[int, Field(gt=0)], 0),
    "bound of a decimal": (Annotated[Decimal, Field(gt=0)], Decimal("NaN")),
    "bound of a decimal with a signal": (Annotated[Decimal, Field(le=0)], Decimal("sNaN")),
    "bound of a float": (Annotated[float, Field(lt=1)], 1.0),
    "multiple": (Annotated[int, Field(multiple_of=2)], 3),
    "digits": (Annotated[Decimal, Field(max_digits=2)], Decimal("1.23")),
    "places": (Annotated[Decimal, Field(decimal_places=1)], Decimal("1.23")),
    "pattern": (Annotated[str, Field(pattern="^a+$")], "b"),
    "length of a text": (Annotated[str, Field(max_length=2)], "abc"),
    "length of bytes": (Annotated[bytes, Field(min_length=2)], b"a"),
    "length of a list": (Annotated[list[int], Field(max_length=1)], [1, 2]),
    "length of a set": (Annotated[set[int], Field(min_length=1)], set()),
    "length of a dict": (Annotated[dict[str, int], Field(max_length=0)], {"a": 1}),
    "length of a tuple": (tuple[int, int], (1,)),
    "length of a long tuple": (Annotated[tuple[int, ...], Field(min_length=2)], (1,)),
    "bound of a moment": (Annotated[datetime, Field(gt=datetime(2020, 1, 1, tzinfo=UTC))], datetime(2019, 1, 1, tzinfo=UTC)),
    "bound of a duration": (Annotated[timedelta, Field(ge=timedelta(0))], timedelta(-1)),
    "a key's pattern": (dict[Annotated[str, Field(pattern="^a$")], int], {"b": 1}),
    "a field that is missing": (Line, line_of(colour="red")),
    "fields of one and of another": (list[Line], [line_of(sku="a", colour="red", sk="a"), line_of(sku="a")]),
    "a field too many": (Line, Line().model_copy(update={"size": "xl"})),
    "a field by another name": (Line, line_of(sk="a", colour="red")),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", OUTSIDE)
def test_a_value_outside_of_its_type_is_refused(case: str, route: str) -> None:
    event = ROUTES[route](*OUTSIDE[case])
    box = Box()
    with pytest.raises(EventPayloadError) as caught:
        box.apply_event(event)
    assert caught.value.field.startswith("value") or not caught.value.field
    assert (box.events, box.pending_events) == (0, ())


def test_a_field_that_the_event_does_not_have_is_named() -> None:
    event = declared(int)(value=1).model_copy(update={"valeu": 2})
    with pytest.raises(EventPayloadError, match="has no such field") as caught:
        encode(event)
    assert caught.value.field == "valeu"


class Kept(DomainEvent):
    __event_type__ = "unvalidated.Kept"
    n: int = 1

    @cached_property
    def double(self) -> int:
        return self.n * 2

    def remember(self) -> None:
        object.__setattr__(self, "_seen", True)


def test_what_the_class_itself_keeps_in_an_event_is_no_field() -> None:
    event = Kept()
    assert event.double == 2
    event.remember()
    assert as_read(event, encode(event)) == event


class Offset(tzinfo):
    """A zone that fails, or gives an offset that none has."""

    def __init__(self, offset: timedelta | None) -> None:
        self._offset = offset

    def utcoffset(self, _moment: datetime | None) -> timedelta:
        if self._offset is None:
            raise KeyError("offset")
        return self._offset

    def dst(self, _moment: datetime | None) -> None:
        return None

    def tzname(self, _moment: datetime | None) -> None:
        return None


@pytest.mark.parametrize("offset", [None, timedelta(days=3)])
def test_a_zone_that_fails_is_the_events_error(offset: timedelta | None) -> None:
    event = declared(datetime)(value=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(EventPayloadError):
        encode(event.model_copy(update={"value": datetime(2026, 1, 1, tzinfo=Offset(offset))}))


def test_a_literal_beyond_64_bits_is_not_proven() -> None:
    assert proof_of(declared(Literal[2**63, 1])) is None
    with pytest.raises(EventPayloadError):
        encode(declared(Literal[2**63, 1]).model_construct(first=1, value=2**63))


def test_the_error_says_which_value_its_type_does_not_take() -> None:
    event = declared(Literal["open", "closed"], "opne")()
    with pytest.raises(EventPayloadError, match=r"value: it could not be read back: .*Input should be 'open' or 'closed'"):
        encode(event)


_RULES = {"limit": 5}


def _checked(value: int) -> int:
    if value > _RULES["limit"]:
        raise ValueError("too many")
    return value


class Fickle(DomainEvent):
    """Is read as long as the rule holds."""

    __event_type__ = "unvalidated.Fickle"
    n: Annotated[int, AfterValidator(_checked)]


def test_an_event_that_its_class_takes_no_longer_is_the_events_error(monkeypatch: pytest.MonkeyPatch) -> None:
    event = Fickle(n=3)
    payload = encode(event)
    monkeypatch.setitem(_RULES, "limit", 2)
    with pytest.raises(EventPayloadError, match=r"n: .*too many"):
        as_read(event, payload)


# Any schema, and any value of its Python type -------------------------------------------------------------------------------------

_texts = st.sampled_from(["", "a", "b", "aa", "open", "NaN", "1"])
_whole = st.integers(-3, 3) | st.sampled_from([2**63, True])
_decimals = st.sampled_from([Decimal(number) for number in ("0", "1.5", "-1.25", "NaN", "-Infinity", "sNaN", "1E+5")])
_moments = st.sampled_from([datetime(2019, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1)])  # noqa: DTZ001
_pets = st.builds(
    lambda model, kind, lives: model.model_construct(kind=kind, lives=lives),
    st.sampled_from([Cat, Dog]),
    st.sampled_from(["cat", "dog", "hound", "bird"]),
    _whole,
)
_lines = st.dictionaries(st.sampled_from(["sku", "colour", "size"]), _texts, max_size=3).map(lambda values: line_of(**values))

_HASHABLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Literal["a", "open"], _texts),
    (Literal[1, 2], _whole),
    (Literal["a", 1], _texts | _whole),
    (Annotated[int, Field(gt=0, le=2)], _whole),
    (Annotated[int, Field(multiple_of=2)], _whole),
    (Annotated[str, Field(min_length=1, max_length=1)], _texts),
    (Annotated[str, Field(pattern="^a+$")], _texts),
    (Annotated[Decimal, Field(ge=0)], _decimals),
    (Annotated[Decimal, Field(max_digits=2)], _decimals),
    (Annotated[datetime, Field(gt=datetime(2020, 1, 1, tzinfo=UTC))], _moments),
    (Grown, st.sampled_from([Grown.ONE, Grown("two")])),
    (int, _whole),
]
_MODELS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Cat, _pets),
    (Line, _lines),
    (Annotated[Cat | Dog, Field(discriminator="kind")], _pets),
]


def _held(annotation: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    many = st.lists(values, max_size=3)
    return st.one_of(
        st.tuples(st.just(annotation), values),
        st.tuples(st.just(list[annotation]), many),
        st.tuples(st.just(Annotated[list[annotation], Field(min_length=1, max_length=2)]), many),
        st.tuples(st.just(tuple[annotation, annotation]), many.map(tuple)),
        st.tuples(st.just(dict[str, annotation]), st.dictionaries(_texts, values, max_size=2)),
        st.tuples(st.just(annotation | None if annotation is not Grown else annotation), values | st.none()),
    )


def _keyed(annotation: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    hashable = values.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan()))
    return st.one_of(
        st.tuples(st.just(set[annotation]), st.sets(hashable, max_size=3)),
        st.tuples(st.just(Annotated[frozenset[annotation], Field(max_length=1)]), st.frozensets(hashable, max_size=3)),
        st.tuples(st.just(dict[annotation, int]), st.dictionaries(hashable, _whole, max_size=2)),
    )


_ANY = st.one_of([*(_held(*each) for each in (*_HASHABLE, *_MODELS)), *(_keyed(*each) for each in _HASHABLE)])


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(field=_ANY, route=st.sampled_from(sorted(ROUTES)))
def test_whatever_apply_event_takes_is_read_back(engine: Engine, field: tuple[Any, Any], route: str) -> None:
    event = ROUTES[route](*field)
    box = Box()
    try:
        box.apply_event(event)
    except EventPayloadError:
        return
    with Session(engine) as session:
        session.add(box)
        session.commit()
        (found,) = EventStore(session, Box).events.of(Box, box.id).all()
        assert same(found.event, event), (found.event, event)
        assert session.get_one(Box, box.id).events == 1
