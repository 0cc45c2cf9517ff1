"""Finding events by position, newest first, in about the same time however long the log is.

Positions are an index: a page begins where the last one ended. With conditions, what few events an index finds are sorted. Where
there may be many, the log is walked by position, a stretch at a time, until the page is full. If the first stretch does not fill
it, they may lie far away: what an index finds is sorted then, unless it is very much. Else the log is walked until the time is up:
the reader then sees how far the search has come, and goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from sa_eventsource.browser.listed_events import listed, select_listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.browser.listed_events import Listed

_FEW, _MANY = 2_000, 100_000
_STRETCH = 5_000
_LONGEST_STRETCH = 80_000
_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """A page of events.

    Attributes:
        events: The events, newest first.
        has_more: Whether there may be others further on.
        searched_to: The last position that was looked at, where the time was up before the page was full; else None.
    """

    events: Sequence[Listed]
    has_more: bool
    searched_to: int | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What events are looked for.

    Attributes:
        indexed: Conditions that an index can serve.
        others: Conditions that are checked event by event.
    """

    indexed: tuple[ColumnElement[bool], ...] = ()
    others: tuple[ColumnElement[bool], ...] = ()

    @property
    def all(self) -> tuple[ColumnElement[bool], ...]:
        """All of them."""
        return (*self.indexed, *self.others)


@dataclass(frozen=True, slots=True)
class LogSearch:
    """Reads pages of a log.

    Attributes:
        connection: Where to read.
        events: The log.
        conditions: What is looked for.
        size: How many events a page has.
    """

    connection: Connection
    events: Table
    conditions: Conditions
    size: int = 50

    def before(self, position: int | None) -> Found:
        """Find the newest events before a position, or of all."""
        return self._page(position, newer=False)

    def after(self, position: int) -> Found:
        """Find the oldest events behind a position, newest first: the page before the one that begins there."""
        return self._page(position, newer=True)

    def _page(self, position: int | None, *, newer: bool) -> Found:
        if not self.conditions.all:
            return self._found(self._rows(position, newer=newer), newer=newer)
        if self.conditions.indexed and self._are_at_most(_FEW):
            return self._found(self._sorted(position, newer=newer), newer=newer)
        return self._walk(position, newer=newer)

    def _walk(self, position: int | None, *, newer: bool) -> Found:
        """Walk the log until the page is full, the log has ended, or the time is up."""
        began, ends = position, time.monotonic() + _SECONDS
        stretch = _STRETCH
        rows: list[Row[Any]] = []
        while True:
            bound = self._end_of_stretch(position, stretch, newer=newer)
            rows += self._rows(position, bound, newer=newer, size=self.size + 1 - len(rows))
            if bound is None or len(rows) > self.size:
                return self._found(rows, newer=newer)
            if stretch == _STRETCH and self.conditions.indexed and self._are_at_most(_MANY):
                return self._found(self._sorted(began, newer=newer), newer=newer)
            if time.monotonic() > ends:
                return self._found(rows, newer=newer, searched_to=bound)
            position, stretch = bound, min(stretch * 2, _LONGEST_STRETCH)

    def _are_at_most(self, number: int) -> bool:
        some = select(self.events.c.position).where(*self.conditions.indexed).limit(number + 1).subquery()
        count: int = self.connection.execute(select(func.count()).select_from(some)).scalar_one()
        return count <= number

    def _sorted(self, position: int | None, *, newer: bool) -> list[Row[Any]]:
        """Find by the index of a condition: the positions of all events are sorted, and only those of the page are read."""
        where, column = self.conditions.all, self.events.c.position
        behind = () if position is None else (column > position if newer else column < position,)
        # Materialized: else the database may walk the log by position, as it takes the condition's events for evenly spread.
        places = select(column).where(*where, *behind).cte("places").prefix_with("MATERIALIZED", dialect="postgresql")
        page = select(places.c.position).order_by(places.c.position if newer else places.c.position.desc()).limit(self.size + 1)
        statement = select_listed(self.connection, self.events).where(column.in_(page))
        return list(self.connection.execute(statement.order_by(column if newer else column.desc())).all())

    def _end_of_stretch(self, position: int | None, length: int, *, newer: bool) -> int | None:
        """Find the last position of the next stretch of the log; None where the log ends in it."""
        statement = _from(select(self.events.c.position), self.events, position, newer=newer).offset(length - 1).limit(1)
        bound: int | None = self.connection.execute(statement).scalar_one_or_none()
        return bound

    def _rows(self, position: int | None, bound: int | None = None, *, newer: bool, size: int | None = None) -> list[Row[Any]]:
        statement = _from(select_listed(self.connection, self.events), self.events, position, newer=newer)
        if bound is not None:
            where = self.events.c.position
            statement = statement.where(where <= bound if newer else where >= bound)
        statement = statement.where(*self.conditions.all).limit(self.size + 1 if size is None else size)
        return list(self.connection.execute(statement).all())

    def _found(self, rows: list[Row[Any]], *, newer: bool, searched_to: int | None = None) -> Found:
        page = rows[: self.size]
        if newer:
            page.reverse()
        return Found(listed(self.connection, self.events, page), len(rows) > self.size or searched_to is not None, searched_to)


def position_at(connection: Connection, events: Table, moment: datetime) -> int | None:
    """Find the last position that was recorded at a moment or before; None if there is none.

    Times of recording grow with positions, except for what transactions that overlap, and clocks that are set back, do to them. So
    the place is found by halving, which needs no index on them.
    """
    ends = select(func.min(events.c.position), func.max(events.c.position))
    low, high = connection.execute(ends).one()
    if low is None or not _is_recorded_by(connection, events, low, moment):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if _is_recorded_by(connection, events, middle, moment):
            low = middle
        else:
            high = middle - 1
    return int(low)


def _is_recorded_by(connection: Connection, events: Table, position: int, moment: datetime) -> bool:
    """Check whether the first event from a position on was recorded by a moment. Positions may have holes."""
    first = select(events.c.recorded_at).where(events.c.position >= position).order_by(events.c.position).limit(1)
    recorded_at: datetime = connection.execute(first).scalar_one()
    return recorded_at <= moment


def _from(statement: Any, events: Table, position: int | None, *, newer: bool) -> Any:
    where = events.c.position
    if position is not None:
        statement = statement.where(where > position if newer else where < position)
    return statement.order_by(where if newer else where.desc())
