"""Commands that have an id or a time: which wait, until when and for what, which failed, and what each led to."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select
from starlette.exceptions import HTTPException

from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.shown_commands import (
    STATUSES,
    command_of_id,
    commands_after,
    may_see_commands,
    what_they_await,
)
from sa_eventsource.commands import discard_command, handlers_on, require_table, retry_command
from sa_eventsource.mapping import SCHEDULED
from sa_eventsource.projections import command_backlog, in_short

if TYPE_CHECKING:
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit

_EFFECTS = 50


def show_commands(visit: Visit) -> Response:
    """Show commands of a status."""
    status = visit.asked("status") or SCHEDULED
    if status not in STATUSES:
        raise HTTPException(400, f"status={status} is none of {', '.join(STATUSES)}.")
    c = require_table(visit.tables).c
    chosen = {name: visit.asked(name) for name in ("type", "process", "id")}
    columns = {"type": c.command_type, "process": c.process_type, "id": c.process_id}
    conditions = [columns[name] == value for name, value in chosen.items() if value is not None]
    after = visit.request.query_params.getlist("after")
    page = commands_after(visit, status, conditions, after)
    awaited = what_they_await(visit, page.rows)
    visit.reader.rollback()
    with visit.source.session_in_time(visit.tenant) as session:
        backlog = command_backlog(session, visit.tables)
    return visit.render(
        "commands.html",
        wanted=status,
        statuses=STATUSES,
        chosen=chosen,
        page=page,
        is_first=not after,
        awaited=awaited,
        backlog=backlog,
        types=sorted(handlers_on(visit.tables)),
        sees=may_see_commands(visit),
        in_short=in_short,
    )


def show_command(visit: Visit) -> Response:
    """Show one command: what it holds, what led to it, and the events that its handler wrote."""
    command_id: UUID = visit.request.path_params["command_id"]
    row = command_of_id(visit, command_id)
    if row is None:
        raise HTTPException(404, f"There is no command {command_id}. One that is done is forgotten after a time.")
    events = visit.tables.events
    written = (
        select(events.c.event_id, events.c.event_type, events.c.event_version, events.c.position)
        .where(events.c.causation_id == command_id)
        # By its index: what a handler writes has the correlation id of the command, or the id of one that has none.
        .where(events.c.correlation_id == (row.correlation_id or command_id))
    )
    of_cause = select(events.c.event_id, events.c.event_type, events.c.event_version, events.c.position)
    cause = (
        None
        if row.causation_id is None
        else visit.connection.execute(of_cause.where(events.c.event_id == row.causation_id)).first()
    )
    is_of_command = cause is None and row.causation_id is not None and command_of_id(visit, row.causation_id) is not None
    effects = visit.connection.execute(written.order_by(events.c.position).limit(_EFFECTS)).all()
    return visit.render(
        "command.html",
        command=row,
        cause=cause,
        is_of_command=is_of_command,
        effects=effects,
        awaited=what_they_await(visit, [row]).get(command_id),
        sees=may_see_commands(visit),
        in_short=in_short,
    )


def retry(visit: Visit) -> Response:
    """Schedule a parked command for now."""
    command_id = _id(visit)
    with visit.source.session_of_action(visit.tenant) as session:
        if not retry_command(session, visit.source.base, command_id):
            raise HTTPException(404, f"There is no parked command {command_id} any more.")
        session.commit()
    return visit.go_to("command", command_id=command_id)


def discard(visit: Visit) -> Response:
    """Decide that a command is never done."""
    command_id = _id(visit)
    with visit.source.session_of_action(visit.tenant) as session:
        if not discard_command(session, visit.source.base, command_id):
            raise HTTPException(404, f"No command {command_id} waits any more, or a worker is at it.")
        session.commit()
    return visit.go_to("command", command_id=command_id)


def _id(visit: Visit) -> UUID:
    text = visit.form.get("id", "")
    try:
        return UUID(text)
    except ValueError:
        raise HTTPException(400, f"id={text} is not a UUID.") from None


PAGE = Page(
    addresses=(
        Address("commands", "/commands", show_commands),
        Address("command", "/commands/{command_id:uuid}", show_command),
        Address("retry_command", "/commands/retry", retry, action=True),
        Address("discard_command", "/commands/discard", discard, action=True),
    ),
    navigation="Commands",
    is_there=lambda tables: tables.commands is not None,
)
