"""Forgetting commands that were handled long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from sa_eventsource.commands.command_rows import CommandRows
from sa_eventsource.mapping import DISCARDED, DONE

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables

AT_A_TIME = 10_000

_AGES = timedelta(days=365_000)
"""Longer ago than anything; what lies much further back, no database can compute."""


def check_age(older_than: timedelta) -> None:
    """Refuse what is no age.

    Raises:
        TypeError: It is no ``timedelta``.
        ValueError: It is negative.
    """
    if not isinstance(older_than, timedelta):
        raise TypeError(f"older_than must be a timedelta, such as timedelta(days=30), not {older_than!r}")
    if older_than < timedelta(0):
        raise ValueError(f"older_than must be 0 or more, not {older_than}")


def prune_some(session: Session, tables: EventSourceTables, older_than: timedelta) -> int:
    """Delete some rows of commands that are done or discarded, and commit.

    Returns:
        How many; 0 if there are none left.
    """
    rows = CommandRows.within(session, tables)
    table = rows.table
    before = rows.database.moment_after(-min(older_than, _AGES))
    some = select(table.c.command_id).where(table.c.status.in_((DONE, DISCARDED)), table.c.handled_at <= before).limit(AT_A_TIME)
    number = rows.connection.execute(delete(table).where(table.c.command_id.in_(some))).rowcount
    session.commit()
    return number
