"""How the lag of a consumer goes, and how many events a second it takes: samples that the page takes while it is open.

Three addresses: the page, which shows the samples that its own address has, or begins; what a page that is live polls for; and one
more sample for those without JavaScript, which leads to the page. So the address of a page always says what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from starlette.exceptions import HTTPException

from sa_eventsource.browser.lag_pictures import NUMBERS, RATES, SECONDS, picture_of_rates, picture_of_values
from sa_eventsource.browser.lag_samples import (
    Count,
    Sample,
    intervals,
    read_positions,
    read_samples,
    whole,
    with_sample,
    write_positions,
    write_samples,
)
from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.shown_followers import consumer_named, page_of, statuses_of
from sa_eventsource.checkpoints import of_follower
from sa_eventsource.consumers import followers_of
from sa_eventsource.projections import WELL, in_short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit
    from sa_eventsource.consumers import Consumer
    from sa_eventsource.projections import ConsumerStatus

_MOST_TAKEN = 100_000
"""How many events are counted between two samples: a page may be opened again after a week."""

_UNKNOWN = ("moved", "unreadable")
"""The states of a checkpoint that does not say how far behind it is."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an address keeps.

    Attributes:
        samples: The samples, the newest last.
        positions: How far the parts of the consumer had come at the newest.
    """

    samples: Sequence[Sample] = ()
    positions: tuple[int, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of an address that keeps the same."""
        if not self.samples:
            return {}
        return {"samples": write_samples(self.samples), "positions": write_positions(self.positions)}


def show_lag(visit: Visit) -> Response:
    """Show the samples of the address; one that has none, or is live, takes one."""
    consumer, seen = _consumer(visit), _seen(visit)
    status = statuses_of(visit, [consumer])[0]
    is_live = not seen.samples or visit.asked("live") is not None
    if is_live:
        seen = _with_sample(visit, consumer, status, seen)
    return _render(visit, "lag.html", consumer, status, seen, is_live=is_live)


def show_news(visit: Visit) -> Response:
    """Show the same part of a page with one more sample; the address of the page is then that of what it shows."""
    consumer = _consumer(visit)
    status = statuses_of(visit, [consumer])[0]
    seen = _with_sample(visit, consumer, status, _seen(visit))
    response = _render(visit, "lag_now.html", consumer, status, seen, is_live=True)
    response.headers["HX-Replace-Url"] = visit.url("lag", name=consumer.name, **seen.parameters)
    return response


def take_sample(visit: Visit) -> Response:
    """Take one more sample, and lead to the page that shows it."""
    consumer = _consumer(visit)
    seen = _with_sample(visit, consumer, statuses_of(visit, [consumer])[0], _seen(visit))
    return visit.go_to("lag", name=consumer.name, **seen.parameters)


def _consumer(visit: Visit) -> Consumer:
    consumer = consumer_named(visit.tables, visit.asked("name"))
    if getattr(consumer, "is_strong", False):
        raise HTTPException(404, f"{consumer.name} is written with the events: it is never behind.")
    return consumer


def _seen(visit: Visit) -> Seen:
    samples, positions = visit.asked("samples"), visit.asked("positions")
    if samples is None:
        return Seen()
    try:
        return Seen(read_samples(samples), read_positions(positions or ""))
    except ValueError as error:
        raise HTTPException(400, f"{error}.") from error


def _with_sample(visit: Visit, consumer: Consumer, status: ConsumerStatus, seen: Seen) -> Seen:
    """Add a sample of now, unless nobody knows how far the consumer has come."""
    if status.state in _UNKNOWN:
        return seen
    now = datetime.now(UTC)
    newest = Sample(
        now.replace(microsecond=now.microsecond // 1000 * 1000),
        Count(status.lag_events, status.lag_is_whole),
        timedelta(seconds=status.lag_seconds),
        _taken(visit, consumer, seen.positions, status.positions) if seen.samples else None,
    )
    return Seen(with_sample(seen.samples, newest), status.positions)


def _taken(visit: Visit, consumer: Consumer, before: Sequence[int], now: Sequence[int]) -> Count | None:
    """Count the events that the parts of a consumer have come past; None where one went back, or there were others."""
    if len(before) != len(now) or any(then > each for then, each in zip(before, now, strict=True)):
        return None
    position = visit.tables.events.c.position
    number = 0
    with visit.source.session_in_time(visit.tenant) as session:
        connection = session.connection(bind_arguments=visit.tables.bind_arguments)
        for follower, then, reached in zip(followers_of(consumer, connection.dialect), before, now, strict=True):
            if then == reached:
                continue
            rest = _MOST_TAKEN - number + 1
            passed = select(position).where(position > then, position <= reached, *of_follower(follower)).limit(rest).subquery()
            number += connection.execute(select(func.count()).select_from(passed)).scalar_one()
            if number > _MOST_TAKEN:
                return Count(_MOST_TAKEN, is_whole=False)
    return Count(number)


def _last_taken(visit: Visit, position: int) -> Row[Any] | None:
    events = visit.tables.events
    with visit.source.session_in_time(visit.tenant) as session:
        connection = session.connection(bind_arguments=visit.tables.bind_arguments)
        last: Any = select(events.c.event_id, events.c.recorded_at).where(events.c.position == position)
        found: Row[Any] | None = connection.execute(last).first()
        return found


def _render(  # noqa: PLR0913 - all that a page shows
    visit: Visit, template: str, consumer: Consumer, status: ConsumerStatus, seen: Seen, *, is_live: bool
) -> Response:
    samples, parts = seen.samples, intervals(seen.samples)
    pictures = {}
    if parts:
        pictures = {
            "lag": picture_of_values(samples, [each.lag.number for each in samples], scale=NUMBERS),
            "age": picture_of_values(samples, [each.age.total_seconds() for each in samples], scale=SECONDS),
            "rate": picture_of_rates(samples, parts, scale=RATES),
        }
    return visit.render(
        template,
        consumer=consumer,
        page_of=page_of,
        progress=status,
        last=_last_taken(visit, status.position) if status.position else None,
        seen=seen,
        parts=parts,
        pictures=pictures,
        over_all=whole(samples),
        is_live=is_live,
        well=WELL,
        in_short=in_short,
    )


PAGE = Page(
    addresses=(
        Address("lag", "/followers/lag", show_lag),
        Address("lag_news", "/followers/lag/news", show_news),
        Address("lag_sample", "/followers/lag/sample", take_sample),
    )
)
