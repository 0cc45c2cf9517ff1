"""``@handles``: methods of a read model for what declared fields cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sa_eventsource.consumers import HOW_TO_HANDLE, HandlerMethod, by_stored_name, takes_event_and_session
from sa_eventsource.events import DomainEvent, RecordedEvent
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.plain_functions import check_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

H = TypeVar("H", bound="Callable[..., None] | classmethod[Any, Any, None]")

_MARK = "__handles_events__"


def handles(*event_types: type[DomainEvent]) -> Callable[[H], H]:
    """Mark a method of a read model that changes rows for events of the given types, and of those that inherit from them.

    Make it a class method: it is called with the event, together with all that the log knows of it, and the session: in the
    transaction that writes the events for a strong model, in that of the catch-up for an eventual one. It may use any ORM or Core
    code there, and neither commits nor rolls back. Rows that several streams change are loaded by :func:`load_for_update`.

    Args:
        *event_types: One or more event classes.

    Raises:
        DeclarationError: There is none, or one is not a ``DomainEvent`` class.
    """
    if not event_types or not all(isinstance(each, type) and issubclass(each, DomainEvent) for each in event_types):
        raise DeclarationError(
            f"@handles takes one or more DomainEvent classes, such as @handles(OrderPlaced), not {event_types!r}"
        )

    def mark(method: H) -> H:
        setattr(method, _MARK, event_types)
        return method

    return mark


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
    methods: dict[type[DomainEvent], Callable[[RecordedEvent[Any], Session], None]] = {}
    names: dict[str, str] = {}
    for klass in reversed(model.__mro__):
        for name, member in vars(klass).items():
            for event_class in getattr(member, _MARK, getattr(getattr(member, "__func__", None), _MARK, ())):
                event_type = event_class.__event_type__
                if names.get(event_type, name) != name:
                    raise DeclarationError(
                        f"{model.__name__} has two methods for {event_class.__name__}: {names[event_type]} and {name}. Keep one."
                    )
                names[event_type] = name
                method = getattr(model, name)
                if event_class not in getattr(method, _MARK, (event_class,)):
                    raise DeclarationError(
                        f"{model.__name__}.{name} hides the @handles({event_class.__name__}) method of that name. "
                        "Rename one of them."
                    )
                check_plain(f"{model.__name__}.{name}, which @handles {event_class.__name__},", method, HOW_TO_HANDLE)
                methods[event_class] = _checked(model, name, member)
    return methods


def _checked(model: type[Any], name: str, member: object) -> Callable[[RecordedEvent[Any], Session], None]:
    method: Callable[..., None] = getattr(model, name)
    if not isinstance(member, classmethod | staticmethod) or not takes_event_and_session(method):
        raise DeclarationError(
            f"{model.__name__}.{name} is called with the event and the session, and no instance; write\n"
            f"    @classmethod\n    @handles(...)\n    def {name}(cls, recorded, session): ..."
        )
    return method
