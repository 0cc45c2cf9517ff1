"""What a flush must not write: aggregates are not deleted, events are not written by hand, nor are rows of read models.

It is refused when the flush begins, and nothing has happened yet; once more when relationships have added what they write and
delete; and before each row, for the foreign keys that they set on rows of their other side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import object_session
from sqlalchemy.orm.attributes import instance_state

from sa_eventsource.aggregates import AggregateRoot
from sa_eventsource.exceptions import ImmutableEventError
from sa_eventsource.mapping import EventRecord
from sa_eventsource.session import ledger
from sa_eventsource.session.sqlalchemy_internals import unflushed

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, Mapper, Session


def protect(kind: type[Any], refuse: Callable[[Session, Any, str], None]) -> None:
    """Have *refuse* called before a flush writes instances of a class, with what is done: adding, changing or deleting them.

    It raises unless the flush may go on.
    """
    global _protected  # noqa: PLW0603 - grows while modules are imported
    _refusals[kind] = refuse
    _protected = tuple(_refusals)


def refuse_history(_session: Session, instance: Any, deed: str) -> None:
    """Refuse what would write events past the aggregates."""
    advice = (
        "Append events with apply_event() on an aggregate." if deed == "adding" else "Append a new event that corrects it instead."
    )
    raise ImmutableEventError(f"{deed} {instance!r}", advice)


def _refuse_deletion(_session: Session, instance: Any, deed: str) -> None:
    advice = "Apply an event that says it is closed or cancelled; session.expunge() undoes the delete()."
    raise ImmutableEventError(f"{deed} {instance!r}", advice)


_refusals: dict[type[Any], Callable[[Session, Any, str], None]] = {AggregateRoot: _refuse_deletion, EventRecord: refuse_history}
_protected: tuple[type[Any], ...] = tuple(_refusals)


def protected_kinds() -> tuple[type[Any], ...]:
    """Get the classes that are protected, for those who ask of many instances."""
    return _protected


def refuse_protected(session: Session, instance: object, deed: str) -> None:
    """Refuse what is done to an instance, if its class is protected and no handler of a read model has done it."""
    if isinstance(instance, _protected) and instance_state(instance) not in ledger.ledger_of(session).allowed:
        for kind, refuse in _refusals.items():
            if isinstance(instance, kind):
                refuse(session, instance, deed)


def refuse_changed(session: Session, instance: object) -> None:
    """Refuse a changed instance; a collection that is changed is written to rows of others."""
    if isinstance(instance, _protected) and session.is_modified(instance, include_collections=False):
        refuse_protected(session, instance, "changing")


def refuse_in_flush(session: Session, state: InstanceState[Any], *, is_deleted: bool) -> None:
    """Refuse what a flush that is at work is about to write of a protected class; an aggregate, if it is to be deleted."""
    instance = state.obj()
    if is_deleted:
        refuse_protected(session, instance, "deleting")
    elif state.key is None:
        refuse_protected(session, instance, "adding")
    else:
        refuse_changed(session, instance)


def guard_rows(mapper: Mapper[Any]) -> None:
    """Have refused before each row of a class, too, what is protected; aggregates have no rows."""
    if issubclass(mapper.class_, _protected) and not issubclass(mapper.class_, AggregateRoot):
        event.listen(mapper, "before_insert", _before_insert)
        event.listen(mapper, "before_update", _before_update)


def _before_insert(_mapper: Mapper[Any], _connection: Connection, instance: Any) -> None:
    session = object_session(instance)
    if session is not None:
        refuse_protected(session, instance, "adding")


def _before_update(_mapper: Mapper[Any], _connection: Connection, instance: Any) -> None:
    session = object_session(instance)
    if session is not None:
        refuse_changed(session, instance)


def before_post_update(instance: Any) -> None:
    """Refuse a row that is written after the others, since they refer to each other."""
    session = object_session(instance)
    if session is not None:
        refuse_protected(session, instance, "changing")


def allow_changed(session: Session, kind: type[Any]) -> None:
    """Let the flush that is at work write what handlers have changed of a kind, and what their relationships lead to.

    To be called when they are done: nothing else has been changed then, or it would have been refused.
    """
    allowed = ledger.ledger_of(session).allowed
    for instances in unflushed(session):
        for instance in instances:
            if isinstance(instance, kind):
                state = instance_state(instance)
                allowed.add(state)
                allowed.update(related for _, _, related, _ in state.mapper.cascade_iterator("save-update", state))
