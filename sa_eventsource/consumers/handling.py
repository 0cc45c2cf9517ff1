"""Handlers: what takes an event in Python, and the mark on a session that one is at work in it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sa_eventsource.events import DomainEvent, RecordedEvent, members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class HandlerMethod:
    """One method for one event type.

    Attributes:
        event_class: The event.
        call: The method, to be called with the recorded event and the session.
    """

    event_class: type[DomainEvent]
    call: Callable[[RecordedEvent[Any], Session], None]


def by_stored_name(declared: Mapping[type[DomainEvent], Callable[[RecordedEvent[Any], Session], None]]) -> dict[str, HandlerMethod]:
    """Find the method for each event that the declared classes stand for: that of the class nearest to it."""
    return {each.__event_type__: HandlerMethod(each, declared[taker]) for each, taker in members(declared).items()}


@contextmanager
def handling(session: Session) -> Iterator[None]:
    """Let handlers change rows of read models through a session, which it refuses to all others."""
    before = session.info.get(_HANDLING, False)
    session.info[_HANDLING] = True
    outer = _at_work.set(True)
    try:
        yield
    finally:
        _at_work.reset(outer)
        session.info[_HANDLING] = before


def is_handling(session: Session) -> bool:
    """Tell whether handlers are at work in a session."""
    return bool(session.info.get(_HANDLING, False))


def is_any_handling() -> bool:
    """Tell whether a handler is at work in this thread or task, for what is not told which session it is in."""
    return _at_work.get()


_HANDLING = "sa_eventsource.handling"
_at_work: ContextVar[bool] = ContextVar("sa_eventsource.handling", default=False)
