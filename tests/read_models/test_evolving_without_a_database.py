"""``@evolves`` methods folded in memory, and what is refused of them and of their declarations."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import ARRAY, CHAR, REAL, DateTime, Float, Numeric, String, TypeDecorator, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, ReadModel, RecordedEvent, evolves, fold, map_from_event
from sa_eventsource.testing import projected, recorded
from tests.parameters import plainly
from tests.read_models.shelves import Put, Shelf, State, Stock, Taken, put, take


class Listed(DomainEvent):
    """What lies on a shelf; a list can be changed."""

    __event_type__ = "evolving.Listed"
    articles: list[str]


def _model(*, method: Any = None, **namespace: Any) -> Any:
    class Local(DeclarativeBase):
        pass

    annotations = dict(namespace.pop("annotations", {"number": Mapped[int]}))
    fields: dict[str, Any] = {"number": mapped_column(default=0)} if "number" in annotations else {}
    marked: dict[str, Any] = {} if method is None else {"method": evolves(Put)(method)}
    members = {"__module__": __name__, "__annotations__": annotations, **fields, **marked, **namespace}
    return type("Model", (ReadModel, Local), members)


def _recorded(*events: DomainEvent) -> list[RecordedEvent[Any]]:
    return recorded(*events, of=Shelf, id="s")


def test_a_model_is_tested_without_a_database() -> None:
    row: Any = projected(Stock, _recorded(put(4), put(9), take(1)))["s"]
    assert (row.id, row.number, row.is_full, row.articles, row.version) == ("s", 12, True, ["tea", "tea"], 3)


def test_validators_are_called_for_what_methods_set() -> None:
    class Local(DeclarativeBase):
        pass

    class Limited(ReadModel, Local):
        number: Mapped[int] = mapped_column(default=0)

        @evolves(Put)
        def put(self, recorded: RecordedEvent[Put]) -> None:
            self.number += recorded.event.number

        @validates("number")
        def _limit(self, _name: str, number: int) -> int:
            if number < 0:
                raise ArithmeticError("too few")
            return min(number, 10)

    assert fold(Limited, _recorded(put(4), put(9), put(-1)))["s"]["number"] == 9
    with pytest.raises(ArithmeticError, match="too few"):
        fold(Limited, _recorded(put(-1)))


NAIVE = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def _sets(name: str, value: object) -> Any:
    return lambda self, _recorded: setattr(self, name, value)


async def _coroutine(_self: Any, _recorded: Any) -> None: ...


def test_a_method_that_changes_its_event_changes_none_of_the_callers() -> None:
    """A worker gives each model events of its own."""

    def spend(_self: Any, recorded: RecordedEvent[Listed]) -> None:
        recorded.event.articles.append("more")
        recorded.metadata.clear()  # type: ignore[attr-defined]

    class Local(DeclarativeBase):
        pass

    class Shelf(AggregateRoot[str], Local):
        __aggregate_type__ = "evolving.Shelf"
        __ignored_events__ = (Listed,)

    class Spending(ReadModel, Local):
        __projection_name__ = "evolving_spending"
        id: Mapped[str]
        number: Mapped[int] = mapped_column(default=0)
        take = evolves(Listed)(spend)

    (given,) = _recorded(Listed(articles=["pen"]))
    given = replace(given, metadata={"user": "ann"})
    for _ in range(2):
        assert fold(Spending, [given])["s"]["version"] == 1
    assert (given.event.articles, given.metadata) == (["pen"], {"user": "ann"})


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        (_sets("number", "12"), TypeError, r"Model.number is of type int and cannot hold '12'"),
        (_sets("number", True), TypeError, "cannot hold True"),
        (_sets("number", None), ValueError, r"Model.number is None after Put; annotate it Mapped\[... \| None\]"),
        (_sets("nubmer", 1), AttributeError, "no field 'nubmer' that an @evolves method can set; it has number"),
        (_sets("id", "other"), ValueError, "Model.id to 'other': it is 's', and kept by the library"),
        (_sets("version", 9), ValueError, "Model.version to 9: it is 1"),
        (lambda self, _recorded: self, TypeError, "returned <Model id='s'>. Write a plain one"),
        (lambda *both: _coroutine(*both), TypeError, "returned coroutine"),  # noqa: PLW0108 - it hides what kind it is
    ],
    ids=["text", "bool", "none", "typo", "key", "kept", "result", "coroutine"],
)
def test_what_a_method_must_not_do_is_refused(method: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fold(_model(method=method), _recorded(put()))


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (Mapped[datetime], NAIVE, "which has no time zone"),
        (Mapped[date], datetime(2026, 1, 1, tzinfo=UTC), "is of type date and cannot hold"),
        (Mapped[State], "o", "is of type State and cannot hold 'o'"),
        (Mapped[list[int]], ["1"], "cannot hold"),
    ],
    ids=["moment", "date", "enum", "list"],
)
def test_values_of_another_type_are_refused(annotation: Any, value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fold(_model(method=_sets("field", value), annotations={"field": annotation}), _recorded(put()))


def _plain(self: Any, recorded: RecordedEvent[Put]) -> None: ...


def _plain_too(self: Any, recorded: RecordedEvent[Taken]) -> None: ...


@pytest.mark.parametrize(
    ("namespace", "message"),
    [
        ({"method": classmethod(_plain)}, "is called with the row and the event, and no session"),
        ({"method": lambda self: None}, "is called with the row and the event, and no session"),
        ({"method": _coroutine}, "is a coroutine function"),
        (
            {"method": _plain, "total": map_from_event(Put, source="number"), "annotations": {"total": Mapped[int]}},
            "which set all but",
        ),
        (
            {"method": _plain, "other": evolves(Taken)(_plain_too), "__removed_by__": (Put,)},
            "evolving.Put removes the row and cannot set a field",
        ),
        (
            {"method": _plain, "a": mapped_column(primary_key=True), "annotations": {"a": Mapped[str]}},
            r"Model.a is a primary key.*map_from_event\(key=True\)",
        ),
        (
            {"method": _plain, "a": mapped_column(String(5)), "annotations": {"a": Mapped[str]}},
            "has a type, which a row of the shared table cannot have",
        ),
        (
            {"method": _plain, "a": mapped_column(server_default="x"), "annotations": {"a": Mapped[str]}},
            "has a server default, which",
        ),
        (
            {"method": _plain, "a": mapped_column(default=text("1")), "annotations": {"a": Mapped[int]}},
            "default that the database works out",
        ),
        ({"method": _plain, "annotations": {"a": Mapped[threading.Thread]}}, "fields cannot hold"),
    ],
    ids=["class method", "arguments", "coroutine", "declared", "removes", "key", "type", "server default", "sql", "thread"],
)
def test_declarations_that_cannot_be_meant_are_refused(namespace: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        _model(**namespace)


class Lowered(TypeDecorator[str]):
    """A type of the application's that changes what it stores."""

    impl = String
    cache_ok = True


@pytest.mark.parametrize(
    ("annotation", "column_type", "advice"),
    [
        (Decimal, Numeric(10, 2, asdecimal=False), "write Double"),
        (float, Numeric(10, 2, asdecimal=False), "write Double"),
        (float, Float(24), "write Double"),
        (float, REAL(), "write Double"),
        (datetime, DateTime(), r"write DateTime\(timezone=True\)"),
        (datetime, postgresql.TIMESTAMP(timezone=True, precision=0), "leave the precision out"),
        (str, CHAR(6), "write String"),
        (str, Lowered(), "leave the type out"),
        (list[Decimal], ARRAY(Numeric(10, 1)), "round values before"),
        (list[str], ARRAY(Lowered()), "leave the type out"),
    ],
    ids=plainly,
)
def test_columns_that_change_values_when_they_are_stored_are_refused(annotation: Any, column_type: Any, advice: str) -> None:
    namespace = {"a": mapped_column(column_type), "annotations": {"a": Mapped[annotation | None]}, "__tablename__": "changing"}
    with pytest.raises(DeclarationError, match=rf"Model\.a has a column of type .* changes values when a row is stored.*{advice}"):
        _model(method=_plain, **namespace)
