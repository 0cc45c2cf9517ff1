"""Commands that wait: for their time, or parked, for somebody to decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, case, cast, literal, null, select, update

from sa_eventsource.arguments import check_uuid
from sa_eventsource.commands.command_rows import CommandRows
from sa_eventsource.commands.command_statements import of_one_row
from sa_eventsource.mapping import (
    DISCARDED,
    PARKED,
    SCHEDULED,
    database_clock,
    is_parked_command,
    is_scheduled,
    session_of,
    statement_clock,
    tables_of_base,
)
from sa_eventsource.store import is_masked

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session, scoped_session


MASKED = "(masked)"
"""What stands for what a command holds, where that is not to be seen."""


@dataclass(frozen=True, slots=True)
class WaitingCommand:
    """A command that is not done.

    Attributes:
        command_id: Its id.
        command_type: Its stored name.
        data: Its values, as JSON text; ``'"(masked)"'`` on a connection that is not to see personal data.
        status: ``"scheduled"`` or ``"parked"``.
        due_at: When it is due, or was tried last, in UTC.
        key: The key that it was scheduled under; None on such a connection, as is what may hold personal data.
        process_type: Of a time-out, the process manager that has scheduled it, for which it waits; None for other commands.
        process_id: The id of the process.
        attempts: How often it has failed.
        error: Why, with the traceback; None if it has not, and ``"(masked)"`` on such a connection.
    """

    command_id: UUID
    command_type: str
    data: str
    status: str
    due_at: datetime
    key: str | None
    process_type: str | None
    process_id: str | None
    attempts: int
    error: str | None


def waiting_commands(session: Session | scoped_session[Session], base: Any, *, only_parked: bool = False) -> list[WaitingCommand]:
    """List the commands that are scheduled or parked, in the order of their time.

    Args:
        session: The session, whose transaction is used.
        base: The declarative base.
        only_parked: Leave those out that wait for their time.

    Raises:
        DeclarationError: The base has no table of commands.
    """
    table = _rows("waiting_commands()", session, base)
    c = table.table.c
    process = (c.process_type, c.process_id)
    held: tuple[ColumnElement[Any], ...] = (cast(c.command_data, Text), c.schedule_key, c.error)
    if is_masked(table.connection):
        held = (literal(f'"{MASKED}"'), cast(null(), Text), case((c.attempts > 0, MASKED)))
    data, key, error = held
    columns: tuple[Any, ...] = (c.command_id, c.command_type, data, c.status, c.due_at, key, *process, c.attempts, error)
    wanted = is_parked_command(table.table)
    if not only_parked:
        wanted |= is_scheduled(table.table)
    found = table.connection.execute(select(*columns).where(wanted).order_by(c.due_at, c.command_id))
    return [WaitingCommand(*row) for row in found]


def retry_command(session: Session | scoped_session[Session], base: Any, command_id: UUID) -> bool:
    """Schedule a parked command for now, with all its attempts before it; call ``commit()`` then.

    It no longer has the key that it was scheduled under, which another one may have by now.

    Returns:
        Whether there is a parked command of the id.

    Raises:
        DeclarationError: The base has no table of commands.
    """
    values = {"status": SCHEDULED, "attempts": 0, "due_at": statement_clock(), "schedule_key": null()}
    return _change("retry_command()", session, base, command_id, (PARKED,), values)


def discard_command(session: Session | scoped_session[Session], base: Any, command_id: UUID) -> bool:
    """Decide that a scheduled or parked command is never done; call ``commit()`` then.

    Its row stays, so that what schedules it once more under its id changes nothing, until it is pruned.

    Returns:
        Whether there is a scheduled or parked command of the id that no worker is at.

    Raises:
        DeclarationError: The base has no table of commands.
    """
    values = {"status": DISCARDED, "handled_at": database_clock()}
    return _change("discard_command()", session, base, command_id, (SCHEDULED, PARKED), values)


def _change(  # noqa: PLR0913, PLR0917 - private
    name: str,
    session: Session | scoped_session[Session],
    base: Any,
    command_id: UUID,
    statuses: tuple[str, ...],
    values: dict[str, Any],
) -> bool:
    check_uuid("command_id", command_id)
    rows = _rows(name, session, base)
    c = rows.table.c
    statement = update(rows.table).where(c.command_id == command_id, of_one_row(c.status.in_(statuses))).values(values)
    return bool(rows.connection.execute(statement).rowcount)


def _rows(name: str, session: Session | scoped_session[Session], base: Any) -> CommandRows:
    return CommandRows.within(session_of(name, session), tables_of_base(name, base))
