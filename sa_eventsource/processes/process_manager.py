"""``ProcessManager``: an aggregate that reacts to the events of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from typing_extensions import TypeVar

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.class_options import Kind
from sa_eventsource.commands import require_table
from sa_eventsource.consumers import check_subscription, declare
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.processes.following_process import DeclaredProcess
from sa_eventsource.processes.reactions import reactions_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sa_eventsource.consumers import OnError, Start
    from sa_eventsource.events import DomainEvent
    from sa_eventsource.processes.reactions import Reaction

IdT = TypeVar("IdT", bound=str | UUID | int, default=str)


class ProcessManager(AggregateRoot[IdT]):
    """Says what follows from events, across aggregates and over time: ``class Fulfilment(ProcessManager, Base)``.

    An aggregate with a stream of its own. ``@reacts`` methods return commands, events of the process and :class:`After`; state
    fields change in ``@applies`` methods for the process's own events, as those of any aggregate. A worker brings events to it, as
    to a subscription of its type's name, and runs the commands; the base has a table of commands
    (``EventSourceOptions(commands="commands")``).

    Example::

        class Fulfilment(ProcessManager, Base):
            is_paid: bool = False

            @reacts(OrderPlaced)
            def on_placed(self, event: OrderPlaced) -> list[object]:
                return [RequestPayment(order_id=self.id), After(timedelta(minutes=30), CancelOrder(order_id=self.id))]
    """

    __on_error__: ClassVar[OnError] = "stop"
    """What happens to an event that cannot be taken, as where a method raises or a command has no handler. ``"stop"``: the process
    manager stops there, with all its processes (``sa-eventsource resume``). ``"park"``: the event is parked, with all later ones
    for the same process, whichever stream they are of (``sa-eventsource parked``)."""

    __start__: ClassVar[Start] = "beginning"
    """Where a new process manager begins, as a subscription does (:func:`~sa_eventsource.subscribe`): ``"beginning"``, ``"now"``, a
    time or a position."""

    _kind: ClassVar[Kind] = Kind.PROCESS


def follow(process_class: type[ProcessManager[Any]]) -> None:
    """Subscribe a process manager, when it is mapped, to the events that it reacts to.

    Raises:
        DeclarationError: It reacts to none, two of its methods react to one, it has the reactions of another one that follows by
            itself, its base has no table of commands, or an option makes no sense.
    """
    definition = definition_of(process_class)
    reactions = reactions_of(process_class)
    where = process_class.__name__
    if not reactions:
        raise DeclarationError(f"{where} reacts to no event; write a method with @reacts(OrderPlaced)")
    _refuse_doubles(process_class, reactions)
    if process_class.__on_error__ not in ("stop", "park"):
        raise DeclarationError(f'{where}.__on_error__ is {process_class.__on_error__!r}; it must be "stop" or "park"')
    require_table(tables_of_base(where, process_class))
    check_subscription(definition.aggregate_type, process_class.__start__, 1)
    declare(DeclaredProcess(process_class, definition, reactions))


def _refuse_doubles(process_class: type[ProcessManager[Any]], reactions: Mapping[type[DomainEvent], Reaction]) -> None:
    """Refuse reactions that are another process manager's: both would follow, and what it sends would be sent twice.

    Raises:
        DeclarationError: There are some.
    """
    for other in process_class.__mro__[1:]:
        if "__mapper__" not in vars(other) or not issubclass(other, ProcessManager):
            continue
        shared = [each.__name__ for each, reaction in reactions_of(other).items() if reactions.get(each) == reaction]
        if shared:
            raise DeclarationError(
                f"{process_class.__name__} inherits what {other.__name__} does at {', '.join(shared)}, and both would follow the "
                f"log: each command would be sent twice. Change {other.__name__} itself, or put what both have in common into a "
                "class with __abstract__ = True, which follows nothing"
            )
