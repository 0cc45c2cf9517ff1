"""``@subscribe``: functions of an application that are called for each event, at least once, for its side effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from sqlalchemy import inspect

from sa_eventsource.consumers.consumer import Consumer, OnError
from sa_eventsource.consumers.handling import HOW_TO_HANDLE, by_stored_name
from sa_eventsource.consumers.named_subscriptions import check_subscription, declare
from sa_eventsource.events import DomainEvent
from sa_eventsource.exceptions import DeclarationError, SubscriptionError
from sa_eventsource.plain_functions import check_plain, takes
from sa_eventsource.store import message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from sa_eventsource.consumers.named_subscriptions import NamedSubscription
    from sa_eventsource.consumers.start import Start
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.mapping import EventSourceTables

E = TypeVar("E", bound=DomainEvent)
E2 = TypeVar("E2", bound=DomainEvent)
Function: TypeAlias = "Callable[[RecordedEvent[E], Session], None]"


@dataclass(frozen=True, slots=True)
class _Declared:
    """What a decorator said."""

    name: str
    function: Callable[[RecordedEvent[Any], Session], None]
    event_types: tuple[type[DomainEvent], ...]
    base: Any
    start: Start
    batch_size: int
    on_error: OnError

    @property
    def place(self) -> str:
        """Where the function is."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def stands_in_for(self, other: NamedSubscription) -> bool:
        """Check whether this is the declaration that *other* was, made once more, as by ``importlib.reload()``.

        Functions of one place are the same there, unless the place is within a function, or has no name: what such ones close over
        may differ.
        """
        if not isinstance(other, _Declared):
            return False
        return self.function is other.function or (self.place == other.place and "<" not in self.place)

    def on_log(self, tables: EventSourceTables, owner: type[Any]) -> Subscription:
        """Make the subscription to a log, of an aggregate whose events it takes."""
        return Subscription(
            name=self.name,
            tables=tables,
            handlers=by_stored_name(dict.fromkeys(self.event_types, self.function)),
            on_error=self.on_error,
            start=self.start,
            events_at_a_time=self.batch_size,
            mapper=inspect(owner),
        )


# A type checker would take several classes for their common base, and refuse a function that takes just these.
@overload
def subscribe(
    name: str, first: type[E], /, *, base: Any = ..., start: Start = ..., batch_size: int = ..., on_error: OnError = ...
) -> Callable[[Function[E]], Function[E]]: ...
@overload
def subscribe(
    name: str,
    first: type[E],
    second: type[E2],
    /,
    *,
    base: Any = ...,
    start: Start = ...,
    batch_size: int = ...,
    on_error: OnError = ...,
) -> Callable[[Function[E | E2]], Function[E | E2]]: ...
@overload
def subscribe(
    name: str, /, *event_types: type[E], base: Any = ..., start: Start = ..., batch_size: int = ..., on_error: OnError = ...
) -> Callable[[Function[E]], Function[E]]: ...
def subscribe(
    name: str,
    /,
    *event_types: type[Any],
    base: Any = None,
    start: Start = "beginning",
    batch_size: int = 100,
    on_error: OnError = "stop",
) -> Callable[[Function[Any]], Function[Any]]:
    """Call a function for each event of some types, at least once and every stream in order.

    Example::

        @subscribe("mailer", OrderPlaced)
        def send_confirmation(placed: RecordedEvent[OrderPlaced], session: Session) -> None:
            mail(placed.event.customer_id, idempotency_key=str(placed.event_id))

    A :class:`~sa_eventsource.Worker` calls it, once the event is committed, never before. The session's transaction is committed
    together with how far the subscription has come: what the function writes there counts exactly once. What it does elsewhere is
    repeated if the process dies, or the commit fails, in between: give the event's id along, so that the other side can tell. It
    neither commits nor rolls back.

    Args:
        name: What its progress is kept under. A new name begins again.
        *event_types: One or more event classes.
        base: The declarative base of the log; None for the one whose aggregates have the events.
        start: Where a new subscription begins: ``"beginning"``, with the first event of the log; ``"now"``, with those that are
            committed from the first time on that a worker looks after it; a time, with a time zone: with the first event that was
            recorded then or later, once there is one; a position: after it, once the log has come that far. What becomes visible
            later is taken wherever it lies. It means nothing to a subscription that has begun: see
            :meth:`EventReplayer.rewind() <sa_eventsource.EventReplayer.rewind>`.
        batch_size: Events in a transaction, at most; it ends as well when a tenth of a second is over (:attr:`Pace.turn
            <sa_eventsource.Pace.turn>`). So many events are repeated at most if the process dies or one of them fails.
        on_error: What happens to an event for which the function raises each time. ``"stop"``: the subscription stops there, and
            says so. ``"park"``: it is parked, with all later ones of its stream.

    Raises:
        DeclarationError: The name is taken or impossible, also by a closure or lambda of the same place, which may close over
            something else; no event type is given; an option makes no sense; or the function is a coroutine or generator function.
    """
    if not event_types or not all(isinstance(each, type) and issubclass(each, DomainEvent) for each in event_types):
        raise DeclarationError(
            f'@subscribe takes a name and event classes, such as @subscribe("mailer", OrderPlaced), not {event_types!r}'
        )
    check_subscription(name, start, batch_size)
    if on_error not in ("stop", "park"):
        raise DeclarationError(f'subscription {name!r}: on_error is {on_error!r}; it must be "stop" or "park"')

    def decorate(function: Function[Any]) -> Function[Any]:
        check_plain(f"subscription {name!r}: {function.__qualname__}", function, HOW_TO_HANDLE)
        if not takes(function, 2):
            raise DeclarationError(
                f"subscription {name!r}: {function.__qualname__} is called with the event and the session; write def "
                f"{function.__name__}(recorded, session)"
            )
        declare(_Declared(name, function, event_types, base, start, batch_size, on_error))
        return function

    return decorate


@dataclass(eq=False, kw_only=True)
class Subscription(Consumer):
    """A function that follows a log.

    Attributes:
        start: Where it begins when it is new.
        events_at_a_time: Events in a transaction, at most.
        mapper: Of an aggregate whose events it takes; it shows a session with several binds which to use.
    """

    start: Start
    events_at_a_time: int
    mapper: Any

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            DeclarationError: A read model has it.
        """
        if self.name in self.tables.read_models:
            raise DeclarationError(f"subscription {self.name!r} has the name of a read model; choose another")

    def declared_classes(self) -> Mapping[str, type[DomainEvent]]:
        """None: it is all in the function."""
        return {}

    @property
    def fingerprint(self) -> str:
        """The same for ever: what a function has done cannot be done again."""
        return "subscription"

    def changed(self) -> DeclarationError:
        """Say that its name is another's."""
        return DeclarationError(
            f"subscription {self.name!r}: the checkpoint under that name is that of a reader, or of a former read model. Choose "
            f"another name, or retire the other: sa-eventsource retire MODULE:BASE {self.name}"
        )

    @property
    def bind_arguments(self) -> dict[str, Any]:
        """The aggregate chooses among several binds of a session."""
        return {"mapper": self.mapper}

    @property
    def batch_size(self) -> int:
        """Events in a transaction, at most."""
        return self.events_at_a_time

    @property
    def begins(self) -> Start:
        """Where it begins when it is new."""
        return self.start

    @property
    def first_batch_size(self) -> int:
        """One event, so that nothing is repeated if the first one fails."""
        return 1

    def refused(self, events: Sequence[RecordedEvent[Any]], error: BaseException) -> SubscriptionError:
        """Say which event could not be taken."""
        return SubscriptionError(
            self.name,
            events=self.named(events),
            event_ids=list(dict.fromkeys(each.stored_id for each in events)),
            reason=message_of(error),
        )
