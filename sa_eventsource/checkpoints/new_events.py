"""One question to a log for all who follow it: which types of events are new, and whose checkpoints do not include them yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import func, select

from sa_eventsource.checkpoints.checkpoint import STOPPED, Checkpoint, read_checkpoints
from sa_eventsource.checkpoints.snapshot import Snapshot
from sa_eventsource.store import asking_options, current_snapshot, database_of, in_window, require_own_transaction

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Follower
    from sa_eventsource.mapping import EventSourceTables

Mark: TypeAlias = Snapshot | int
"""What was visible in a log at one moment: a snapshot, or, with one writer at a time, the last position."""


@dataclass(slots=True)
class NewEvents:
    """What has become visible in a log since it was asked last, and which followers have taken it.

    Attributes:
        tables: The log's tables.
        bind_arguments: What shows a session with several binds which to use.
    """

    tables: EventSourceTables
    bind_arguments: dict[str, Any]
    _first: Mark | None = field(default=None, init=False)
    _mark: Mark | None = field(default=None, init=False)
    _seen: dict[str, Mark] = field(default_factory=dict, init=False)
    _taken: dict[str, tuple[Mark, int]] = field(default_factory=dict, init=False)

    def types(self, session: Session) -> AbstractSet[str] | None:
        """List the types of the events that have become visible; None where all may be new.

        That is the first time, and when a server answers that lacks what was seen here, as a standby that has taken over: what
        is appended there may look as if it had been seen.

        Uses a transaction of its own, without a BEGIN where the database allows it.

        Raises:
            JoinedTransactionError: The session's bind is in a transaction.
        """
        require_own_transaction(session, self.bind_arguments)
        database = database_of(session.get_bind(**self.bind_arguments).dialect)
        ask = self._behind_position if database.has_one_writer else self._in_window
        before = self._mark
        try:
            connection = session.connection(
                bind_arguments=self.bind_arguments, execution_options=asking_options(session, self.tables, self.bind_arguments)
            )
            self._mark, types = ask(connection, before)
        finally:
            session.rollback()
        if before is None or not _includes(self._mark, before):
            self._first = self._mark
            self._seen.clear()
            self._taken.clear()
            return None
        self._seen.update(dict.fromkeys(types, self._mark))
        return types

    def has_taken_all(self, follower: Follower, position: int) -> None:
        """Note that a follower was found to have nothing left to take, after the log was asked last.

        Args:
            follower: The follower.
            position: The position that its checkpoint had then.
        """
        if self._mark is not None:
            self._taken[follower.name] = self._mark, position

    def left_over(self, session: Session, followers: Iterable[Follower]) -> list[Follower]:
        """Find the followers whose checkpoints do not include all that has been seen here.

        Somebody else has yet to commit it, died while at it, or has sent the follower back. Left out are those that have
        stopped, and those whose checkpoint nobody can read.
        """
        options = asking_options(session, self.tables, self.bind_arguments)
        connection = session.connection(bind_arguments=self.bind_arguments, execution_options=options)
        try:
            checkpoints = dict(read_checkpoints(connection, self.tables))
        finally:
            session.rollback()
        return [follower for follower in followers if self._is_left_over(follower, checkpoints.get(follower.name, Checkpoint()))]

    def _is_left_over(self, follower: Follower, checkpoint: Checkpoint) -> bool:
        if checkpoint.status == STOPPED or not checkpoint.is_readable:
            return False
        marks = [self._first, *(self._seen.get(event_type) for event_type in follower.consumer.stored_types)]
        reached = [_reached(checkpoint, self._mark)]
        mark, position = self._taken.get(follower.name, (None, 0))
        if checkpoint.until is None and checkpoint.position >= position:  # else it was sent back since
            reached.append(mark)
        return not all(any(_includes(one, mark) for one in reached) for mark in marks if mark is not None)

    def _in_window(self, connection: Connection, since: Mark | None) -> tuple[Mark, AbstractSet[str]]:
        events = self.tables.events
        if since is None:
            return Snapshot.parse(connection.execute(select(current_snapshot())).scalar_one()), frozenset()
        now = func.pg_current_snapshot()
        new = select(events.c.event_type).where(*in_window(events, has_start=True, until=now)).distinct()
        statement = select(current_snapshot(), func.array(new.scalar_subquery()))
        snapshot, types = connection.execute(statement, {"since": str(since)}).one()
        return Snapshot.parse(snapshot), set(types)

    def _behind_position(self, connection: Connection, before: Mark | None) -> tuple[Mark, AbstractSet[str]]:
        events = self.tables.events
        last = func.coalesce(select(func.max(events.c.position)).scalar_subquery(), 0)
        position: int = connection.execute(select(last)).scalar_one()
        if before is None or position == before:
            return position, frozenset()
        return position, set(connection.scalars(select(events.c.event_type).where(events.c.position > before).distinct()))


def _reached(checkpoint: Checkpoint, like: Mark | None) -> Mark | None:
    """How far a checkpoint has come, if it is between two windows and has been written at all."""
    if checkpoint.declaration is None or checkpoint.until is not None:
        return None
    if isinstance(like, Snapshot):
        return None if checkpoint.since is None else Snapshot.parse(checkpoint.since)
    return checkpoint.position


def _includes(one: Mark | None, other: Mark) -> bool:
    if isinstance(one, Snapshot) and isinstance(other, Snapshot):
        return one.sees_all_of(other)
    return isinstance(one, int) and isinstance(other, int) and one >= other
