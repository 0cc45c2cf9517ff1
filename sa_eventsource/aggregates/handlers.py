"""``@applies``: which method changes an aggregate's state for which event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from sa_eventsource.aggregates.instance import note_closing
from sa_eventsource.class_options import several
from sa_eventsource.events import EVENT_CLASSES, DomainEvent, StreamClosed, class_of, is_replaced, place
from sa_eventsource.exceptions import DeclarationError, RedeclaredEventError, UnhandledEventError
from sa_eventsource.plain_functions import check_plain

if TYPE_CHECKING:
    from collections.abc import Callable

E = TypeVar("E", bound=DomainEvent)
E2 = TypeVar("E2", bound=DomainEvent)
E3 = TypeVar("E3", bound=DomainEvent)
A = TypeVar("A")

_MARK = "__applies_events__"

HOW_TO_APPLY = "Write a plain method that sets state fields; what takes time, or has to be awaited, comes before apply_event()."


# A type checker would take several classes for their common base, and refuse a method that takes just these.
@overload
def applies(first: type[E], /) -> Callable[[Callable[[A, E], None]], Callable[[A, E], None]]: ...
@overload
def applies(first: type[E], second: type[E2], /) -> Callable[[Callable[[A, E | E2], None]], Callable[[A, E | E2], None]]: ...
@overload
def applies(
    first: type[E], second: type[E2], third: type[E3], /
) -> Callable[[Callable[[A, E | E2 | E3], None]], Callable[[A, E | E2 | E3], None]]: ...
@overload
def applies(*event_types: type[E]) -> Callable[[Callable[[A, E], None]], Callable[[A, E], None]]: ...
def applies(*event_types: type[Any]) -> Callable[[Callable[[A, Any], None]], Callable[[A, Any], None]]:
    """Mark the method that changes an aggregate's state for events of the given types.

    The method gets the event and sets state fields; it decides nothing, and must not raise: it runs again at every replay. It also
    takes events of subclasses that have no method of their own. A subclass of the aggregate overrides it by its name.

    Args:
        *event_types: One or more event classes.

    Raises:
        DeclarationError: There is none, or one is not a ``DomainEvent`` class.
    """
    if not event_types or not all(isinstance(each, type) and issubclass(each, DomainEvent) for each in event_types):
        raise DeclarationError(
            f"@applies takes one or more DomainEvent classes, such as @applies(OrderPlaced), not {event_types!r}"
        )

    def mark(method: Callable[[A, Any], None]) -> Callable[[A, Any], None]:
        setattr(method, _MARK, event_types)
        return method

    return mark


def _ignore(aggregate: Any, event: DomainEvent) -> None:
    """Change nothing."""


class Handlers:
    """The ``@applies`` methods of one aggregate class, found by event class."""

    def __init__(self, aggregate_class: type[Any]) -> None:
        """Collect the methods of the class and its bases.

        Raises:
            DeclarationError: Two methods of the class claim one event, one is a coroutine or generator function, or
                ``__ignored_events__`` is no tuple of events.
        """
        self._aggregate_class = aggregate_class
        self._methods: dict[type[DomainEvent], Callable[[Any, Any], None]] = {}
        names: dict[type[DomainEvent], str] = {}
        for klass in reversed(aggregate_class.__mro__):
            own: dict[type[DomainEvent], str] = {}
            for name, member in vars(klass).items():
                for event_class in getattr(member, _MARK, ()):
                    if event_class in own:
                        raise DeclarationError(
                            f"{klass.__name__} has two methods for {event_class.__name__}: {own[event_class]} and {name}. Keep one."
                        )
                    own[event_class] = name
            names.update(own)
            for event_class in several(klass, "__ignored_events__", vars(klass).get("__ignored_events__", ()), EVENT_CLASSES):
                names.pop(event_class, None)
                self._methods[event_class] = _ignore
        self._methods.update({event_class: self._method(name, event_class) for event_class, name in names.items()})
        self._found = dict(self._methods)
        self._found[StreamClosed] = self._closing()

    def _closing(self) -> Callable[[Any, Any], None]:
        """Make what applies ``StreamClosed``: the method that takes it, if any, and the library's note of it."""
        apply = next((self._methods[base] for base in StreamClosed.__mro__ if base in self._methods), _ignore)

        def close(aggregate: Any, event: Any) -> None:
            note_closing(aggregate, event)
            return apply(aggregate, event)  # None, unless it is a generator or the like, which is refused

        return close

    def _method(self, name: str, event_class: type[DomainEvent]) -> Callable[[Any, Any], None]:
        method: Callable[[Any, Any], None] = getattr(self._aggregate_class, name)
        marked = getattr(method, _MARK, None)
        if not callable(method) or (marked is not None and event_class not in marked):
            raise DeclarationError(
                f"{self._aggregate_class.__name__}.{name} hides the @applies({event_class.__name__}) method of that name. "
                "Rename one of them."
            )
        check_plain(f"{self._aggregate_class.__name__}.{name}, which @applies {event_class.__name__},", method, HOW_TO_APPLY)
        return method

    def find(self, event_class: type[DomainEvent]) -> Callable[[Any, Any], None]:
        """Get the method for an event class: its own, or else that of its nearest base.

        Raises:
            UnhandledEventError: There is none, and the class is not among ``__ignored_events__``.
            RedeclaredEventError: There is one for another declaration of the same class.
        """
        try:
            return self._found[event_class]
        except KeyError:
            former = {place(known) for known in self._methods}
            for base in event_class.__mro__:
                if base in self._methods:
                    method = self._found[event_class] = self._methods[base]
                    return method
                if place(base) in former:
                    raise self._declared_again(event_class, base) from None
        raise UnhandledEventError(self._aggregate_class.__name__, event_class.__name__)

    def _declared_again(self, event_class: type[DomainEvent], base: type[DomainEvent]) -> UnhandledEventError:
        present = class_of(event_class.__event_type__, event_class.__event_version__)
        aggregate, event = self._aggregate_class.__name__, event_class.__name__
        if present is not event_class:
            return RedeclaredEventError(aggregate, event, to_repeat=None)
        is_outdated = base is not event_class and is_replaced(base)  # the event's class, which the aggregate's may be besides
        return RedeclaredEventError(aggregate, event, to_repeat=event if is_outdated else aggregate, base_class=base.__name__)

    def find_for(self, event: Any) -> Callable[[Any, Any], object]:
        """Get the method for an event; as :meth:`find`, where something else may have been given, or returned.

        Raises:
            TypeError: *event* is no instance of a ``DomainEvent`` class.
            UnhandledEventError: As for :meth:`find`.
        """
        try:
            return self._found[type(event)]
        except KeyError:
            if isinstance(event, DomainEvent):
                return self.find(type(event))
        if isinstance(event, type):
            raise TypeError(f"an event is an instance, such as {event.__name__}(...), not the class {event.__name__}")
        raise TypeError(f"an event is an instance of a DomainEvent class, not {event!r}, which is of type {type(event).__name__}")

    def functions(self) -> dict[type[DomainEvent], Callable[[Any, Any], None]]:
        """List the methods by event class."""
        return dict(self._methods)
