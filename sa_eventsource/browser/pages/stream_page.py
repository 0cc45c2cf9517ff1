"""One aggregate's life: its events as a time line, and the state beside it, at each version and at each time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from sa_eventsource.browser.asked_stream import asked_stream
from sa_eventsource.browser.event_code import scenario_code
from sa_eventsource.browser.log_filters import read_moment
from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.stream_life import (
    AROUND,
    given_events,
    life_around,
    life_then,
    moments_of,
)
from sa_eventsource.event_log import changes_between
from sa_eventsource.exceptions import EventSourceError, StreamArchivedError
from sa_eventsource.replays import said_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from starlette.responses import Response

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.browser.page import Visit

_MOST_MOMENTS = 2_000


def show_stream(visit: Visit) -> Response:
    """Show an aggregate at a version, or as it was at a time."""
    try:
        stream = asked_stream(visit)
    except StreamArchivedError as error:
        return _archived(visit, error)
    if stream is None:  # its events can be shown, and nothing can be made of them
        return visit.go_to("log", aggregate=visit.asked("type"), id=visit.request.query_params.get("id", ""))
    definition, aggregate_id, last = stream.definition, stream.aggregate_id, stream.last
    moments = moments_of(visit.connection, definition, aggregate_id, _MOST_MOMENTS)
    common = {"of": stream.address, "is_closed": stream.is_closed, "last": last, "moments": moments}
    if visit.asked("axis") == "occurred" and moments is not None:
        return _at_a_time(visit, definition, aggregate_id, moments, common)
    return _at_a_version(visit, definition, aggregate_id, last, common)


def _at_a_version(visit: Visit, definition: AggregateDefinition, aggregate_id: str, last: int, common: dict[str, Any]) -> Response:
    version = min(visit.whole_number("version", minimum=1) or last, last)
    asked = visit.whole_number("with", minimum=1)
    other = None if asked is None else min(asked, last)
    seconds = visit.source.seconds
    life = life_around(visit.connection, definition, aggregate_id, version, last=last, other=other, seconds=seconds)
    is_shown = life.broken is None or life.rows[0].version <= life.broken <= life.rows[-1].version
    if life.broken is not None and (not is_shown or (other is not None and life.other is None)):
        return visit.go_to("stream", version=life.broken, **common["of"])  # whose time line says what is wrong
    step = life.step
    return visit.render(
        "stream.html",
        version=version,
        life=life,
        row=next((each for each in life.rows if each.version == version), None),
        step=step,
        test=_test(visit, definition, aggregate_id, version),
        other=other,
        compared=None if step is None or life.other is None else _compared(life.other, step.state),
        seconds=seconds,
        link_form=visit.source.link_form,
        **common,
    )


def _at_a_time(
    visit: Visit, definition: AggregateDefinition, aggregate_id: str, moments: list[datetime], common: dict[str, Any]
) -> Response:
    """Show what had occurred by a time, whenever it was recorded, and what that changed since the time before."""
    number = _chosen_moment(visit, moments)
    seconds, previous = visit.source.seconds, moments[number - 1] if number else None
    with _replaying():
        then = life_then(visit.connection, definition, aggregate_id, moments[number], previous=previous, seconds=seconds)
    return visit.render(
        "stream_then.html",
        number=number,
        moment=moments[number],
        then=then,
        changed={} if then.state is None or then.before is None else changes_between(then.before, then.state),
        occurred=[each for each in then.rows if each.occurred_at == moments[number]],
        seconds=seconds,
        around=AROUND,
        **common,
    )


def _archived(visit: Visit, error: StreamArchivedError) -> Response:
    """Say where the events of an archived stream are, since when and why."""
    archives = visit.tables.archives
    if archives is None:
        raise error
    manifest = visit.connection.execute(select(archives).where(archives.c.archive_id == error.archive_id)).one_or_none()
    return visit.render("stream_archived.html", status=410, archived=error, archive=manifest)


@contextmanager
def _replaying() -> Iterator[None]:
    """Say what a method of the application raises, instead of failing."""
    try:
        yield
    except (EventSourceError, SQLAlchemyError, HTTPException):
        raise
    except Exception as error:
        raise HTTPException(409, f"It cannot be replayed: {said_of(error)}") from error


def _chosen_moment(visit: Visit, moments: list[datetime]) -> int:
    """Find the moment that is asked for, by its place in their order or as a time; the last by default."""
    at = visit.asked("at")
    if at is None:
        return min(visit.whole_number("step", minimum=1) or len(moments), len(moments)) - 1
    try:
        wanted = read_moment(at)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    return max(sum(each <= wanted for each in moments) - 1, 0)


def _compared(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str | None, str | None]]:
    """List the state fields with their values at two versions."""
    return [(name, before.get(name), after.get(name)) for name in dict.fromkeys([*after, *before])]


def _test(visit: Visit, definition: AggregateDefinition, aggregate_id: str, version: int) -> str | None:
    try:
        events = given_events(visit.connection, definition, aggregate_id, version)
    except EventSourceError:
        return None  # the time line says why
    return None if events is None else scenario_code(definition.aggregate_class.__name__, definition.typed_id(aggregate_id), events)


PAGE = Page(addresses=(Address("stream", "/stream", show_stream),))
