"""One event: all of its columns, its payload, and where to go from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sa_eventsource.browser.page import Address, Page
from sa_eventsource.store import clear_payloads, select_raw_events

if TYPE_CHECKING:
    from uuid import UUID

    from sa_eventsource.browser.page import Visit


def show_event(visit: Visit) -> Response:
    """Show an event."""
    row, payload = stored_event(visit)
    events = visit.tables.events
    caused = (
        select(events.c.event_id, events.c.event_type, events.c.position)
        .where(events.c.causation_id == row.event_id)
        # By its index: an effect has the correlation id of its cause, or the id of a cause that has none.
        .where(events.c.correlation_id == (row.correlation_id or row.event_id))
    )
    effects = visit.connection.execute(caused.order_by(events.c.position).limit(_EFFECTS)).all()
    cause = None if row.causation_id is None else _page_of_cause(visit, row.causation_id)
    return visit.render("event.html", event=row, payload=payload, size=len(payload.encode()), effects=effects, cause=cause)


_EFFECTS = 50


def _page_of_cause(visit: Visit, cause: UUID) -> str:
    """Give the address of what led to an event: another event, or a command."""
    commands = visit.tables.commands
    if commands is not None:
        of_command = select(commands.c.command_id).where(commands.c.command_id == cause)
        if visit.connection.execute(of_command).first() is not None:
            return visit.url("command", command_id=cause)
    return visit.url("event", event_id=cause)


def show_payload(visit: Visit) -> Response:
    """Give the whole payload of an event as it is, for programs, and for payloads too long for a page."""
    return Response(stored_event(visit)[1], media_type="application/json")


def stored_event(visit: Visit) -> tuple[Any, str]:
    """Read the event that an address names by its id, and its payload as the reader may see it.

    Raises:
        HTTPException: There is none.
    """
    event_id: UUID = visit.request.path_params["event_id"]
    events = visit.tables.events
    row = visit.connection.execute(select_raw_events(events).where(events.c.event_id == event_id)).one_or_none()
    if row is None:
        raise HTTPException(404, f"There is no event {event_id}.")
    (payload,) = clear_payloads(visit.connection, events, [row])
    return row, payload


PAGE = Page(
    addresses=(
        Address("event", "/events/{event_id:uuid}", show_event),
        Address("event_payload", "/events/{event_id:uuid}/payload", show_payload),
    )
)
