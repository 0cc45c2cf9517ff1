"""Who, why, and what led to it: the context that events are stored with."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sa_eventsource.events.metadata import as_stored
from sa_eventsource.events.recorded import RecordedEvent
from sa_eventsource.exceptions import EventContextLostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sa_eventsource.types import JsonValue


@dataclass(frozen=True, slots=True)
class EventContext:
    """What events are stored with, besides their payload.

    Put one into ``session.info["event_context"]`` for all events of a session; ``event_context()`` sets it for a block of code, and
    goes before.

    Attributes:
        correlation_id: The business transaction.
        causation_id: The event that led to it.
        metadata: Who, why, and whatever else JSON can hold. It is copied, as it will be read: tuples become lists.

    Raises:
        TypeError: An id is no ``UUID``.
        EventPayloadError: The metadata holds what JSON or PostgreSQL cannot.
    """

    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values, and take the metadata as it will be read."""
        for name in ("correlation_id", "causation_id"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, UUID):
                raise TypeError(f"{name} must be a UUID, not {value!r}; pass uuid.UUID(...)")
        object.__setattr__(self, "metadata", as_stored(self.metadata))

    def merged_over(self, outer: EventContext) -> EventContext:
        """Combine with an outer context; what is set here takes precedence."""
        return EventContext(
            correlation_id=self.correlation_id if self.correlation_id is not None else outer.correlation_id,
            causation_id=self.causation_id if self.causation_id is not None else outer.causation_id,
            metadata={**outer.metadata, **self.metadata},
        )


_EMPTY = EventContext()
_current: ContextVar[EventContext] = ContextVar("sa_eventsource_event_context", default=_EMPTY)


def current_context() -> EventContext:
    """Get the context in force here."""
    return _current.get()


@contextmanager
def event_context(
    *,
    correlation_id: UUID | None = None,
    causation_id: UUID | None = None,
    caused_by: RecordedEvent[Any] | None = None,
    **metadata: JsonValue,
) -> Iterator[EventContext]:
    """Set the context of all events applied within the block.

    Example: ``with event_context(user="ann", reason="complaint"):``

    Blocks nest; the inner one takes precedence, value by value. As a context variable, it applies to the thread or asyncio task, to
    the tasks that are made in the block, and to what the block calls by ``asyncio.to_thread``; other threads do not see it.

    Args:
        correlation_id: The business transaction.
        causation_id: The event that leads to those in the block.
        caused_by: That event as read: sets the causation id to its id, and the correlation id to its correlation id, or to its id
            if it has none.
        **metadata: Who, why, and whatever else JSON can hold.

    Raises:
        TypeError: An id is no ``UUID``.
        EventPayloadError: The metadata holds what JSON or PostgreSQL cannot.
        EventContextLostError: The block ends in another thread or task than it began in, as in a dependency of FastAPI that is a
            plain generator. An error that the block raises is not replaced, but gets this as a note.
    """
    if caused_by is not None and not isinstance(caused_by, RecordedEvent):
        raise TypeError(
            f"caused_by must be an event as read from the log, a RecordedEvent, not {caused_by!r}; an id is causation_id"
        )
    if caused_by is not None:
        causation_id = causation_id if causation_id is not None else caused_by.stored_id
        if correlation_id is None:
            correlation_id = caused_by.correlation_id if caused_by.correlation_id is not None else caused_by.stored_id
    with within_context(EventContext(correlation_id, causation_id, metadata)) as context:
        yield context


@contextmanager
def within_context(inner: EventContext) -> Iterator[EventContext]:
    """Set a context for a block, over the one in force. As :func:`event_context`."""
    context = inner.merged_over(_current.get())
    token = _current.set(context)
    try:
        yield context
    except BaseException as error:
        if not _leave(token):
            error.add_note(str(EventContextLostError(context.metadata)))
        raise
    if not _leave(token):
        raise EventContextLostError(context.metadata)


def _leave(token: Token[EventContext]) -> bool:
    """Go back to the context before; False where another thread or task entered the block, whose context cannot be reached."""
    try:
        _current.reset(token)
    except ValueError:
        return False
    return True
