"""One event that is parked: why it cannot be taken, how often that was tried, since when, and what waits behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.pages.event_page import shown_event
from sa_eventsource.browser.shown_followers import consumer_named, hides_errors, page_of
from sa_eventsource.browser.shown_parked_events import AFTER, MOST_COUNTED, failed_before, parked_behind, parked_event
from sa_eventsource.projections import in_short

if TYPE_CHECKING:
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit


def show_parked_event(visit: Visit) -> Response:
    """Show what a consumer has parked of an event; it may have been taken or skipped since its address was sent to somebody."""
    consumer = consumer_named(visit.tables, visit.asked("name"))
    shown = shown_event(visit)
    event = shown.row
    row = parked_event(visit, consumer, event)
    if row is None:
        return visit.render("parked_no_more.html", status=404, consumer=consumer, page_of=page_of, event=event)
    behind, number = parked_behind(visit, consumer, row)
    return visit.render(
        "parked_event.html",
        consumer=consumer,
        page_of=page_of,
        event=event,
        payload=shown.payload,
        row=row,
        hides_error=hides_errors(visit, consumer),
        waits_for=failed_before(visit, consumer, row),
        behind=behind,
        number=number,
        most_counted=MOST_COUNTED,
        after_name=AFTER,
        in_short=in_short,
    )


PAGE = Page(addresses=(Address("parked_event", "/followers/parked/{event_id:uuid}", show_parked_event),))
