"""Process managers: what they react to, what they wait for and until when, and each of their processes with what it has done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.process_instances import (
    SIZE,
    STATES,
    InstancesPage,
    instances_after,
    instances_of,
    reactions_before,
)
from sa_eventsource.browser.shown_commands import CommandsPage, commands_after, may_see_commands, what_they_await
from sa_eventsource.browser.shown_followers import statuses_of
from sa_eventsource.browser.shown_parked_events import parked_by, parked_events
from sa_eventsource.commands import require_table
from sa_eventsource.consumers import subscriptions_on
from sa_eventsource.mapping import SCHEDULED
from sa_eventsource.processes import ProcessSubscription
from sa_eventsource.projections import WELL, command_backlog, in_short
from sa_eventsource.replays import code_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit
    from sa_eventsource.mapping import EventSourceTables


_LAST_VERSION = 2**31 - 1
"""No stream has a higher one."""


def show_processes(visit: Visit) -> Response:
    """Show all process managers."""
    managers = _managers(visit.tables)
    statuses = statuses_of(visit, managers)
    with visit.source.session_in_time(visit.tenant) as session:
        backlog = command_backlog(session, visit.tables)
    held = {} if backlog is None else {each.process_type: each for each in backlog.held}
    return visit.render("processes.html", statuses=statuses, held=held, well=WELL, in_short=in_short)


def show_process(visit: Visit) -> Response:
    """Show one process manager, the time-outs that it waits for, and its processes."""
    manager = _manager(visit)
    after, process_id, state = visit.asked("after"), visit.asked("id"), visit.asked("state")
    if state not in (None, *STATES):
        raise HTTPException(400, f"state={state} is none of {', '.join(STATES)}.")
    if process_id is None:
        page = instances_after(visit, manager.name, after, state)
    else:
        of_id = instances_of(visit, manager.name, [process_id])
        page = InstancesPage([each for each in of_id if state in (None, each.state)], next=None)
    waiting = _waiting(visit, manager.name)
    parked = parked_by(visit, manager)
    return visit.render(
        "process.html",
        manager=manager,
        reactions=[(each, code_of(getattr(each.owner, each.name))) for each in manager.process.reactions.values()],
        page=page,
        of={"name": manager.name, "state": state},
        process_id=process_id,
        states=STATES,
        is_first=after is None,
        waiting=waiting,
        parked=parked,
        awaited=what_they_await(visit, waiting.rows),
        progress=statuses_of(visit, [manager])[0],
        well=WELL,
        in_short=in_short,
        sees=may_see_commands(visit),
        link_form=visit.source.link_form,
    )


def show_instance(visit: Visit) -> Response:
    """Show one process: what it waits for, and its events with what led to each and what followed."""
    manager = _manager(visit)
    process_id = visit.request.query_params.get("id", "")
    found = instances_of(visit, manager.name, [process_id])
    waiting = _waiting(visit, manager.name, process_id)
    if not found and not waiting.rows:
        raise HTTPException(404, f"There is no process {process_id} of {manager.name}.")
    before = visit.whole_number("before", minimum=1)
    if before is not None:
        before = min(before, _LAST_VERSION)
    reacted = reactions_before(visit, manager.name, process_id, before)
    return visit.render(
        "process_instance.html",
        manager=manager,
        process_id=process_id,
        instance=found[0] if found else None,
        reacted=reacted[:SIZE],
        next=reacted[SIZE - 1].row.version if len(reacted) > SIZE else None,
        waiting=waiting,
        parked=_parked_of(visit, manager, process_id),
        awaited=what_they_await(visit, waiting.rows),
        in_short=in_short,
        sees=may_see_commands(visit),
    )


def _managers(tables: EventSourceTables) -> list[ProcessSubscription]:
    return [each for each in subscriptions_on(tables) if isinstance(each, ProcessSubscription)]


def _manager(visit: Visit) -> ProcessSubscription:
    name = visit.asked("name")
    for each in _managers(visit.tables):
        if each.name == name:
            return each
    raise HTTPException(404, f"There is no process manager {name}. Is its module imported?")


def _waiting(visit: Visit, process_type: str, process_id: str | None = None) -> CommandsPage:
    c = require_table(visit.tables).c
    of_process = [c.process_type == process_type, *([] if process_id is None else [c.process_id == process_id])]
    return commands_after(visit, SCHEDULED, of_process, [])


def _parked_of(visit: Visit, manager: ProcessSubscription, process_id: str) -> list[Any]:
    """Read the events that are parked for a process, the first 50."""
    parked = visit.tables.parked_events
    of_process = (parked.c.aggregate_type == manager.name, parked.c.aggregate_id == process_id)
    found = parked_events(visit, manager).where(*of_process).order_by(parked.c.position).limit(SIZE)
    return list(visit.connection.execute(found))


PAGE = Page(
    addresses=(
        Address("processes", "/processes", show_processes),
        Address("process", "/processes/one", show_process),
        Address("process_instance", "/processes/instance", show_instance),
    ),
    navigation="Processes",
    is_there=lambda tables: bool(_managers(tables)),
)
