"""What the library does to an aggregate's instance: loading, expiring, keeping events for the next flush.

Functions rather than methods, so that they neither show on an application's classes nor clash with its names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import object_session
from sqlalchemy.orm.attributes import instance_state, manager_of_class
from sqlalchemy.orm.exc import DetachedInstanceError
from typing_extensions import TypeVar

from sa_eventsource.aggregates.definition import definition_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sa_eventsource.aggregates.aggregate_root import AggregateRoot
    from sa_eventsource.events import PendingEvent

A = TypeVar("A", bound="AggregateRoot[Any]")

# Keys of an instance's __dict__ that are the library's own.
PENDING = "_pending_events"
APPLYING = "_applying"
LOADED = "_state_loaded"
READ_ONLY = "_read_only"


def pending_of(aggregate: AggregateRoot[Any]) -> list[PendingEvent]:
    """Get the events an aggregate keeps for the next flush, oldest first."""
    pending: list[PendingEvent] = vars(aggregate).get(PENDING, [])
    return pending


def set_pending(aggregate: AggregateRoot[Any], pending: list[PendingEvent]) -> None:
    """Replace the events an aggregate keeps for the next flush."""
    if pending:
        vars(aggregate)[PENDING] = pending
    else:
        vars(aggregate).pop(PENDING, None)


def drop_state(aggregate: AggregateRoot[Any]) -> None:
    """Forget state and pending events, so that the next read of a state field loads the aggregate."""
    values = vars(aggregate)
    aggregate.__state_fields__.drop(values)
    values.pop(PENDING, None)
    values.pop(LOADED, None)


def is_loaded(aggregate: AggregateRoot[Any]) -> bool:
    """Tell whether the state fields have been set from events, or by the constructor."""
    return LOADED in vars(aggregate)


def blank(aggregate_class: type[A], aggregate_id: str) -> A:
    """Make an instance with an id and nothing else, without running its constructor."""
    aggregate = aggregate_class.__new__(aggregate_class)
    manager_of_class(aggregate_class).setup_instance(aggregate)
    vars(aggregate)["id"] = definition_of(aggregate_class).typed_id(aggregate_id)
    return aggregate


def restore(
    aggregate: AggregateRoot[Any],
    aggregate_id: str,
    rows: Iterable[Any],
    *,
    snapshot: tuple[int, str] | None = None,
    contiguous: bool = True,
) -> None:
    """Set an aggregate's state and version from stored events, discarding what it had.

    Args:
        aggregate: The instance.
        aggregate_id: Its id as stored.
        rows: Tuples of version, event type, event version, payload text and event id as text, by version.
        snapshot: Version and state text to start from; None to start from nothing.
        contiguous: Whether each row must be one version after the last.

    Raises:
        CorruptStreamError: A version is missing.
        EventDecodeError: A payload does not fit its class.
        UnknownEventTypeError: No class declares an event's type.
        UnhandledEventError: The aggregate has no method for an event.
    """
    definition = definition_of(type(aggregate))
    values = vars(aggregate)
    values.pop(PENDING, None)
    if snapshot is None:
        version = 0
        definition.state.reset(values)
    else:
        version = snapshot[0]
        definition.state.load(values, snapshot[1])
    values[LOADED] = True
    values["id"] = definition.typed_id(aggregate_id)
    values["version"] = version
    advance(aggregate, aggregate_id, rows, contiguous=contiguous)


def advance(aggregate: AggregateRoot[Any], aggregate_id: str, rows: Iterable[Any], *, contiguous: bool = True) -> None:
    """Apply further stored events to an aggregate, behind its present version. Arguments and errors as for :func:`restore`."""
    values = vars(aggregate)
    values[APPLYING] = True
    try:
        version = definition_of(type(aggregate)).replay(aggregate, aggregate_id, rows, values["version"], contiguous=contiguous)
    finally:
        del values[APPLYING]
    values["version"] = version


def rewind(aggregate: AggregateRoot[Any], aggregate_id: str, pending: list[PendingEvent]) -> None:
    """Make an aggregate new again: its state follows from *pending*, which it keeps for the next flush."""
    definition = definition_of(type(aggregate))
    values = vars(aggregate)
    definition.state.reset(values)
    values["id"] = definition.typed_id(aggregate_id)
    values[LOADED] = values[APPLYING] = True
    try:
        for each in pending:
            definition.handlers.find(type(each.event))(aggregate, each.event)
    finally:
        del values[APPLYING]
    values["version"] = pending[-1].version if pending else 0
    set_pending(aggregate, pending)


def past_view(
    aggregate_class: type[A],
    aggregate_id: str,
    rows: Iterable[Any],
    *,
    snapshot: tuple[int, str] | None = None,
    contiguous: bool = True,
) -> A:
    """Make an aggregate as it stood once. It belongs to no session and takes no events. Arguments as for :func:`restore`."""
    aggregate = blank(aggregate_class, aggregate_id)
    restore(aggregate, aggregate_id, rows, snapshot=snapshot, contiguous=contiguous)
    vars(aggregate)[READ_ONLY] = True
    return aggregate


def load_missing_state(aggregate: AggregateRoot[Any]) -> None:
    """Have the session load an aggregate whose state is not there; nothing if it was never stored.

    Raises:
        DetachedInstanceError: It belongs to no session.
    """
    values = vars(aggregate)
    if LOADED in values or instance_state(aggregate).key is None:
        return
    if "version" in values:
        session = object_session(aggregate)
        if session is None:
            raise DetachedInstanceError(f"{aggregate!r} is not bound to a Session; its state cannot be loaded")
        session.expire(aggregate, ["version"])
    _ = aggregate.version
