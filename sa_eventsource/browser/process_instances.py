"""The processes of a process manager, as its pages show them: which there are, how far each has come, and what it has led to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, literal, select

from sa_eventsource.browser.shown_commands import commands_of_ids
from sa_eventsource.commands import require_table
from sa_eventsource.events import ARCHIVED_TYPE, CLOSED_TYPE
from sa_eventsource.mapping import is_scheduled
from sa_eventsource.processes import ids_derived_from

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row, Table

    from sa_eventsource.browser.page import Visit

SIZE = 50
"""How many processes, or events of one, a page has."""

RUNNING = "running"
_STATES = {CLOSED_TYPE: "ended", ARCHIVED_TYPE: "archived"}
STATES = (RUNNING, *_STATES.values())
"""What is said of a process."""

_SECONDS = 0.5
_AT_A_TIME = 500
"""How many processes are looked at by a statement, where those of one state are looked for."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A process.

    Attributes:
        last: Its last event.
        state: ``"running"``; ``"ended"`` where its stream is closed; ``"archived"``.
        time_outs: How many time-outs it waits for.
        due_at: When the first of them is due; None where there is none.
    """

    last: Row[Any]
    state: str
    time_outs: int = 0
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class InstancesPage:
    """A page of processes.

    Attributes:
        instances: The processes, by their ids.
        next: The id that the next page begins behind; None if there is none.
        searched_to: The last id that was looked at, where the time was up before the page was full; else None.
    """

    instances: Sequence[Instance]
    next: str | None
    searched_to: str | None = None


@dataclass(frozen=True, slots=True)
class Reacted:
    """An event of a process, with what led to it, and the commands that the process sent then.

    Attributes:
        row: The event.
        cause: The event that the process reacted to; None where that is not an event of the log.
        commands: The commands, as far as they are kept.
    """

    row: Row[Any]
    cause: Row[Any] | None
    commands: Sequence[Row[Any]]


def instances_after(visit: Visit, process_type: str, after: str | None, state: str | None = None) -> InstancesPage:
    """Read a page of processes in the order of their ids.

    With a state, ids are walked along until the page is full or half a second is over: no index knows of states.

    Args:
        visit: Who asks.
        process_type: The name of the process manager.
        after: The id that the page begins behind; None for the first page.
        state: One of :data:`STATES`, to leave out all others; None for all.
    """
    ends = time.monotonic() + _SECONDS
    number = SIZE + 1 if state is None else _AT_A_TIME
    found: list[Instance] = []
    while True:
        ids = _ids_after(visit, process_type, after, number)
        found += [each for each in instances_of(visit, process_type, ids) if state in (None, each.state)]
        if len(found) > SIZE:
            return InstancesPage(found[:SIZE], next=found[SIZE - 1].last.aggregate_id)
        if len(ids) < number:
            return InstancesPage(found, next=None)
        after = ids[-1]
        if time.monotonic() > ends:
            return InstancesPage(found, next=after, searched_to=after)


def _ids_after(visit: Visit, process_type: str, after: str | None, number: int) -> Sequence[str]:
    """Read ids in their order, from one to the next along an index, however many events each process has."""
    events = visit.tables.events
    following = events.alias("following")
    first = select(func.min(events.c.aggregate_id).label("id"), literal(1).label("number")).where(
        events.c.aggregate_type == process_type, *(() if after is None else (events.c.aggregate_id > after,))
    )
    ids = first.cte("ids", recursive=True)
    behind = select(func.min(following.c.aggregate_id)).where(
        following.c.aggregate_type == process_type, following.c.aggregate_id > ids.c.id
    )
    ids = ids.union_all(select(behind.scalar_subquery(), ids.c.number + 1).where(ids.c.id.is_not(None), ids.c.number < number))
    return visit.connection.execute(select(ids.c.id).where(ids.c.id.is_not(None)).order_by(ids.c.number)).scalars().all()


def instances_of(visit: Visit, process_type: str, ids: Sequence[str]) -> list[Instance]:
    """Read the processes of some ids, in their order; those that there are."""
    events, commands = visit.tables.events, require_table(visit.tables)
    last = (
        select(events.c.aggregate_id, func.max(events.c.version).label("version"))
        .where(events.c.aggregate_type == process_type, events.c.aggregate_id.in_(ids))
        .group_by(events.c.aggregate_id)
        .subquery()
    )
    is_last = and_(events.c.aggregate_id == last.c.aggregate_id, events.c.version == last.c.version)
    rows = visit.connection.execute(_select(events).join_from(last, events, is_last).where(events.c.aggregate_type == process_type))
    by_id = {each.aggregate_id: each for each in rows}
    waiting = (
        select(commands.c.process_id, func.count(), func.min(commands.c.due_at))
        .where(is_scheduled(commands), commands.c.process_type == process_type, commands.c.process_id.in_(ids))
        .group_by(commands.c.process_id)
    )
    time_outs = {each: (number, due_at) for each, number, due_at in visit.connection.execute(waiting)}
    return [
        Instance(by_id[each], _STATES.get(by_id[each].event_type, RUNNING), *time_outs.get(each, (0, None)))
        for each in ids
        if each in by_id
    ]


def reactions_before(visit: Visit, process_type: str, process_id: str, before: int | None) -> list[Reacted]:
    """Read the events of a process, the latest first, each with what led to it and what followed; one more than a page.

    Args:
        visit: Who asks.
        process_type: The name of the process manager.
        process_id: The process's id, as stored.
        before: The version that the page begins before; None for the first page.
    """
    events = visit.tables.events
    of_process = (events.c.aggregate_type == process_type, events.c.aggregate_id == process_id)
    statement = _select(events).where(*of_process, *(() if before is None else (events.c.version < before,)))
    rows = visit.connection.execute(statement.order_by(events.c.version.desc()).limit(SIZE + 1)).all()
    wanted = {each.causation_id for each in rows if each.causation_id is not None}
    found = visit.connection.execute(_select(events).where(events.c.event_id.in_(wanted))) if wanted else ()
    causes = {each.event_id: each for each in found}
    # What a process sends has an id that derives from the event that it reacts to, which may be one of its own.
    reacted_to = {*causes, *(each.event_id for each in rows)}
    ids = {derived: each for each in reacted_to for derived in ids_derived_from(process_type, process_id, each)}
    sent: dict[UUID, list[Row[Any]]] = {}
    for each in commands_of_ids(visit, list(ids)) if ids else ():
        sent.setdefault(ids[each.command_id], []).append(each)
    reacted: list[Reacted] = []
    for row in reversed(rows):  # of several events that followed from one, the first gets the commands
        commands = [*sent.pop(row.event_id, []), *([] if row.causation_id is None else sent.pop(row.causation_id, []))]
        reacted.append(Reacted(row, causes.get(row.causation_id), commands))
    return reacted[::-1]


def _select(events: Table) -> Any:
    return select(*(events.c[name] for name in _COLUMNS))


_COLUMNS = (
    "event_id",
    "event_type",
    "event_version",
    "aggregate_type",
    "aggregate_id",
    "version",
    "occurred_at",
    "position",
    "causation_id",
)
