"""``scenario()``: what was given, what is done, what is to come of it; in memory, without a database."""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from pydantic import BaseModel

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.arguments import check_moment_of_event
from sa_eventsource.events import DomainEvent
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.processes import ProcessManager
from sa_eventsource.read_models import ReadModel
from sa_eventsource.testing.acting import Acting, handle, perform
from sa_eventsource.testing.checks import Checks
from sa_eventsource.testing.expectations import rendered
from sa_eventsource.testing.freezing import NOON
from sa_eventsource.testing.process_steps import ProcessSteps
from sa_eventsource.testing.recording import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import Self

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.types import JsonValue

A = TypeVar("A", bound=AggregateRoot[Any])


def scenario(aggregate_class: type[A], id: Any = None, *, at: datetime = NOON) -> Scenario[A]:  # noqa: A002 - as in Order(id=...)
    """Begin the test of an aggregate, of command handlers or of a process manager: in memory, with no database.

    Example::

        def test_an_order_is_paid_once():
            (
                scenario(Order)
                .given(OrderPlaced(total=Decimal(10)), OrderPaid(payment_id="p-1"))
                .when(lambda order: order.pay("p-2"))
                .raises(OrderAlreadyPaid)
            )

    Each step gives a new object and leaves the one before as it was: a scenario may be a constant that several tests go on from.

    Args:
        aggregate_class: The aggregate or the process manager.
        id: Its id. By default ``"1"``, 1, or a UUID that ends in 1; for a process manager, what the first event says by
            ``@reacts(..., by=...)``.
        at: Which moment it is, with a time zone: the library's clock stands still in each step, and ids that the library makes are
            the same in every run, as in :func:`frozen`.

    Raises:
        DeclarationError: *aggregate_class* is no mapped aggregate.
        AggregateIdError: *id* can be none of its ids.
        ValueError: *at* has no time zone.
    """
    check_moment_of_event("at", at)
    definition = _definition(aggregate_class)
    return Scenario(Acting(aggregate_class, None if id is None else definition.text_id(id), at, MemoryLog()))


class Scenario(Generic[A]):
    """What was given. :func:`scenario` makes one."""

    def __init__(self, acting: Acting) -> None:
        """Begin where something has come to."""
        self._acting = acting

    def given(self, *events: DomainEvent) -> Self:
        """Say what has happened to the aggregate; for a process manager, also what it has reacted to.

        What a process manager has sent by then is not among what :meth:`Outcome.expect_commands` looks at; what it has put off
        still comes due.

        Args:
            *events: The events, oldest first.

        Raises:
            EventPayloadError: An event could not be stored.
            TypeError: One is no event.
            UnhandledEventError: No ``@applies`` method of the aggregate takes it.
        """
        _check_events(events)
        acting = self._further()
        if issubclass(acting.aggregate_class, ProcessManager):
            steps = ProcessSteps(acting)
            for event in events:
                steps.take(event)
        else:
            for event in events:
                acting.definition.handlers.find_for(event)
                acting.log.record(acting.stream, event, acting.now)
        return self._begun(acting)

    def given_stored(self, event_type: str, event_version: int, payload: Mapping[str, JsonValue]) -> Self:
        """Say what an earlier release of the application has stored: upcasters are at work when the aggregate is loaded.

        Args:
            event_type: The stored name.
            event_version: The stored version.
            payload: The payload, as JSON has it.

        Raises:
            EventDecodeError: Nothing reads it.
            UnknownEventTypeError: No class declares the type.
        """
        acting = self._further()
        acting.log.record_stored(acting.stream, event_type, event_version, dict(payload), acting.now)
        return self._begun(acting)

    def given_elsewhere(self, aggregate_class: type[AggregateRoot[Any]], id: Any, *events: DomainEvent) -> Self:  # noqa: A002
        """Say what has happened to another aggregate, which the handler of a command will load.

        Args:
            aggregate_class: Its class.
            id: Its id.
            *events: The events, oldest first.

        Raises:
            EventPayloadError: An event could not be stored.
            UnhandledEventError: No ``@applies`` method takes it.
        """
        _check_events(events)
        acting, definition = self._further(), definition_of(aggregate_class)
        for event in events:
            definition.handlers.find_for(event)
            acting.log.record((definition.aggregate_type, definition.text_id(id)), event, acting.now)
        return self._begun(acting)

    def at(self, moment: datetime) -> Self:
        """Say which moment it is from now on.

        Raises:
            ValueError: *moment* has no time zone.
        """
        check_moment_of_event("moment", moment)
        acting = self._further()
        acting.now = moment
        return self._begun(acting)

    @overload
    def when(self, action: Callable[[A], object], /) -> Outcome[A]: ...
    @overload
    def when(self, action: Callable[[], object], /) -> Outcome[A]: ...
    @overload
    def when(self, *actions: BaseModel) -> Outcome[A]: ...
    def when(self, *actions: Any) -> Outcome[A]:
        """Do something, and keep what comes of it.

        Args:
            *actions: A function of the aggregate, ``lambda order: order.pay("p-1")``; one that makes an aggregate,
                ``lambda: Order.place(...)``; commands, which their declared handlers take, in a session that has no database; for
                a process manager, events that it reacts to.

        Returns:
            What is checked next. What was raised is raised by the first check that is not :meth:`Outcome.raises`.

        Raises:
            UnknownCommandError: A command has no handler.
            TypeError: An action is none of these.
        """
        acting = self._further()
        acting.new, acting.issued, acting.result, acting.error = [], [], None, None
        for action in actions:
            with acting.frozen():
                _act(acting, action)
            if acting.error is not None:
                break
        return Outcome(acting)

    def after(self, delay: timedelta) -> Outcome[A]:
        """Let time pass: what comes due meanwhile is sent, for :meth:`Outcome.expect_commands`.

        It is not handled; :meth:`when` does that.

        Args:
            delay: How much time.

        Raises:
            TypeError: *delay* is no ``timedelta``.
            ValueError: It is negative.
        """
        if not isinstance(delay, timedelta):
            raise TypeError(f"after() takes a timedelta, such as timedelta(minutes=30), not {delay!r}")
        if delay < timedelta(0):
            raise ValueError(f"after() takes a timedelta of 0 or more, not {delay!r}")
        acting = self._further()
        acting.pass_time(delay)
        return Outcome(acting)

    @property
    def aggregate(self) -> A:
        """The aggregate as a session would load it; a new one, of version 0, if it has no events."""
        loaded: A = self._acting.subject()
        return loaded

    @property
    def events(self) -> Sequence[RecordedEvent[Any]]:
        """All that was recorded so far, of whichever aggregate: what :func:`projected` takes."""
        return tuple(self._acting.log.events)

    def _further(self) -> Acting:
        return self._acting.copy()

    def _begun(self, acting: Acting) -> Self:
        made = copy(self)
        made._acting = acting  # noqa: SLF001 - its own
        return made


class Outcome(Checks, Scenario[A]):
    """What came of the last step; each check gives it back, so that they can be chained. :meth:`Scenario.when` goes on from it."""

    def _further(self) -> Acting:
        self._settled()
        return super()._further()


def _definition(aggregate_class: Any) -> AggregateDefinition:
    """Get what the library knows of an aggregate; else say what to write instead.

    Raises:
        DeclarationError: It is none.
    """
    if isinstance(aggregate_class, AggregateRoot):
        name = type(aggregate_class).__name__
        raise DeclarationError(f"scenario() takes a class, as in scenario({name}, id=...), and not {aggregate_class!r}")
    if isinstance(aggregate_class, type) and issubclass(aggregate_class, ReadModel):
        name = aggregate_class.__name__
        raise DeclarationError(f"{name} is a read model: projected({name}, [...]) gives its rows")
    if isinstance(aggregate_class, type) and issubclass(aggregate_class, DomainEvent):
        raise DeclarationError(f"{aggregate_class.__name__} is an event: scenario(...) takes the aggregate, and given() its events")
    return definition_of(aggregate_class)


def _check_events(events: Sequence[Any]) -> None:
    """Refuse what is easily taken for an event.

    Raises:
        TypeError: One is a list of events, or a command.
    """
    for each in events:
        if isinstance(each, list | tuple):
            raise TypeError("given() takes events, one argument for each, and not a list of them; write given(*events)")
        if isinstance(each, BaseModel) and not isinstance(each, DomainEvent):
            name = type(each).__name__
            raise TypeError(f"given() takes events that have happened, and {name} is not an event; a command goes into when()")


def _act(acting: Acting, action: Any) -> None:
    if isinstance(action, DomainEvent):
        if not issubclass(acting.aggregate_class, ProcessManager):
            raise TypeError(
                f"when({rendered(action)[0]}...): an event goes to a process manager. What has happened to "
                f"{acting.aggregate_class.__name__} goes into given(); what is done is a function of it, or a command"
            )
        ProcessSteps(acting).when(action)
    elif isinstance(action, BaseModel):
        handle(acting, action)
    elif callable(action):
        perform(acting, action)
    else:
        raise TypeError(f"when() takes a function of the aggregate, a command or an event, not {action!r}")
