"""How far a follower is behind the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from sa_eventsource.checkpoints.batches import of_follower, window_parameters
from sa_eventsource.checkpoints.places import position_of
from sa_eventsource.store import database_of, in_window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.checkpoints.checkpoint import Checkpoint
    from sa_eventsource.consumers import Follower

COUNTED = 10_000
"""How many events a status counts at most: behind a long log, counting all would take seconds, for a number that nobody needs."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How many events a follower has yet to take, and when the first of them was recorded.

    Attributes:
        events: How many were counted.
        oldest: When the first of these was recorded; None if there is none.
        is_whole: Whether these are all; otherwise there are more.
    """

    events: int = 0
    oldest: datetime | None = None
    is_whole: bool = True

    @property
    def seconds(self) -> float:
        """How long ago the first of them was recorded; 0.0 if there is none."""
        return 0.0 if self.oldest is None else max(0.0, (datetime.now(UTC) - self.oldest).total_seconds())

    def __add__(self, other: Lag) -> Lag:
        """Both together."""
        times = [each for each in (self.oldest, other.oldest) if each is not None]
        return Lag(self.events + other.events, min(times, default=None), self.is_whole and other.is_whole)


def lag(connection: Connection, follower: Follower, checkpoint: Checkpoint, *, most: int | None = None) -> Lag:
    """Count what a follower has yet to take, as far as this transaction sees it.

    One that is new has yet to take what comes after the place where it begins.

    Args:
        connection: Where to count.
        follower: The follower.
        checkpoint: How far it has come.
        most: How many to count at most; None for all. Where there are more, the time is that of the first of those counted: the
            log is looked at in the order in which it was written.
    """
    events = follower.tables.events
    first: int | None = 0
    if checkpoint.declaration is None:
        first = position_of(connection, follower.tables, follower.consumer.begins)
    if first is None:
        return Lag()
    now = database_of(connection.dialect).snapshot(connection)
    if now is None:
        after = max(first, checkpoint.position)
        return _counted(connection, follower, [events.c.position > after], {}, most)
    windows: list[tuple[str | None, str, int]] = [(checkpoint.since, now, first)]
    if checkpoint.until is not None:
        windows = [(checkpoint.since, checkpoint.until, checkpoint.position), (checkpoint.until, now, 0)]
    total = Lag()
    for since, until, after in windows:
        conditions = [events.c.position > after, *in_window(events, has_start=since is not None)]
        rest = None if most is None else most - total.events
        total += _counted(connection, follower, conditions, window_parameters(since, until), rest)
    return total


def _counted(
    connection: Connection,
    follower: Follower,
    conditions: Sequence[ColumnElement[bool]],
    parameters: Mapping[str, Any],
    most: int | None,
) -> Lag:
    events = follower.tables.events
    untaken = select(events.c.recorded_at).where(*conditions, *of_follower(follower))
    if most is not None:
        untaken = untaken.limit(most + 1)
    rows = untaken.subquery()
    number, oldest = connection.execute(select(func.count(), func.min(rows.c.recorded_at)).select_from(rows), parameters).one()
    return Lag(number, oldest) if most is None or number <= most else Lag(most, oldest, is_whole=False)
