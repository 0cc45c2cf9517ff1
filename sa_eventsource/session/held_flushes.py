"""Which flushes have what they write travel together, on engines of ``postgresql+psycopg_pipelined``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from sa_eventsource.observation import is_observed
from sa_eventsource.session import written_events
from sa_eventsource.store import can_hold, hold_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy.orm import InstanceState, Session

    from sa_eventsource.store import HeldStatements, LogAppend, StreamAppend

NOTHING_HELD: AbstractContextManager[HeldStatements | None] = nullcontext()
"""For a flush in which all that is written is waited for."""


def hold(
    session: Session, appends: Sequence[LogAppend], written: Sequence[tuple[InstanceState[Any], StreamAppend, bool]]
) -> AbstractContextManager[HeldStatements | None]:
    """Hold what a flush writes, for a block, where it goes to one connection, and where a failure can be explained afterwards.

    That is not so where the transaction has written events before, which may be in the way: it could not be asked any more. Nor is
    it where a new instance has the identity of another one: only when its events are stored does it take that one's place. Nor for
    several logs before observers, who are told of each append by itself.

    Args:
        session: The session.
        appends: All that is to be appended.
        written: The instances, with their events and whether they are new.
    """
    if not appends or not can_hold(appends[0].connection) or len({each.connection for each in appends}) > 1:
        return NOTHING_HELD
    if len(appends) > 1 and is_observed():
        return NOTHING_HELD
    if any(written_events.first_event_written(session, each.connection, each.tables) is not None for each in appends):
        return NOTHING_HELD
    identities = [_identity(state) for state, _, is_new in written if is_new]
    if len(set(identities)) < len(identities) or any(each in session.identity_map for each in identities):
        return NOTHING_HELD
    held = hold_statements(appends[0].connection)
    if held is None:
        return NOTHING_HELD
    for each in appends:
        each.held = held
    return held


def _identity(state: InstanceState[Any]) -> Any:
    return state.mapper._identity_key_from_state(state)  # noqa: SLF001 - as in register_findable
