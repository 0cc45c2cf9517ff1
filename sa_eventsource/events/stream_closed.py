"""``StreamClosed``: the last event of a stream."""

from __future__ import annotations

from typing import Any, ClassVar

from sa_eventsource.events.domain_event import DomainEvent
from sa_eventsource.exceptions import DeclarationError

CLOSED_TYPE = "sa_eventsource.StreamClosed"
"""The name that it is stored under, in every log: statements look for it."""


class StreamClosed(DomainEvent):
    """A stream has ended: it takes no further event. ``AggregateRoot.close_stream()`` applies it.

    Every aggregate has it, and need not have an ``@applies`` method for it. Read models, subscriptions and publishers take it like
    any other event, if they name it.

    Attributes:
        reason: Why. It is kept for good, in clear: write nothing personal.
    """

    __event_type__: ClassVar[str] = CLOSED_TYPE

    reason: str = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse subclasses: they would be stored under other names.

        Raises:
            DeclarationError: There is one.
        """
        raise DeclarationError(
            f"{cls.__name__} inherits from StreamClosed, whose stored name says that a stream has ended. Apply an event of your "
            "own that says what happened, and call close_stream() after it"
        )


__all__ = ["CLOSED_TYPE", "StreamClosed"]
