"""How many commands of a base wait: for their time, for a worker, or for somebody to decide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from sa_eventsource.mapping import is_parked_command, is_scheduled, statement_clock
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables

OVERDUE = 60.0
"""Seconds that a command may have been due for before that is a problem, where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class CommandBacklog:
    """How many commands wait.

    Attributes:
        scheduled: How many wait: for their time, for a worker, or to be tried again.
        due: How many of them have come to their time.
        overdue: How many of these have been due for more than a minute.
        due_types: The stored names of those that are due, the longest first.
        lag_seconds: For how long the oldest has been due; 0.0 if none is.
        parked: How many have failed, and are not tried again.
    """

    scheduled: int
    due: int
    overdue: int
    due_types: tuple[str, ...]
    lag_seconds: float
    parked: int

    def problems(self, *, max_lag_seconds: float | None = None) -> list[str]:
        """List what is wrong; empty if all is well.

        Args:
            max_lag_seconds: For how long one may have been due; None for a minute.
        """
        found = []
        if self.parked:
            found.append(f"{_commands(self.parked)} parked: sa-eventsource commands list --parked")
        if self.lag_seconds > (OVERDUE if max_lag_seconds is None else max_lag_seconds):
            found.append(
                f"{_commands(self.due)} due, the oldest for {self.lag_seconds:.1f} s ({', '.join(self.due_types)}); "
                "a worker runs those whose handlers its process imports"
            )
        return found


def command_backlog(session: Session, tables: EventSourceTables) -> CommandBacklog | None:
    """Count the commands that wait; None if the base has no table of commands. Uses a transaction of its own."""
    table = tables.commands
    if table is None:
        return None
    connection = session.connection(bind_arguments=tables.bind_arguments)
    c = table.c
    is_due = c.due_at <= statement_clock()
    is_overdue = c.due_at <= database_of(connection.dialect).moment_after(timedelta(seconds=-OVERDUE))
    counts = (func.count(), func.count().filter(is_due), func.count().filter(is_overdue))
    oldest = func.min(c.due_at).label("oldest")
    waiting = select(c.command_type, *counts, oldest, statement_clock()).where(is_scheduled(table)).group_by(c.command_type)
    rows = connection.execute(waiting.order_by(oldest)).all()
    parked = connection.scalar(select(func.count()).select_from(table).where(is_parked_command(table)))
    session.rollback()
    return CommandBacklog(
        scheduled=sum(number for _, number, *_ in rows),
        due=sum(due for _, _, due, *_ in rows),
        overdue=sum(overdue for _, _, _, overdue, *_ in rows),
        due_types=tuple(command_type for command_type, _, due, *_ in rows if due),
        lag_seconds=max([0.0, *((now - first).total_seconds() for *_, first, now in rows)]),
        parked=parked or 0,
    )


def _commands(number: int) -> str:
    return f"{number} commands are" if number > 1 else f"{number} command is"
