"""What those who follow the log have parked, as pages show it: events that could not be taken, and those that wait behind one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select

from sa_eventsource.browser.listed_events import Listed, listed, select_listed
from sa_eventsource.browser.shown_followers import HIDDEN, hides_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from sa_eventsource.browser.page import Visit
    from sa_eventsource.consumers import Consumer

SIZE = 20
"""How many parked events a page has."""

AFTER = "parked_after"
"""The parameter of an address with the position that its page of parked events begins behind."""

MOST_COUNTED = 10_000
"""As far as it is counted what waits behind an event."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A page of what a consumer has parked.

    Attributes:
        events: What is parked of each, with the event and the beginning of its payload; None for one that the log does not have.
        next: The position that the next page begins behind; None where there is none.
        is_first: Whether none lie before them.
    """

    events: Sequence[tuple[Row[Any], Listed | None]]
    next: int | None
    is_first: bool


def parked_events(visit: Visit, consumer: Consumer) -> Any:
    """Select what a consumer has parked, with its errors as the reader may see them."""
    parked = visit.tables.parked_events
    error = case((parked.c.error.is_not(None), HIDDEN)) if hides_errors(visit, consumer) else parked.c.error
    others = [each for each in parked.c if each is not parked.c.error]
    return select(*others, error.label("error")).where(parked.c.projection_name == consumer.name)


def parked_by(visit: Visit, consumer: Consumer) -> Parked:
    """Read a page of the events that could not be taken, one for each stream: the longest waiting first."""
    after = visit.whole_number(AFTER)
    failed = parked_events(visit, consumer).where(visit.tables.parked_events.c.error.is_not(None))
    return _page(visit, failed, after, is_first=after is None)


def parked_event(visit: Visit, consumer: Consumer, event: Row[Any]) -> Row[Any] | None:
    """Read what a consumer has parked of an event of the log; None if it has not, or not any more."""
    parked = visit.tables.parked_events
    # By the primary key: of event ids there is no index.
    of_event = parked_events(visit, consumer).where(parked.c.position == event.position, parked.c.event_id == event.event_id)
    found: Row[Any] | None = visit.connection.execute(of_event).first()
    return found


def failed_before(visit: Visit, consumer: Consumer, row: Row[Any]) -> Row[Any] | None:
    """Find the event that a parked one waits behind; None for one that could not be taken itself."""
    if row.error is not None:
        return None
    parked = visit.tables.parked_events
    failed = parked_events(visit, consumer).where(*_of_stream(visit, row), parked.c.error.is_not(None))
    found: Row[Any] | None = visit.connection.execute(failed.order_by(parked.c.position).limit(1)).first()
    return found


def parked_behind(visit: Visit, consumer: Consumer, row: Row[Any]) -> tuple[Parked, int]:
    """Read a page of what is parked behind an event in the same stream, and count it: one more than is counted if there is more."""
    position, after = visit.tables.parked_events.c.position, visit.whole_number(AFTER)
    behind = parked_events(visit, consumer).where(*_of_stream(visit, row), position > row.position)
    some = behind.with_only_columns(position).limit(MOST_COUNTED + 1).subquery()
    number = visit.connection.execute(select(func.count()).select_from(some)).scalar_one()
    return _page(visit, behind, after, is_first=after is None), number


def _of_stream(visit: Visit, row: Row[Any]) -> list[Any]:
    parked = visit.tables.parked_events
    return [parked.c.aggregate_type == row.aggregate_type, parked.c.aggregate_id == row.aggregate_id]


def _page(visit: Visit, wanted: Any, after: int | None, *, is_first: bool) -> Parked:
    events, position = visit.tables.events, visit.tables.parked_events.c.position
    if after is not None:
        wanted = wanted.where(position > after)
    rows = visit.connection.execute(wanted.order_by(position).limit(SIZE + 1)).all()
    shown = rows[:SIZE]
    stored = select_listed(visit.connection, events).where(events.c.event_id.in_([each.event_id for each in shown]))
    found = visit.connection.execute(stored).all() if shown else []
    by_id = {each.row.event_id: each for each in listed(visit.connection, events, found)}
    has_more = len(rows) > SIZE
    return Parked([(each, by_id.get(each.event_id)) for each in shown], shown[-1].position if has_more else None, is_first)
