"""How many commands of a base wait: for their time, for a worker, or for somebody to decide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, not_, select

from sa_eventsource.counting import counted
from sa_eventsource.mapping import is_parked_command, is_scheduled, statement_clock
from sa_eventsource.projections.time_outs import Clearances, may_run, waits_for_parked
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.projections.time_outs import Clearance

OVERDUE = 60.0
"""Seconds that a command may have been due for before that is a problem, where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class HeldTimeOuts:
    """The time-outs of a process manager that are due, and wait for events that were recorded before.

    Attributes:
        process_type: The name of the process manager.
        number: How many there are.
        lag_seconds: For how long the oldest has been due.
        awaits: What they wait for, in words.
        is_stuck: Whether they wait until somebody does something, as where the process manager has stopped.
    """

    process_type: str
    number: int
    lag_seconds: float
    awaits: str
    is_stuck: bool

    def __str__(self) -> str:
        """One line."""
        held = counted(self.number, f"time-out of {self.process_type} waits", f"time-outs of {self.process_type} wait")
        return f"{held}, due for {self.lag_seconds:.1f} s: {self.awaits}"


@dataclass(frozen=True, slots=True)
class CommandBacklog:
    """How many commands wait.

    Attributes:
        scheduled: How many wait: for their time, for a worker, for their process, or to be tried again.
        due: How many of them a worker may run now.
        overdue: How many of these have been due for more than a minute.
        due_types: The stored names of those that are due, the longest first.
        lag_seconds: For how long the oldest has been due; 0.0 if none is.
        parked: How many have failed, and are not tried again.
        held: The time-outs that have come to their time, and wait for what their process managers have yet to take.
    """

    scheduled: int
    due: int
    overdue: int
    due_types: tuple[str, ...]
    lag_seconds: float
    parked: int
    held: tuple[HeldTimeOuts, ...] = ()

    def problems(self, *, max_lag_seconds: float | None = None) -> list[str]:
        """List what is wrong; empty if all is well.

        Args:
            max_lag_seconds: For how long one may have been due; None for a minute.
        """
        longest = OVERDUE if max_lag_seconds is None else max_lag_seconds
        found = [str(each) for each in self.held if each.is_stuck or each.lag_seconds > longest]
        if self.parked:
            found.append(f"{counted(self.parked, 'command is', 'commands are')} parked: sa-eventsource commands list --parked")
        if self.lag_seconds > longest:
            found.append(
                f"{counted(self.due, 'command is', 'commands are')} due, the oldest for {self.lag_seconds:.1f} s "
                f"({', '.join(self.due_types)}); a worker runs those whose handlers its process imports"
            )
        return found


def command_backlog(session: Session, tables: EventSourceTables) -> CommandBacklog | None:
    """Count the commands that wait; None if the base has no table of commands. Uses transactions of its own.

    Args:
        session: A session without a transaction in progress.
        tables: The tables of the log.
    """
    table = tables.commands
    if table is None:
        return None
    c = table.c
    time_outs = (is_scheduled(table), c.due_at <= statement_clock(), c.process_type.is_not(None))
    connection = session.connection(bind_arguments=tables.bind_arguments)
    processes = connection.execute(select(c.process_type, statement_clock()).where(*time_outs).distinct()).all()
    session.rollback()
    clearances = Clearances(tables).find(session, [name for name, _ in processes], processes[0][1]) if processes else []
    connection = session.connection(bind_arguments=tables.bind_arguments)
    may_run_then = may_run(tables, clearances)
    is_due = and_(c.due_at <= statement_clock(), may_run_then)
    is_overdue = and_(c.due_at <= database_of(connection.dialect).moment_after(timedelta(seconds=-OVERDUE)), may_run_then)
    counts = (func.count(), func.count().filter(is_due), func.count().filter(is_overdue))
    oldest = func.min(c.due_at).filter(is_due).label("oldest")
    waiting = select(c.command_type, *counts, oldest, statement_clock()).where(is_scheduled(table)).group_by(c.command_type)
    rows = connection.execute(waiting.order_by(oldest)).all()
    parked = connection.scalar(select(func.count()).select_from(table).where(is_parked_command(table)))
    held = select(
        c.process_type, func.count(), func.count().filter(waits_for_parked(tables)), func.min(c.due_at), statement_clock()
    ).where(*time_outs, not_(may_run_then))
    held_rows = connection.execute(held.group_by(c.process_type).order_by(c.process_type)).all() if processes else []
    session.rollback()
    awaited = {each.process_type: each for each in clearances}
    return CommandBacklog(
        scheduled=sum(number for _, number, *_ in rows),
        due=sum(due for _, _, due, *_ in rows),
        overdue=sum(overdue for _, _, _, overdue, *_ in rows),
        due_types=tuple(command_type for command_type, _, due, *_ in rows if due),
        lag_seconds=max([0.0, *((now - first).total_seconds() for *_, first, now in rows if first is not None)]),
        parked=parked or 0,
        held=tuple(
            _held(awaited[name], number, of_parked, (now - first).total_seconds())
            for name, number, of_parked, first, now in held_rows
            if name in awaited
        ),
    )


def _held(clearance: Clearance, number: int, of_parked: int, seconds: float) -> HeldTimeOuts:
    awaits = [] if clearance.awaits is None else [clearance.awaits]
    if of_parked:
        awaits.append(f"{of_parked} of them for events that are parked")
    return HeldTimeOuts(
        clearance.process_type, number, max(0.0, seconds), "; ".join(awaits), is_stuck=clearance.is_stuck or of_parked > 0
    )
