"""How far the tree has come, for those who watch whether it grows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from sa_eventsource.counting import counted
from sa_eventsource.integrity.proofs_of_base import proofs_of_base
from sa_eventsource.integrity.stored_tree import StoredTree
from sa_eventsource.mapping import check_async_session, check_session, present_session

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

LONGEST = 60.0
"""Seconds that an event may have waited for the tree before that is a problem, where nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeStatus:
    """How far the Merkle tree over a log has come.

    Attributes:
        tree_size: How many events are in it.
        last_position: The position of the last of them; 0 while there is none.
        made_at: When its newest head was made, by the clock of the worker that made it; in UTC, None while there is none.
        key_id: The id of the key that signed it; None without a signature.
        lag_events: How many events are not in it yet.
        lag_seconds: How long ago the oldest of these was recorded; 0.0 if there is none.
    """

    tree_size: int
    last_position: int
    made_at: datetime | None
    key_id: str | None
    lag_events: int
    lag_seconds: float

    def problems(self, *, max_lag_seconds: float | None = None) -> list[str]:
        """List what is wrong; empty if all is well.

        Args:
            max_lag_seconds: How long ago the oldest event may have been recorded that is not in the tree; None for a minute.
        """
        longest = LONGEST if max_lag_seconds is None else max_lag_seconds
        if self.lag_seconds <= longest:
            return []
        waiting = counted(self.lag_events, "event is", "events are")
        return [f"{waiting} not in the Merkle tree, the oldest for {self.lag_seconds:.1f} s; a worker puts them there"]


def tree_status(session: Session | scoped_session[Session], *, base: Any = None) -> TreeStatus:
    """Report how far the Merkle tree over a log has come, in the session's transaction.

    Args:
        session: The session.
        base: The declarative base of the log; None for the only one with proofs.

    Raises:
        DeclarationError: The base has no proofs, or none is given and several have.
    """
    check_session("tree_status()", session, instead="async_tree_status")
    proofs = proofs_of_base("tree_status", base)
    asking = present_session(session)
    connection = asking.connection(bind_arguments=proofs.tables.bind_arguments)
    tree, events = StoredTree(connection, proofs.merkle_tree), proofs.tables.events
    head, last = tree.newest_head(), tree.last_position()
    behind = select(func.count(), func.min(events.c.recorded_at)).where(events.c.position > last)
    number, oldest = connection.execute(behind).one()
    return TreeStatus(
        tree_size=0 if head is None else head.tree_size,
        last_position=last,
        made_at=None if head is None else head.made_at,
        key_id=None if head is None else head.key_id,
        lag_events=number,
        lag_seconds=0.0 if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds()),
    )


async def async_tree_status(session: AsyncSession, *, base: Any = None) -> TreeStatus:
    """Report how far the Merkle tree over a log has come. As :func:`tree_status`."""
    check_async_session("async_tree_status()", session, instead="tree_status")
    return await session.run_sync(tree_status, base=base)
