"""``@handles``: methods of a read model for what declared fields cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sa_eventsource.consumers import HOW_TO_HANDLE, HandlerMethod, by_stored_name
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.plain_functions import check_plain, takes
from sa_eventsource.read_models.marked_methods import MarkedMethod, mark, marked_methods

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from sa_eventsource.events import DomainEvent, RecordedEvent

H = TypeVar("H", bound="Callable[..., None] | classmethod[Any, Any, None]")

_DECORATOR = "handles"


def handles(*event_types: type[DomainEvent]) -> Callable[[H], H]:
    """Mark a method of a read model that changes rows for events of the given types, and of those that inherit from them.

    Make it a class method: it is called with the event, together with all that the log knows of it, and the session: in the
    transaction that writes the events for a strong model, in that of the catch-up for an eventual one. It may use any ORM or Core
    code there, and neither commits nor rolls back. Rows that several streams change are loaded by :func:`load_for_update`. What
    needs no session, but the row and the event alone, is faster with :func:`evolves`.

    Args:
        *event_types: One or more event classes.

    Raises:
        DeclarationError: There is none, or one is not a ``DomainEvent`` class.
    """
    return mark(_DECORATOR, event_types)


def collect(model: type[Any]) -> dict[str, HandlerMethod]:
    """Find the handlers of a class and its bases, for all events that they take by now.

    Raises:
        DeclarationError: Two methods claim one event.
    """
    return by_stored_name(marked(model))


def marked(model: type[Any]) -> dict[type[DomainEvent], Callable[[RecordedEvent[Any], Session], None]]:
    """Find the methods of a class and its bases by the event class that they are marked with.

    Raises:
        DeclarationError: Two methods claim one event, or one is no plain class method that takes an event and a session.
    """
    return {event: _checked(model, event, each) for event, each in marked_methods(model, _DECORATOR).items()}


def _checked(
    model: type[Any], event_class: type[DomainEvent], method: MarkedMethod
) -> Callable[[RecordedEvent[Any], Session], None]:
    where = f"{model.__name__}.{method.name}"
    check_plain(f"{where}, which @handles {event_class.__name__},", method.function, HOW_TO_HANDLE)
    if not isinstance(method.member, classmethod | staticmethod) or not takes(method.function, 2):
        raise DeclarationError(
            f"{where} is called with the event and the session, and no instance; write\n"
            f"    @classmethod\n    @handles(...)\n    def {method.name}(cls, recorded, session): ..."
        )
    return method.function
