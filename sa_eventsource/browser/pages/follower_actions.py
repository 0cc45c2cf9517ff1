"""What may be done about those who follow the log: take or skip what they have parked, and go on where one has stopped."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.shown_followers import HIDDEN, consumer_named, hides_errors, page_of
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.projections import drop_stream, parked_streams, resume, retry_stream
from sa_eventsource.store import LOCK_NOT_AVAILABLE, code_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit
    from sa_eventsource.consumers import Consumer
    from sa_eventsource.projections import ParkedStream


def retry(visit: Visit) -> Response:
    """Let a consumer take what it has parked of a stream."""
    with _acting(visit) as (session, consumer):
        retry_stream(session, consumer, _stream(session, consumer, visit.form))
    return visit.go_to(page_of(consumer), name=consumer.name)


def skip(visit: Visit) -> Response:
    """Have a consumer never take what it has parked of a stream."""
    with _acting(visit) as (session, consumer):
        drop_stream(session, consumer, _stream(session, consumer, visit.form))
    return visit.go_to(page_of(consumer), name=consumer.name)


def go_on(visit: Visit) -> Response:
    """Have a consumer that has stopped try its event again."""
    with _acting(visit) as (session, consumer):
        resume(session, consumer)
    return visit.go_to(page_of(consumer), name=consumer.name)


def skip_failed(visit: Visit) -> Response:
    """Have a consumer that has stopped go on behind its event, which it never takes."""
    with _acting(visit) as (session, consumer):
        resume(session, consumer, skip=True)
    return visit.go_to(page_of(consumer), name=consumer.name)


@contextmanager
def _acting(visit: Visit) -> Iterator[tuple[Session, Consumer]]:
    """Open a session for the consumer that a form names; leave out of what fails what the reader may not see."""
    consumer = consumer_named(visit.tables, visit.form.get("name"))
    try:
        with visit.source.session_of_action(visit.tenant) as session:
            yield session, consumer
    except (EventSourceError, DBAPIError) as error:  # both may quote an event's values
        if code_of(error) == LOCK_NOT_AVAILABLE or not hides_errors(visit, consumer):
            raise
        raise HTTPException(409, f"{consumer.name} could not do it. {HIDDEN}") from error


def _stream(session: Session, consumer: Consumer, form: dict[str, str]) -> ParkedStream:
    aggregate_type, aggregate_id = form.get("type", ""), form.get("id", "")
    found = parked_streams(session, consumer, aggregate_type=aggregate_type, aggregate_id=aggregate_id)
    if not found:
        raise HTTPException(404, f"{consumer.name} has parked nothing of {aggregate_type} {aggregate_id} any more.")
    return found[0]


PAGE = Page(
    addresses=(
        Address("retry_parked", "/followers/parked/retry", retry, action=True),
        Address("skip_parked", "/followers/parked/skip", skip, action=True),
        Address("resume", "/followers/resume", go_on, action=True),
        Address("skip_failed", "/followers/skip", skip_failed, action=True),
    )
)
