"""Where things stand in the pictures of a correlation: its tree, a line for each event, and its lanes, one for each aggregate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sa_eventsource.browser.durations import duration
from sa_eventsource.browser.shown_text import shortened, written_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row

    from sa_eventsource.browser.event_family import Branch

_LINE, _INDENT, _LEFT = 34, 26, 22
_LANE, _TOP, _NAMES, _STEP, _BOTTOM = 56, 34, 220, 34, 40
_LETTER, _WIDE_LETTER = 8, 15
_LABEL = 84
"""How much room the label of a time takes."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An event in a picture, in pixels.

    Attributes:
        row: The event.
        x: How far from the left its point is.
        y: How far from the top.
        path: The line to it from its cause, as SVG writes it; None where the cause is not in the picture.
        since: How long after the first event of the picture it occurred, such as ``+1.5 s``.
    """

    row: Row[Any]
    x: int
    y: int
    path: str | None
    since: str


@dataclass(frozen=True, slots=True)
class Tree:
    """The picture of a tree: its size, and its events from top to bottom."""

    width: int
    height: int
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Lane:
    """The line of an aggregate: its type and id, and how far from the top it is."""

    aggregate_type: str
    aggregate_id: str
    y: int


@dataclass(frozen=True, slots=True)
class Lanes:
    """The picture of events by aggregate: its size, its lanes, its events in the order of time, and times with their places."""

    width: int
    height: int
    left: int
    lanes: Sequence[Lane]
    marks: Sequence[Mark]
    times: Sequence[tuple[int, str]]


def tree_of(branches: Sequence[Branch]) -> Tree:
    """Draw a tree: an event on each line, indented below its cause."""
    start = min((each.row.occurred_at for each in branches), default=None)
    marks: list[Mark] = []
    width = 0
    for number, each in enumerate(branches):
        x, y = _LEFT + _INDENT * each.depth, _LINE // 2 + _LINE * number
        cause = None if each.parent is None else marks[each.parent]
        path = None if cause is None else f"M{cause.x} {cause.y + 8}V{y - 8}q0 8 8 8H{x - 8}"
        marks.append(Mark(each.row, x, y, path, _since(start, each.row)))
        texts = (each.row.event_type, shortened(each.row.aggregate_type, 44), shortened(each.row.aggregate_id, 44))
        width = max(width, x + sum(_width(text) for text in texts) + 200)
    return Tree(width, _LINE * len(branches) + 4, marks)


def lanes_of(rows: Sequence[Row[Any]]) -> Lanes:
    """Draw events by aggregate over time, from left to right.

    No two events share a place from left to right, and the more time is between two, the further they are apart, though by its
    logarithm: within one picture, some follow within a millisecond and others after weeks.
    """
    ordered = sorted(rows, key=lambda each: (each.occurred_at, each.position))
    start = ordered[0].occurred_at if ordered else None
    lanes: dict[tuple[str, str], Lane] = {}
    places: dict[UUID, tuple[int, int]] = {}
    times: list[tuple[int, str]] = []
    x, before = _NAMES, start
    for row in ordered:
        key = row.aggregate_type, row.aggregate_id
        lane = lanes.setdefault(key, Lane(*key, _TOP + _LANE * len(lanes)))
        x += _STEP + round(14 * math.log10(1 + (row.occurred_at - before) / timedelta(milliseconds=1)))
        before = row.occurred_at
        places[row.event_id] = x, lane.y
        if not times or x - times[-1][0] >= _LABEL:
            times.append((x, _since(start, row)))
    marks = [Mark(row, *places[row.event_id], _arc(places, row), _since(start, row)) for row in ordered]
    return Lanes(x + _LABEL, _TOP + _LANE * len(lanes) + _BOTTOM - _LANE // 2, _NAMES, list(lanes.values()), marks, times)


def _arc(places: dict[UUID, tuple[int, int]], row: Row[Any]) -> str | None:
    """Draw the line from an event's cause to it, with room for the points at both ends; within a lane, above it."""
    if row.causation_id not in places or row.causation_id == row.event_id:
        return None
    (x1, y1), (x2, y2) = places[row.causation_id], places[row.event_id]
    if y1 == y2:
        return f"M{x1} {y1 - 9}C{x1} {y1 - 26} {x2} {y2 - 26} {x2} {y2 - 11}"
    side = 9 if y2 > y1 else -9
    return f"M{x1} {y1 + side}C{x1} {(y1 + y2) // 2} {x2} {(y1 + y2) // 2} {x2} {y2 - side - side // 4}"


def _width(text: str) -> int:
    """Guess the width of a text: a server has no fonts."""
    return sum(_LETTER if each.isascii() else _WIDE_LETTER for each in written_out(text))


def _since(start: datetime | None, row: Row[Any]) -> str:
    """Say how long after the start an event occurred."""
    seconds = 0.0 if start is None else (row.occurred_at - start).total_seconds()
    return f"+{duration(seconds)}"
