"""How far a follower is behind the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from sa_eventsource.checkpoints.batches import of_follower, window_parameters
from sa_eventsource.checkpoints.places import position_of
from sa_eventsource.store import database_of, in_window

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sa_eventsource.checkpoints.checkpoint import Checkpoint
    from sa_eventsource.consumers import Follower


@dataclass(frozen=True, slots=True)
class Lag:
    """How many events a follower has yet to take, and when the first of them was recorded."""

    events: int = 0
    oldest: datetime | None = None

    @property
    def seconds(self) -> float:
        """How long ago the first of them was recorded; 0.0 if there is none."""
        return 0.0 if self.oldest is None else max(0.0, (datetime.now(UTC) - self.oldest).total_seconds())

    def __add__(self, other: Lag) -> Lag:
        """Both together."""
        times = [each for each in (self.oldest, other.oldest) if each is not None]
        return Lag(self.events + other.events, min(times, default=None))


def lag(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> Lag:
    """Count what a follower has yet to take, as far as this transaction sees it.

    One that is new has yet to take what lies behind the place where it begins.
    """
    events = follower.tables.events
    columns = [func.count(), func.min(events.c.recorded_at)]
    first: int | None = 0
    if checkpoint.declaration is None:
        first = position_of(connection, follower.tables, follower.consumer.begins)
    if first is None:
        return Lag()
    now = database_of(connection.dialect).snapshot(connection)
    if now is None:
        after = max(first, checkpoint.position)
        return Lag(*connection.execute(select(*columns).where(events.c.position > after, *of_follower(follower))).one())
    windows: list[tuple[str | None, str, int]] = [(checkpoint.since, now, first)]
    if checkpoint.until is not None:
        windows = [(checkpoint.since, checkpoint.until, checkpoint.position), (checkpoint.until, now, 0)]
    total = Lag()
    for since, until, after in windows:
        conditions = [events.c.position > after, *in_window(events, has_start=since is not None), *of_follower(follower)]
        total += Lag(*connection.execute(select(*columns).where(*conditions), window_parameters(since, until)).one())
    return total
