"""Places in the log as checkpoints: where a new follower begins, and what one that goes back has still taken.

To be behind a position is to have walked up to it a window that begins with the log: of what its end sees, all up to the position
counts as taken, and nothing else. So an event that becomes visible later is taken, wherever it lies.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from sa_eventsource.arguments import comparable_moment
from sa_eventsource.checkpoints.batches import visible_to_others
from sa_eventsource.checkpoints.checkpoint import Checkpoint
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sa_eventsource.consumers import Follower, Start
    from sa_eventsource.mapping import EventSourceTables


def position_of(connection: Connection, tables: EventSourceTables, place: Start) -> int | None:
    """Find the position behind which a place of the log lies; None if the log has not come so far.

    Args:
        connection: In a transaction at READ COMMITTED.
        tables: The tables of the log.
        place: The place. A time needs a look at the whole log: of when events were recorded there is no index.
    """
    if place in ("beginning", 0):
        return 0
    position, recorded_at = tables.events.c.position, tables.events.c.recorded_at
    if isinstance(place, datetime):
        if place > datetime.now(UTC):
            return None
        first: int | None = connection.scalar(select(func.min(position)).where(recorded_at >= comparable_moment(place)))
        return None if first is None else first - 1
    last: int = connection.execute(select(func.coalesce(func.max(position), 0))).scalar_one()
    if place == "now":
        return last
    return place if isinstance(place, int) and place <= last else None


def begin(connection: Connection, follower: Follower, checkpoint: Checkpoint, place: Start) -> Checkpoint | None:
    """Put a follower that is new at a place of the log; None if the log has not come so far.

    Args:
        connection: In a transaction that holds the follower's checkpoint.
        follower: The follower.
        checkpoint: As it is before the first run.
        place: The place.
    """
    # Before the position is looked for: what becomes visible in between then belongs to the next window.
    until = visible_to_others(connection)
    position = position_of(connection, follower.tables, place)
    if position is None:
        return None
    begun = replace(checkpoint, declaration=follower.consumer.fingerprint)
    return replace(begun, until=until, position=position) if position else begun


def at_end(connection: Connection, tables: EventSourceTables) -> Checkpoint:
    """Make the checkpoint of a follower that has taken all that is visible now, as strong models have."""
    now = database_of(connection.dialect).snapshot(connection)
    if now is not None:
        return Checkpoint(since=now)
    return Checkpoint(position=connection.scalar(select(func.max(tables.events.c.position))) or 0)


def go_back(checkpoint: Checkpoint, position: int) -> Checkpoint:
    """Give back what a follower has taken behind a position; what it had yet to take, it still has.

    In the middle of a window that does not begin with the log, it goes back to where it has come in the window, at least: what was
    taken before and comes after, and what was not, could not be distinguished.
    """
    seen = checkpoint.until or checkpoint.since
    if seen is None:  # SQLite, or nothing was taken
        return replace(checkpoint.without_failure(), position=min(position, checkpoint.position))
    upto = position if checkpoint.until is None else min(position, checkpoint.position)
    return replace(checkpoint.without_failure(), since=None, until=seen, position=upto)
