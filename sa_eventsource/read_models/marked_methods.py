"""Methods of a read model that a decorator has marked with event classes: ``@handles`` and ``@evolves``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sa_eventsource.events import DomainEvent
from sa_eventsource.exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable

M = TypeVar("M")


class MarkedMethod(NamedTuple):
    """A method, and where it was found.

    Attributes:
        name: Its name.
        member: What stands in the body of the class.
        function: What the class gives for the name, to be called.
    """

    name: str
    member: object
    function: Callable[..., Any]


def mark(decorator: str, event_types: tuple[type[DomainEvent], ...]) -> Callable[[M], M]:
    """Make a decorator that marks a method with event classes.

    Args:
        decorator: Its name.
        event_types: The event classes.

    Raises:
        DeclarationError: There is none, or one is not a ``DomainEvent`` class.
    """
    if not event_types or not all(isinstance(each, type) and issubclass(each, DomainEvent) for each in event_types):
        raise DeclarationError(
            f"@{decorator} takes one or more DomainEvent classes, such as @{decorator}(OrderPlaced), not {event_types!r}"
        )

    def decorate(method: M) -> M:
        setattr(method, _attribute(decorator), event_types)
        return method

    return decorate


def marked_methods(model: type[Any], decorator: str) -> dict[type[DomainEvent], MarkedMethod]:
    """Find the methods of a class and its bases by the event class that a decorator has marked them with.

    Raises:
        DeclarationError: Two methods claim one event, or one hides another.
    """
    methods: dict[type[DomainEvent], MarkedMethod] = {}
    names: dict[str, str] = {}
    for klass in reversed(model.__mro__):
        for name, member in vars(klass).items():
            for event_class in _events_of(member, decorator):
                event_type = event_class.__event_type__
                if names.get(event_type, name) != name:
                    raise DeclarationError(
                        f"{model.__name__} has two methods for {event_class.__name__}: {names[event_type]} and {name}. Keep one."
                    )
                names[event_type] = name
                method = getattr(model, name)
                if event_class not in getattr(method, _attribute(decorator), (event_class,)):
                    raise DeclarationError(
                        f"{model.__name__}.{name} hides the @{decorator}({event_class.__name__}) method of that name. "
                        "Rename one of them."
                    )
                methods[event_class] = MarkedMethod(name, member, method)
    return methods


def _attribute(decorator: str) -> str:
    return f"__{decorator}_events__"


def _events_of(member: object, decorator: str) -> tuple[type[DomainEvent], ...]:
    name = _attribute(decorator)
    found: tuple[type[DomainEvent], ...] = getattr(member, name, getattr(getattr(member, "__func__", None), name, ()))
    return found
