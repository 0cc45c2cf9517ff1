"""Why ``session.merge()`` of an aggregate is refused: it copies attributes, and an aggregate's state is made from events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates import books_of
from sa_eventsource.exceptions import TenantChangedError, UnitOfWorkBypassError
from sa_eventsource.session.tenants_of_instances import take_in

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Session

_ADVICE = "Load the aggregate with session.get() and apply the events to it; session.add() reattaches a detached one."


def check_merge(session: Session, given: InstanceState[Any], own: InstanceState[Any], loads: bool) -> None:  # noqa: FBT001 - as SQLAlchemy calls it
    """Refuse to merge one aggregate into another, unless there is nothing to copy.

    That is so where an entity alongside it is merged, which cascades to it, and both are as the log has them, at one version.

    Args:
        session: The session.
        given: What the application has given, or what that refers to.
        own: The session's instance, into which it is merged; an empty one where the log has none.
        loads: Whether *own* was loaded; else SQLAlchemy itself refuses an instance that is modified.

    Raises:
        TenantChangedError: The one given is another tenant's.
        UnitOfWorkBypassError: The one given has pending events, or is at another version than the session's.
    """
    if "info" in given.__dict__:
        try:
            take_in(session, given)
        except TenantChangedError:
            if not loads:
                session.expunge(own.obj())
            raise
    if not loads:
        return
    source: Any = given.obj()  # both are held by the merge
    target: Any = own.obj()
    version = own.dict.get("version")
    if own.has_identity and given.dict.get("version", version) == version and not books_of(source).pending:
        return
    if target in session.new:
        session.expunge(target)
    raise UnitOfWorkBypassError(f"session.merge() of {source!r}", advice=_ADVICE)
