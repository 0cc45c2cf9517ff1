"""When two values are the same, and when code that goes on from them does the same."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, ConfigDict

from sa_eventsource.events import difference


class Line(BaseModel):
    """A model that can change, with values that it does not declare."""

    model_config = ConfigDict(extra="allow")

    tags: list[str] = []


def line(**values: Any) -> Line:
    """Make one."""
    return Line.model_validate(values)


@dataclass
class Point:
    """A dataclass that can change."""

    x: float = 0.0
    names: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Fixed:
    """A dataclass that cannot."""

    x: float = 0.0


WINTER = datetime(2026, 1, 1)  # noqa: DTZ001 - gets its zone below
AMSTERDAM = ZoneInfo("Europe/Amsterdam")
LIST, LINE, FIXED = [1], Line(), Fixed()

EXACTLY_THE_SAME: list[tuple[Any, Any]] = [
    ({"a": 1, "b": [Decimal("1.0")]}, {"a": 1, "b": [Decimal("1.0")]}),
    (float("nan"), float("nan")),
    (WINTER.replace(tzinfo=UTC), WINTER.replace(tzinfo=timezone(timedelta(0), "GMT"))),
    (WINTER.replace(tzinfo=AMSTERDAM), WINTER.replace(tzinfo=AMSTERDAM)),
    (WINTER, WINTER.replace()),
    ({1, 2}, {2, 1}),
    ([LIST, LIST], [LIST, LIST]),
    ([FIXED, FIXED], [Fixed(), Fixed()]),
    ((Point(names={"a": 1}), line(tags=["a"], more=1)), (Point(names={"a": 1}), line(tags=["a"], more=1))),
]
THE_SAME: list[tuple[Any, Any, str]] = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ""),
    ([{"a": {"a": 1, "b": 2}}], [{"a": {"b": 2, "a": 1}}], "0.a"),
    (line(more={"a": 1, "b": 2}), line(more={"b": 2, "a": 1}), "more"),
    (Point(names={"a": 1, "b": 2}), Point(names={"b": 2, "a": 1}), "names"),
    ([0.0], [-0.0], "0"),
    (Decimal("1.0"), Decimal("1.00"), ""),
    (WINTER.replace(tzinfo=AMSTERDAM), WINTER.replace(tzinfo=timezone(timedelta(hours=1))), ""),
    ([LIST, LIST], [[1], [1]], "1"),
    ([[1], [1]], [LIST, LIST], "1"),
    ({"a": LINE, "b": (LINE,)}, {"a": Line(), "b": (Line(),)}, "b.0"),
    (deque([LIST, LIST]), deque([[1], [1]]), "1"),
]
OTHERS: list[tuple[Any, Any, str]] = [
    ([1], [1.0], "0"),
    ([1], [True], "0"),
    (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), ""),
    (time(1), time(1, tzinfo=UTC), ""),
    (WINTER.replace(tzinfo=AMSTERDAM), WINTER.replace(tzinfo=UTC), ""),
    (line(more=1), line(more=2), "more"),
]


@pytest.mark.parametrize(("one", "other"), EXACTLY_THE_SAME)
def test_values_from_which_code_goes_on_alike_are_exactly_the_same(one: Any, other: Any) -> None:
    assert difference(one, other, exactly=True) is None


@pytest.mark.parametrize(("one", "other", "path"), THE_SAME)
def test_values_may_be_the_same_but_not_exactly(one: Any, other: Any, path: str) -> None:
    assert difference(one, other) is None
    found = difference(one, other, exactly=True)
    assert found is not None
    assert (found.path, found.is_copy) == (path, found.one == found.other and isinstance(found.one, list | Line))


@pytest.mark.parametrize(("one", "other", "path"), OTHERS)
@pytest.mark.parametrize("exactly", [False, True])
def test_other_values_are_found(one: Any, other: Any, path: str, *, exactly: bool) -> None:
    found = difference(one, other, exactly=exactly)
    assert found is not None
    assert (found.path, found.is_copy) == (path, False)
