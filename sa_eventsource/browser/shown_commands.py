"""Commands that have a row, as pages show them: those that wait, are parked, or are done, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Text, and_, cast, func, literal, or_, select
from starlette.exceptions import HTTPException

from sa_eventsource.browser.listed_events import PREVIEW
from sa_eventsource.commands import require_table
from sa_eventsource.mapping import DISCARDED, DONE, PARKED, SCHEDULED, is_parked_command, is_scheduled, statement_clock
from sa_eventsource.projections import Clearances, waits_for_parked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Row

    from sa_eventsource.browser.page import Visit
    from sa_eventsource.projections import Clearance

STATUSES = (SCHEDULED, PARKED, DONE, DISCARDED)
"""What a command's row says of it, in the order of the page's tabs."""

SIZE = 50
"""How many commands a page has."""


@dataclass(frozen=True, slots=True)
class CommandsPage:
    """A page of commands.

    Attributes:
        rows: The commands.
        next: What the next page begins behind; empty if there is none.
    """

    rows: Sequence[Row[Any]]
    next: Sequence[str]


def may_see_commands(visit: Visit) -> bool:
    """Check whether the reader sees what commands hold, which is personal data where events have some."""
    return visit.access.personal_data or visit.tables.options.master_keys is None


def commands_after(visit: Visit, status: str, conditions: Sequence[ColumnElement[bool]], after: Sequence[str]) -> CommandsPage:
    """Read a page of commands: those that wait or are parked by their time, others by id.

    Args:
        visit: Who asks.
        status: One of :data:`STATUSES`.
        conditions: What else is asked of them.
        after: What the page begins behind, as :attr:`CommandsPage.next` gives it; empty for the first page.

    Raises:
        HTTPException: *after* is nothing that a page gives.
    """
    table = require_table(visit.tables)
    c = table.c
    statement = _select(visit).where(*conditions, _has_status(visit, status))
    has_time = status in (SCHEDULED, PARKED)
    if after:
        due, last = _place(after, has_time=has_time)
        behind = and_(c.due_at >= due, or_(c.due_at > due, c.command_id > last)) if has_time else c.command_id < last
        statement = statement.where(behind)
    statement = statement.order_by(*((c.due_at, c.command_id) if has_time else (c.command_id.desc(),)))
    rows = visit.connection.execute(statement.limit(SIZE + 1)).all()
    page = rows[:SIZE]
    has_more = len(rows) > SIZE
    last_of_page = [*([page[-1].due_at.isoformat()] if has_time else []), str(page[-1].command_id)] if has_more else []
    return CommandsPage(page, last_of_page)


def command_of_id(visit: Visit, command_id: UUID) -> Row[Any] | None:
    """Read a command, with all that it holds; None if there is none of the id."""
    wanted = _select(visit, is_whole=True).where(require_table(visit.tables).c.command_id == command_id)
    return visit.connection.execute(wanted).one_or_none()


def commands_of_ids(visit: Visit, ids: Sequence[UUID]) -> Sequence[Row[Any]]:
    """Read the commands that there are among some ids."""
    return visit.connection.execute(_select(visit).where(require_table(visit.tables).c.command_id.in_(ids))).all()


def what_they_await(visit: Visit, rows: Sequence[Row[Any]]) -> dict[UUID, str]:
    """Say for what else than their time commands wait, by id. The page's own transaction is over then."""
    held = [each for each in rows if each.status == SCHEDULED and each.process_type is not None and each.due_at <= each.now]
    if not held:
        return {}
    visit.reader.rollback()
    names = sorted({each.process_type for each in held})
    with visit.source.session_in_time(visit.tenant) as session:
        clearances = {each.process_type: each for each in Clearances(visit.tables).find(session, names, held[0].now)}
    found = {each.command_id: _awaited(each, clearances) for each in held}
    return {command_id: awaited for command_id, awaited in found.items() if awaited is not None}


def _awaited(row: Row[Any], clearances: Mapping[str, Clearance]) -> str | None:
    clearance = clearances[row.process_type]
    if clearance.upto is None or row.due_at > clearance.upto:
        return clearance.awaits
    return "an event of its process is parked, which was recorded before it was due" if row.waits_for_parked else None


def _select(visit: Visit, *, is_whole: bool = False) -> Any:
    table = require_table(visit.tables)
    c = table.c
    columns: list[Any] = [c[name] for name in _COLUMNS]
    if may_see_commands(visit):
        data, context, outcome = (cast(c[name], Text) for name in ("command_data", "metadata", "outcome"))
        shown = data if is_whole else func.substr(data, 1, PREVIEW)
        columns += [shown.label("data"), c.schedule_key, c.error]
        columns += [context.label("context"), outcome.label("outcome")] if is_whole else []
    else:  # a role that may not see them has no right to these columns either
        columns += [literal(None).label(name) for name in ("data", "schedule_key", "error", "context", "outcome")]
    is_due = and_(c.process_type.is_not(None), c.status == SCHEDULED, c.due_at <= statement_clock())
    return select(*columns, and_(is_due, waits_for_parked(visit.tables)).label("waits_for_parked"), statement_clock().label("now"))


_COLUMNS = (
    "command_id",
    "command_type",
    "status",
    "due_at",
    "process_type",
    "process_id",
    "attempts",
    "created_at",
    "handled_at",
    "correlation_id",
    "causation_id",
)


def _has_status(visit: Visit, status: str) -> ColumnElement[bool]:
    """Select commands of a status, in words that PostgreSQL finds again in the partial indexes."""
    table = require_table(visit.tables)
    if status == SCHEDULED:
        return is_scheduled(table)
    return is_parked_command(table) if status == PARKED else table.c.status == status


def _place(after: Sequence[str], *, has_time: bool) -> tuple[datetime | None, UUID]:
    try:
        due = datetime.fromisoformat(after[0]) if has_time else None
        (last,) = map(UUID, after[1:] if has_time else after)
        if due is not None and due.tzinfo is None:
            raise ValueError
        due = due and due.astimezone(UTC)
    except (ValueError, IndexError, OverflowError):
        raise HTTPException(400, f"after={', '.join(after)} names no command. Begin with the first page.") from None
    return due, last
