"""Why ``session.merge()`` of an aggregate is refused: it copies attributes, and an aggregate's state is made from events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import object_session

from sa_eventsource.aggregates import books_of
from sa_eventsource.exceptions import UnitOfWorkBypassError

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState

_ADVICE = "Load the aggregate with session.get() and apply the events to it; session.add() reattaches a detached one."


def check_merge(given: InstanceState[Any], own: InstanceState[Any]) -> None:
    """Refuse to merge one aggregate into another, unless there is nothing to copy.

    That is so where an entity beside it is merged, which cascades to it, and both are as the log has them, at one version.

    Args:
        given: What the application has given, or what that refers to.
        own: The session's instance, into which it is merged; an empty one where the log has none.

    Raises:
        UnitOfWorkBypassError: The one given has pending events, or is at another version than the session's.
    """
    source: Any = given.obj()  # both are held by the merge
    target: Any = own.obj()
    version = own.dict.get("version")
    if own.has_identity and given.dict.get("version", version) == version and not books_of(source).pending:
        return
    session = object_session(target)
    if session is not None and target in session.new:
        session.expunge(target)
    raise UnitOfWorkBypassError(f"session.merge() of {source!r}", advice=_ADVICE)
