"""The processes of a process manager, as its pages show them: which there are, how far each has come, and what it has led to."""

from __future__ import annotations

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

_STATES = {CLOSED_TYPE: "ended", ARCHIVED_TYPE: "archived"}


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


def instances_after(visit: Visit, process_type: str, after: str | None) -> list[Instance]:
    """Read processes in the order of their ids, from id to id along an index, however many events each has; one more than a page.

    Args:
        visit: Who asks.
        process_type: The name of the process manager.
        after: The id that the page begins behind; None for the first page.
    """
    events = visit.tables.events
    following = events.alias("following")
    first = select(func.min(events.c.aggregate_id).label("id"), literal(1).label("number")).where(
        events.c.aggregate_type == process_type, *(() if after is None else (events.c.aggregate_id > after,))
    )
    ids = first.cte("ids", recursive=True)
    behind = select(func.min(following.c.aggregate_id)).where(
        following.c.aggregate_type == process_type, following.c.aggregate_id > ids.c.id
    )
    ids = ids.union_all(select(behind.scalar_subquery(), ids.c.number + 1).where(ids.c.id.is_not(None), ids.c.number <= SIZE))
    found = visit.connection.execute(select(ids.c.id).where(ids.c.id.is_not(None)).order_by(ids.c.number)).scalars().all()
    return instances_of(visit, process_type, found)


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
        Instance(by_id[each], _STATES.get(by_id[each].event_type, "running"), *time_outs.get(each, (0, None)))
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
