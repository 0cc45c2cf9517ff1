"""The log, newest first: filters, pages by position, a moment to go to, and what is committed while one looks."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from starlette.exceptions import HTTPException

from sa_eventsource.aggregates import definition_of
from sa_eventsource.browser.listed_events import listed, select_listed
from sa_eventsource.browser.log_filters import FILTERS, Filters, read_filters, read_moment
from sa_eventsource.browser.log_search import Found, LogSearch, position_at
from sa_eventsource.browser.page import Address, Page
from sa_eventsource.store import database_of, in_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

    from sa_eventsource.browser.listed_events import Listed
    from sa_eventsource.browser.page import Visit
    from sa_eventsource.mapping import EventSourceTables

_NEWS = 100
"""How many new events a page takes in at a time; the rest is counted."""

_MOST_COUNTED = 1_000
"""As far as it is counted: an address may ask for all since the beginning."""


def show_log(visit: Visit) -> Response:
    """Show a page of the log."""
    filters = read_filters(visit.request.query_params, visit.tables.events)
    before, after = visit.whole_number("before"), visit.whole_number("after")
    moment, moment_error = visit.asked("at"), None
    if moment is not None:
        try:
            last = position_at(visit.connection, visit.tables.events, read_moment(moment))
        except ValueError as error:
            moment_error = str(error)
        else:
            before = (last or 0) + 1
    search = LogSearch(visit.connection, visit.tables.events, filters.conditions)
    found = search.before(before) if after is None else search.after(after)
    is_newest = before is None and after is None
    return visit.render(
        "log.html",
        filters=filters,
        offered=FILTERS,
        names=_names(visit.tables),
        days=days_of(found.events),
        found=found,
        moment=moment,
        moment_error=moment_error,
        is_newest=is_newest,
        is_live=is_newest and visit.asked("live") is not None,
        seen=_present(visit) if is_newest else None,
        older=_older(found, after),
        newer=_newer(found, before, after),
    )


def show_news(visit: Visit) -> Response:
    """Show what was committed since the page was made, or since the news before."""
    filters = read_filters(visit.request.query_params, visit.tables.events)
    events, positions = visit.tables.events, _news(visit, filters)
    shown = select_listed(visit.connection, events).where(events.c.position.in_(positions[:_NEWS]))
    rows = visit.connection.execute(shown.order_by(events.c.position.desc())).all()
    counted = min(len(positions), _MOST_COUNTED)
    return visit.render(
        "log_news.html",
        filters=filters,
        days=days_of(listed(visit.connection, events, rows)),
        left_out=max(counted - _NEWS, 0),
        has_more=len(positions) > counted,
        seen=_present(visit),
        is_live=True,
    )


def days_of(events: Sequence[Listed]) -> list[tuple[Any, list[Listed]]]:
    """Put events that follow each other under the day that they occurred on."""
    return [(day, list(some)) for day, some in groupby(events, key=lambda each: each.row.occurred_at.date())]


def _present(visit: Visit) -> str:
    """Say what the page has seen: a snapshot, or where one writes at a time the last position."""
    snapshot = database_of(visit.connection.dialect).snapshot(visit.connection)
    if snapshot is not None:
        return snapshot
    return str(visit.connection.execute(select(func.max(visit.tables.events.c.position))).scalar_one() or 0)


def _news(visit: Visit, filters: Filters) -> list[int]:
    """Find the positions of what was committed since what the page says it has seen: the newest, and so many as are counted.

    Raises:
        HTTPException: It says what no page says.
    """
    events, seen = visit.tables.events, visit.asked("seen") or ""
    by_position = database_of(visit.connection.dialect).has_one_writer
    if not (_POSITION if by_position else _SNAPSHOT).fullmatch(seen):
        raise HTTPException(400, f"seen={seen} is nothing that a page has seen. Reload it.")
    window = (events.c.position > int(seen),) if by_position else in_window(events, has_start=True)
    # Materialized: for its newest, the database would walk the log by position rather than read the window by its index.
    places = select(events.c.position).where(*filters.conditions.all, *window).cte("places")
    places = places.prefix_with("MATERIALIZED", dialect="postgresql")
    newest = select(places.c.position).order_by(places.c.position.desc()).limit(_MOST_COUNTED + 1)
    bounds = {} if by_position else {"since": seen, "until": _present(visit)}
    return list(visit.connection.execute(newest, bounds).scalars())


_POSITION = re.compile(r"[0-9]{1,18}")
_SNAPSHOT = re.compile(r"[0-9]{1,19}:[0-9]{1,19}:[0-9,]*")


def _older(found: Found, after: int | None) -> int | None:
    """Give the position that the next page begins before; None where there is none."""
    if found.searched_to is not None and after is None:
        return found.searched_to
    if after is not None:
        return found.events[-1].row.position if found.events else after + 1
    return found.events[-1].row.position if found.has_more else None


def _newer(found: Found, before: int | None, after: int | None) -> int | None:
    """Give the position that the page before begins after; None where there is none."""
    if after is not None:
        if found.searched_to is not None:
            return found.searched_to
        return found.events[0].row.position if found.has_more else None
    if before is None:
        return None
    return found.events[0].row.position if found.events else before - 1


def _names(tables: EventSourceTables) -> dict[str, list[str]]:
    """List the names that the code knows, for the filters to offer."""
    classes = tables.aggregate_classes
    types = {event.__event_type__ for each in classes.values() for event in definition_of(each).handlers.functions()}
    return {"event_types": sorted(types), "aggregate_types": sorted(classes)}


PAGE = Page(
    addresses=(Address("log", "/log", show_log), Address("log_news", "/log/news", show_news)),
    navigation="Log",
)
