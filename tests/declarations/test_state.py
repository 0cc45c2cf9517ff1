"""What a class body declares as state: annotations as they are meant, however they are written; mixins; defaults; reserved "
"names."""

from __future__ import annotations

import dataclasses
import typing as tp
from collections import deque
from dataclasses import field
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Generic, Optional, TypeVar

import pytest
import sqlalchemy.orm as so
from pydantic import Field
from sqlalchemy import Engine, Integer, MetaData, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, WriteOnlyMapped

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, applies
from tests.parameters import plainly

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date
    from decimal import Decimal as Money

T = TypeVar("T")
Rate = ClassVar[Decimal]


class Ticked(DomainEvent):
    """Something was counted."""

    __event_type__ = "declarations.Ticked"
    tag: str = "t"


def make_base() -> type[Any]:
    """Make a declarative base with a metadata of its own."""

    class Base(DeclarativeBase):
        pass

    return Base


def names(kind: type[Any]) -> set[str]:
    """List the state fields of an aggregate class."""
    return set(kind.__state_fields__.names)


class Lines:
    """What a relationship needs."""

    def __init__(self, base: type[Any]) -> None:
        class Line(base):  # type: ignore[misc]
            __tablename__ = "lines"
            id: so.Mapped[int] = so.mapped_column(primary_key=True)
            order_id: so.Mapped[str]

        self.line: Any = Line

    def to(self, owner: Callable[[], Any], **options: Any) -> Any:
        """Declare the lines of an aggregate."""
        return so.relationship(self.line, primaryjoin=lambda: so.foreign(self.line.order_id) == owner().id, **options)


def test_a_relationship_is_no_state_under_whatever_name_mapped_is_known(engine: Engine) -> None:
    base = make_base()
    of = Lines(base)

    class Full(AggregateRoot, base):  # type: ignore[misc, valid-type]
        n: int = 0
        lines: so.Mapped[list[Any]] = of.to(lambda: Full, viewonly=True)
        many: so.DynamicMapped[Any] = of.to(lambda: Full, viewonly=True)
        later: WriteOnlyMapped[Any] = of.to(lambda: Full, viewonly=True)
        bare: list[Any] = of.to(lambda: Full, viewonly=True)

        @applies(Ticked)
        def _ticked(self, event: Ticked) -> None:
            self.n += 1

    assert names(Full) == {"n"}
    assert set(inspect(Full).relationships.keys()) == {"lines", "many", "later", "bare"}
    base.metadata.create_all(engine)
    with Session(engine) as session:
        full = Full(id="a")
        full.apply_event(Ticked())
        session.add_all([full, of.line(id=1, order_id="a")])
        session.commit()
        assert [line.id for line in full.lines] == [line.id for line in full.many] == [1]
        assert full.n == 1


def test_constants_of_the_class_are_no_state_however_they_are_annotated() -> None:
    class Taxed(AggregateRoot, make_base()):  # type: ignore[misc]
        A: ClassVar[Decimal] = Decimal("0.1")
        B: tp.ClassVar[Decimal] = Decimal("0.2")
        C: ClassVar = Decimal("0.3")
        D: tp.ClassVar[Money] = Decimal("0.4")
        F: Final = Decimal("0.6")
        G: tp.Final[list[int]] = [7]
        H: Rate = Decimal("0.8")  # type: ignore[valid-type]
        n: int = 0

    assert names(Taxed) == {"n"}
    assert [Decimal(each) / 10 for each in (1, 2, 3, 4)] == [Taxed.A, Taxed.B, Taxed.C, Taxed.D]
    assert [Decimal("0.6"), [7], Decimal("0.8")] == [Taxed.F, Taxed.G, Taxed.H]


def test_state_that_names_types_known_to_type_checkers_only() -> None:
    class Dated(AggregateRoot, make_base()):  # type: ignore[misc]
        due: date | None = None
        date: Optional[date] = None  # noqa: UP045 - as it is often written
        price: Annotated[Money, "net"] = Decimal(1)
        items: list[Money] = Field(default_factory=list)
        history: Sequence[Money] = ()

    assert names(Dated) == {"due", "date", "price", "items", "history"}
    assert (Dated().due, Dated().date, Dated().price, Dated().items) == (None, None, Decimal(1), [])


def test_a_default_may_be_said_in_the_annotation_as_for_pydantic() -> None:
    class Preset(AggregateRoot, make_base()):  # type: ignore[misc]
        number: Annotated[int, Field(default=7)]
        items: Annotated[list[int], Field(default_factory=list)]
        nested: Annotated[Annotated[int, Field(default=1)], Field(gt=0)]
        assigned: Annotated[int, Field(default=7)] = 8
        limited: Annotated[int, Field(default=7)] = Field(gt=0)
        none_yet: Annotated[int, Field(gt=0)]

    one, other = Preset(), Preset()
    assert (one.number, one.items, one.nested, one.assigned, one.limited) == (7, [], 1, 8, 7)
    assert one.items is not other.items
    with pytest.raises(AttributeError, match=r"Preset\.none_yet has no default"):
        _ = one.none_yet


def test_snapshots_resolve_the_types_of_state_alone(engine: Engine) -> None:
    base = make_base()
    of = Lines(base)

    class Stored(AggregateRoot, base):  # type: ignore[misc, valid-type]
        __snapshot_frequency__ = 1
        n: int = 0
        lines: so.Mapped[list[of.line]] = of.to(lambda: Stored, viewonly=True)  # type: ignore[name-defined]
        rate: ClassVar[Money] = Decimal(1)

        @applies(Ticked)
        def _ticked(self, event: Ticked) -> None:
            self.n += 1

    base.metadata.create_all(engine)
    with Session(engine) as session:
        stored = Stored(id="a")
        stored.apply_event(Ticked())
        session.add(stored)
        session.commit()
        session.expunge_all()
        assert session.get_one(Stored, "a").n == 1


class Tagged:
    """State of many aggregates."""

    tags: list[str] = []
    seen: int = 0
    LIMIT = 5

    @applies(Ticked)
    def _tagged(self, event: Ticked) -> None:
        self.tags.append(event.tag)
        self.seen += 1


@dataclasses.dataclass
class Dated:
    """A dataclass as a mixin: a factory is not on the class any more."""

    days: list[int] = field(default_factory=list)
    first: int = 3


def doubled(number: int) -> int:
    return 2 * number


def test_a_function_may_be_the_value_that_state_begins_with() -> None:
    body = {"__module__": __name__, "__annotations__": {"rule": Any}, "rule": doubled}
    bag: Any = type("Bag", (AggregateRoot, make_base()), body)
    assert names(bag) == {"rule"}
    assert bag().rule is doubled


class WithMetadata:
    """A mixin that tells type checkers what it finds on the class."""

    total: int = 1
    metadata: MetaData
    registry: so.registry
    count: int = 2


def test_what_a_mixin_finds_on_the_class_is_no_state_and_what_stands_around_it_is() -> None:
    bag: Any = type("Bag", (WithMetadata, AggregateRoot, make_base()), {"__module__": __name__})
    assert names(bag) == {"total", "count"}
    assert (bag().total, bag().count) == (1, 2)


@pytest.mark.parametrize("before", [True, False])
def test_state_of_mixins_is_state_of_the_aggregate(engine: Engine, *, before: bool) -> None:
    base = make_base()
    bases = (Tagged, Dated, AggregateRoot, base) if before else (AggregateRoot, Tagged, Dated, base)
    bag: Any = type("Bag", bases, {"__module__": __name__, "__snapshot_frequency__": 2})
    other: Any = type("OtherBag", bases, {"__module__": __name__})
    assert names(bag) == names(other) == {"tags", "seen", "days", "first"}
    assert bag.LIMIT == 5
    assert (Tagged.tags, Tagged.seen) == ([], 0)
    base.metadata.create_all(engine)
    with Session(engine) as session:
        one, untouched = bag(id="a"), bag(id="b")
        for tag in "xy":
            one.apply_event(Ticked(tag=tag))
        session.add(one)
        session.commit()
        assert (untouched.tags, untouched.seen, untouched.days) == ([], 0, [])
        session.expunge_all()
        one = session.get_one(bag, "a")
        assert (one.tags, one.seen, one.days, one.first) == (["x", "y"], 2, [], 3)
        session.expire(one)
        assert one.seen == 2


def test_a_subclass_gives_inherited_state_another_default(engine: Engine) -> None:
    base = make_base()

    class Parcel(Tagged, AggregateRoot, base):  # type: ignore[misc, valid-type]
        kind: str = "standard"

    class Express(Parcel):
        kind = "express"
        seen = 10

    assert (Parcel(id="a").kind, Express(id="a").kind, Express(id="a").seen) == ("standard", "express", 10)
    base.metadata.create_all(engine)
    with Session(engine) as session:
        express = Express(id="a")
        express.apply_event(Ticked())
        session.add(express)
        session.commit()
        assert (express.kind, express.seen) == ("express", 11)


@pytest.mark.parametrize(
    "default", [field(default_factory=list), field(default=()), Field(default_factory=list), Field(default=[]), []], ids=plainly
)
def test_defaults_may_be_written_as_for_dataclasses_and_models(default: Any) -> None:
    kind: Any = type(
        "Bag", (AggregateRoot, make_base()), {"__module__": __name__, "__annotations__": {"tags": "list[str]"}, "tags": default}
    )
    one, other = kind(id="a"), kind(id="b")
    assert list(one.tags) == []
    assert one.tags is not other.tags or one.tags == ()


def test_generic_aggregates_and_abstract_ones() -> None:
    base = make_base()

    class Holder(AggregateRoot, Generic[T]):
        __abstract__ = True
        content: T | None = None

    class Box(Holder[int], base):  # type: ignore[misc, valid-type]
        n: int = 0

    class Shelf(AggregateRoot, base, Generic[T]):  # type: ignore[misc, valid-type]
        boxes: tuple[T, ...] = ()

    assert names(Box) == {"content", "n"}
    assert (Box(id="a").content, Shelf[int](id="a").boxes) == (None, ())


def test_slots_and_nested_classes_are_left_alone() -> None:
    class Slotted(AggregateRoot, make_base()):  # type: ignore[misc]
        __slots__ = ("cache",)
        n: int = 0

        class Inner:
            pass

    slotted = Slotted(id="a")
    slotted.cache = 1
    assert (slotted.cache, slotted.n, names(Slotted)) == (1, 0, {"n"})


def _class(**body: Any) -> type[Any]:
    annotations = {name: annotation for name, (annotation, _) in body.items() if annotation is not None}
    values = {name: value for name, (_, value) in body.items() if value is not None}
    return type("Order", (AggregateRoot, make_base()), {"__module__": __name__, "__annotations__": annotations, **values})


def _method(self: Any) -> None:
    """Do nothing."""


_method.__qualname__ = "Order.status"

REFUSED: dict[str, tuple[str, Any, str]] = {
    "a column": ("Mapped[int]", None, r"total: int = 0"),
    "a column by another name": ("so.Mapped[int]", None, r"no columns of its own"),
    "a column with a value": ("Mapped[int]", 5, r"no columns of its own"),
    "mapped_column()": ("Mapped[int]", so.mapped_column(), r"is a column"),
    "mapped_column() without annotation": ("", so.mapped_column(Integer), r"is a column"),
    "mapped_column() annotated as state": ("int", so.mapped_column(Integer), r"is a column"),
    "a dynamic column": ("so.DynamicMapped[int]", None, r"no columns of its own"),
    "a resolved annotation": (Mapped[int], None, r"no columns of its own"),  # type: ignore[dict-item]
    "an optional column": ("Mapped[int] | None", None, r"within another annotation"),
    "an optional column of unknown type": ("Optional[so.Mapped[Unknown]]", None, r"within another annotation"),
    "an optional column, None first": ("None | Mapped[int]", None, r"within another annotation"),
    "an annotated column": ("Annotated[Mapped[int], 1]", None, r"within another annotation"),
    "InitVar": ("InitVar[int]", 0, r"no generated constructor"),
    "InitVar of a type that is not there": ("dataclasses.InitVar[Unknown]", 0, r"no generated constructor"),
    "Final without a value": ("Final[int]", None, r"Leave out Final"),
    "a property of the name": ("int", property(_method), r"both a state field and a property"),
    "a method of the name": ("int", _method, r"both a state field and a method"),
    "a factory that wants the other values": ("int", Field(default_factory=lambda data: 1), r"takes no arguments"),
    "such a factory in the annotation": ("Annotated[int, Field(default_factory=lambda data: 1)]", None, r"takes no arguments"),
    "a default that cannot be copied": ("Any", [open], r"default_factory"),
    "a list": ("", [], r"status: ClassVar\[list\[\.\.\.\]\]"),
    "a dict": ("", {"a": 1}, r"Field\(default_factory=dict\)"),
    "a set": ("", {1}, r"Field\(default_factory=set\)"),
    "a deque": ("", deque(), r"all aggregates would share"),
    "a Field without annotation": ("", Field(default_factory=list), r"without annotation"),
    "a dataclass's field without annotation": ("", field(default_factory=list), r"without annotation"),
}
REFUSED["a default that cannot be copied"] = ("Any", (value for value in "ab"), r"default_factory")


@pytest.mark.parametrize(("annotation", "value", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_state_is_refused_with_what_to_write(annotation: str, value: Any, says: str) -> None:
    name = "total" if "int = 0" in says else "status"
    with pytest.raises(DeclarationError, match=rf"Order\.{name}") as caught:
        _class(**{name: (annotation or None, value)})
    assert caught.match(says)


RESERVED = [
    "apply_event",
    "close_stream",
    "is_stream_closed",
    "pending_events",
    "metadata",
    "registry",
    "_sa_instance_state",
    "_sa_eventsource",
]


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("inherited", [False, True])
def test_reserved_names_are_refused_with_the_list(name: str, *, inherited: bool) -> None:
    body = {"__module__": __name__, "__annotations__": {name: "bool"}, name: False}
    with pytest.raises(
        DeclarationError,
        match=rf"Order\.{name} .*Reserved are apply_event, close_stream, id, is_stream_closed, metadata, pending_events",
    ):
        if inherited:
            type("Order", (type("Mixin", (), body), AggregateRoot, make_base()), {"__module__": __name__})
        else:
            type("Order", (AggregateRoot, make_base()), body)


@pytest.mark.parametrize("name", ["_read_only", "_applying", "_pending_events", "_state_loaded", "pending", "session", "key"])
def test_other_names_are_free(engine: Engine, name: str) -> None:
    def ticked(self: Any, event: Ticked) -> None:
        setattr(self, name, True)

    kind: Any = _class(**{name: ("bool", False), "n": ("int", 0), "_ticked": (None, applies(Ticked)(ticked))})
    kind.metadata.create_all(engine)
    with Session(engine) as session:
        account = kind(id="a")
        assert getattr(account, name) is False
        account.apply_event(Ticked())
        session.add(account)
        session.commit()
        account.apply_event(Ticked())
        session.commit()
        session.expunge_all()
        account = session.get_one(kind, "a")
        assert (account.version, getattr(account, name)) == (2, True)


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        ("Mapped[str]", None, "leave the line out"),
        ("int", None, r"AggregateRoot\[UUID\]"),
        ("int", 0, r"AggregateRoot\[UUID\]"),
        (None, 5, "hides the aggregate's own"),
        (None, property(_method), "hides the aggregate's own"),
    ],
)
@pytest.mark.parametrize("name", ["id", "version"])
def test_id_and_version_are_not_declared(name: str, annotation: str | None, value: Any, says: str) -> None:
    with pytest.raises(DeclarationError, match=rf"Order\.{name}.*{says}"):
        _class(**{name: (annotation, value)})


def test_state_does_not_hide_methods_nor_methods_state() -> None:
    class Order(Tagged, AggregateRoot, make_base()):  # type: ignore[misc]
        status: str = "new"

        def pay(self) -> None:
            pass

    with pytest.raises(DeclarationError, match=r"Express\.pay is a state field and hides the method Order\.pay"):
        type("Express", (Order,), {"__module__": __name__, "__annotations__": {"pay": "int"}, "pay": 0})
    with pytest.raises(DeclarationError, match=r"Express\._tagged hides the @applies\(Ticked\) method"):
        type("Express", (Order,), {"__module__": __name__, "_tagged": None})
    with pytest.raises(DeclarationError, match=r"Express\.status is both a state field and a property"):
        type("Express", (Order,), {"__module__": __name__, "status": property(_method)})
    with pytest.raises(DeclarationError, match=r"Express\.apply_event hides a method"):
        type("Express", (Order,), {"__module__": __name__, "apply_event": 0})
