"""One event: all of its columns, its payload, and where to go from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sa_eventsource.browser.listed_events import CUT, listed, select_listed
from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.shown_json import LONGEST
from sa_eventsource.store import clear_payloads, database_of, select_raw_events

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Row

    from sa_eventsource.browser.listed_events import Listed
    from sa_eventsource.browser.page import Visit


def show_event(visit: Visit) -> Response:
    """Show an event."""
    event = shown_event(visit)
    row, events = event.row, visit.tables.events
    caused = (
        select(events.c.event_id, events.c.event_type, events.c.position)
        .where(events.c.causation_id == row.event_id)
        # By its index: an effect has the correlation id of its cause, or the id of a cause that has none.
        .where(events.c.correlation_id == (row.correlation_id or row.event_id))
    )
    effects = visit.connection.execute(caused.order_by(events.c.position).limit(_EFFECTS)).all()
    cause = None if row.causation_id is None else _page_of_cause(visit, row.causation_id)
    return visit.render("event.html", event=row, payload=event.payload, size=_size(event), effects=effects, cause=cause)


def _size(event: Listed) -> int | None:
    """Count the bytes of a payload that is shown as a whole; None of one that is not."""
    return None if len(event.payload) > LONGEST or event.payload.endswith(CUT) else len(event.payload.encode())


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
    events = visit.tables.events
    row = _found(visit, select_raw_events(events))
    (payload,) = clear_payloads(visit.connection, events, [row])
    return Response(payload, media_type="application/json")


def shown_event(visit: Visit) -> Listed:
    """Read the event that an address names by its id, and of its payload as much as a page shows, as the reader may see it.

    Its row has the number of bytes that the payload takes as it is stored: ``stored_bytes``.

    Raises:
        HTTPException: There is none.
    """
    connection, events = visit.connection, visit.tables.events
    stored_bytes = database_of(connection.dialect).stored_bytes(events.c.event_data).label("stored_bytes")
    wanted = select_listed(connection, events, longest=LONGEST, most_opened=_MOST_OPENED).add_columns(stored_bytes)
    (event,) = listed(connection, events, [_found(visit, wanted)], longest=LONGEST)
    return event


_MOST_OPENED = 1_000_000
"""As ``MOST_OPENED``: for one event more may be read than for each of a list."""


def _found(visit: Visit, wanted: Any) -> Row[Any]:
    event_id: UUID = visit.request.path_params["event_id"]
    row: Row[Any] | None = visit.connection.execute(wanted.where(visit.tables.events.c.event_id == event_id)).one_or_none()
    if row is None:
        raise HTTPException(404, f"There is no event {event_id}.")
    return row


PAGE = Page(
    addresses=(
        Address("event", "/events/{event_id:uuid}", show_event),
        Address("event_payload", "/events/{event_id:uuid}/payload", show_payload),
    )
)
