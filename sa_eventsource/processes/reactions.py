"""``@reacts``: methods of a process manager that say what follows from an event, and what they may return."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from sa_eventsource.events import DomainEvent
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.plain_functions import check_plain, check_ran, takes

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sa_eventsource.events import RecordedEvent

M = TypeVar("M", bound="Callable[..., Any]")

_MARK = "__reacts_to__"

_WITHOUT_FIELDS = frozenset({"builtins", "datetime", "decimal", "uuid"})
"""Modules of types whose attributes are known without an instance."""

HOW_TO_REACT = "Write a plain method, def on_event(self, event), that returns commands, events, After(...), or a list of them."


@dataclass(frozen=True, slots=True)
class After:
    """A command for later: ``After(timedelta(minutes=30), CancelOrder(order_id=...))``.

    Attributes:
        delay: How long after the event occurred that is reacted to.
        command: The command.
        key: A name for its place: what the same process has scheduled under it before, and is not yet begun, is replaced.
    """

    delay: timedelta
    command: BaseModel
    key: str | None = None

    def __post_init__(self) -> None:
        """Check the types.

        Raises:
            TypeError: *delay* is no ``timedelta``, or *command* no Pydantic model.
            ValueError: *delay* is negative.
        """
        if not isinstance(self.delay, timedelta):
            raise TypeError(f"After() takes a timedelta, such as timedelta(minutes=30), not {self.delay!r}")
        if self.delay < timedelta(0):
            raise ValueError(f"After() takes a timedelta of 0 or more, not {self.delay!r}")
        if not isinstance(self.command, BaseModel) or isinstance(self.command, DomainEvent):
            raise TypeError(f"After() takes a command, such as CancelOrder(...), not {self.command!r}")

    def due(self, recorded: RecordedEvent[Any]) -> datetime:
        """Say when the command is due.

        Args:
            recorded: The event that it follows from.

        Raises:
            ValueError: It is later than the last moment that Python has.
        """
        try:
            return recorded.occurred_at + self.delay
        except OverflowError:
            raise ValueError(f"{self.delay!r} after {recorded.occurred_at} is later than the year 9999") from None


@dataclass(frozen=True, slots=True)
class Reaction:
    """One method for one class of events.

    Attributes:
        event_class: The class.
        by: The way to the process's id in the event; None for the id of the event's aggregate.
        name: The method's name.
        owner: The class that declares it.
    """

    event_class: type[DomainEvent]
    by: str | None
    name: str
    owner: type[Any]

    def given_id(self, recorded: RecordedEvent[Any]) -> Any:
        """Get the id of the process that an event is for, as the event has it; None if it is for none."""
        if self.by is None:
            return recorded.aggregate_id
        value: Any = recorded.event
        for each in self.by.split("."):
            value = None if value is None else getattr(value, each)
        return value

    def outcome(self, process: Any, event: DomainEvent) -> list[Any]:
        """Ask a process what follows from an event.

        Raises:
            TypeError: The method returned something else than commands, events or ``After``, or has applied an event itself.
        """
        where, before = f"{type(process).__name__}.{self.name}()", len(process.pending_events)
        returned = getattr(process, self.name)(event)
        if len(process.pending_events) != before:
            applied = ", ".join(type(each).__name__ for each in process.pending_events[before:])
            raise TypeError(
                f"{where} has applied {applied} by itself. Return it instead: what a method returns has an id of its own place, "
                "under which it is stored once, however often the method is asked"
            )
        if returned is None:
            return []
        if isinstance(returned, BaseModel | After):
            return [returned]
        check_ran(where, returned, HOW_TO_REACT)
        found = list(returned) if isinstance(returned, Iterable) and not isinstance(returned, str | bytes) else [returned]
        for each in found:
            if not isinstance(each, BaseModel | After):
                raise TypeError(f"{where} returned a value of type {type(each).__name__}. {HOW_TO_REACT}")
        return found


def reacts(*event_classes: type[DomainEvent], by: str | None = None) -> Callable[[M], M]:
    """Mark the method of a process manager that says what follows from some events.

    Example::

        @reacts(OrderPlaced, by="order_id")
        def on_placed(self, event: OrderPlaced) -> list[object]:
            return [RequestPayment(order_id=event.order_id), After(timedelta(minutes=30), GiveUp(order_id=event.order_id))]

    The method is pure: it looks at the process's state and the event, and returns what follows: commands, which are scheduled;
    events of the process, which change its state by ``@applies`` methods; :class:`After`; a list of these, or None. It changes
    nothing itself, and asks nobody.

    Args:
        *event_classes: The events.
        by: The field that says which process it is, such as ``"order_id"`` or ``"order.id"``; an event in which it is None is for
            none. Without it, the process has the id of the event's aggregate.

    Raises:
        DeclarationError: No event class is given, one has no field *by*, or the method is a coroutine or generator function.
    """
    if not event_classes or not all(isinstance(each, type) and issubclass(each, DomainEvent) for each in event_classes):
        raise DeclarationError(f"@reacts takes event classes, such as @reacts(OrderPlaced), not {event_classes!r}")
    for each in event_classes:
        if by is not None:
            _check_path(each, by)

    def mark(method: M) -> M:
        where = f"the @reacts method {getattr(method, '__qualname__', repr(method))}"
        check_plain(where, method, HOW_TO_REACT)
        if not takes(method, 2):
            raise DeclarationError(f"{where} is called with the event. {HOW_TO_REACT}")
        marks = [*getattr(method, _MARK, ()), *((each, by) for each in event_classes)]
        setattr(method, _MARK, marks)
        return method

    return mark


def _check_path(event_class: type[DomainEvent], by: Any) -> None:
    """Check the way to the process's id, as far as it leads through models.

    Raises:
        DeclarationError: A field is not there.
    """
    where = f"@reacts({event_class.__name__}, by={by!r})"
    if not isinstance(by, str):
        raise DeclarationError(f'{where}: by is the name of a field, such as by="order_id"')
    model: Any = event_class
    for name in by.split("."):
        if not issubclass(model, BaseModel):
            if model.__module__ in _WITHOUT_FIELDS and not hasattr(model, name):
                raise DeclarationError(f"{where}: a {model.__name__} has no {name}")
            return
        if name not in model.model_fields:
            fields = ", ".join(model.model_fields) or "none"
            owner = "the event" if model is event_class else model.__name__
            raise DeclarationError(f"{where}: {owner} has no such field; it has: {fields}")
        annotation = model.model_fields[name].annotation
        of_it = [each for each in get_args(annotation) or (annotation,) if each is not type(None)]
        if len(of_it) != 1 or not isinstance(of_it[0], type) or get_origin(annotation) not in (None, Union, UnionType):
            return
        (model,) = of_it


def reactions_of(process_class: type[Any]) -> dict[type[DomainEvent], Reaction]:
    """Find the reactions of a class and its bases, by the event's class; one of a subclass replaces that of its base.

    Raises:
        DeclarationError: Two methods of a class react to one event.
    """
    found: dict[type[DomainEvent], Reaction] = {}
    for klass in reversed(process_class.__mro__):
        of_class: dict[type[DomainEvent], Reaction] = {}
        for name, member in vars(klass).items():
            for event_class, by in getattr(member, _MARK, ()):
                other = of_class.get(event_class)
                if other is not None:
                    raise DeclarationError(
                        f"{process_class.__name__} has two methods for {event_class.__name__}: {other.name} and {name}. Keep one."
                    )
                of_class[event_class] = Reaction(event_class, by, name, klass)
        found |= of_class
    return found
