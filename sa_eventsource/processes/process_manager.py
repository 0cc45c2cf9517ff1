"""``ProcessManager``: an aggregate that reacts to the events of others.

It follows the log as a subscription of its own. Its checkpoint, its events and the commands that it sends are one transaction, so
that a process that is killed anywhere has taken an event wholly or not at all. All ids derive from the process, the event and the
place in what was returned: an event that is taken once more, because the subscription was rewound or a log restored, adds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from sqlalchemy import exists, or_, select
from typing_extensions import TypeVar

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.commands import require_table, schedule
from sa_eventsource.consumers import subscribe
from sa_eventsource.events import DomainEvent, event_context
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.processes.reactions import After, Reaction, reactions_of

if TYPE_CHECKING:
    from pydantic import BaseModel
    from sqlalchemy.orm import Session

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.events import RecordedEvent

IdT = TypeVar("IdT", bound=str | UUID | int, default=str)

_NAMESPACE = UUID("6f0ac9a5-6a37-5a1c-9d3e-6c1d0f5f7c11")


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

    An event that cannot be taken, because a method raises or a command has no handler, is tried again, and then the process stops
    there, as a subscription does: ``sa-eventsource resume``.
    """


def follow(process_class: type[ProcessManager[Any]]) -> None:
    """Subscribe a process manager, when it is mapped, to the events that it reacts to.

    Raises:
        DeclarationError: It reacts to none, two of its methods react to one, or its base has no table of commands.
    """
    definition = definition_of(process_class)
    reactions = reactions_of(process_class)
    if not reactions:
        raise DeclarationError(f"{process_class.__name__} reacts to no event; write a method with @reacts(OrderPlaced)")
    tables = tables_of_base(process_class.__name__, process_class)
    require_table(tables)

    def react(recorded: RecordedEvent[Any], session: Session) -> None:
        reaction = next(reactions[each] for each in type(recorded.event).__mro__ if each in reactions)
        _react(process_class, definition, reaction, recorded, session)

    react.__module__, react.__qualname__ = process_class.__module__, f"{process_class.__qualname__}.react"
    subscribe(definition.aggregate_type, *reactions, base=process_class)(react)


def _react(
    process_class: type[ProcessManager[Any]],
    definition: AggregateDefinition,
    reaction: Reaction,
    recorded: RecordedEvent[Any],
    session: Session,
) -> None:
    """Take one event, in the transaction that the checkpoint is written in."""
    given = reaction.process_id(recorded)
    if given is None:
        return
    process_id = given if isinstance(given, definition.id_type) else definition.id_type(str(given))
    source = f"{definition.aggregate_type}/{definition.text_id(process_id)}/{recorded.event_id}"
    if _has_reacted(session, definition, uuid5(_NAMESPACE, f"{source}/0")):
        return
    process = session.get(process_class, process_id)
    if process is None:
        process = process_class(id=process_id)
    with event_context(caused_by=recorded):
        for number, each in enumerate(reaction.outcome(process, recorded.event)):
            _carry_out(session, process, each, uuid5(_NAMESPACE, f"{source}/{number}"), recorded)
    if process.pending_events:
        session.add(process)
        session.flush()


def _carry_out(
    session: Session, process: ProcessManager[Any], what: BaseModel | After, derived_id: UUID, recorded: RecordedEvent[Any]
) -> None:
    if isinstance(what, DomainEvent):
        process.apply_event(what, event_id=derived_id)
    elif isinstance(what, After):
        definition = definition_of(type(process))
        key = None if what.key is None else f"{definition.aggregate_type}/{definition.text_id(process.id)}/{what.key}"
        due = recorded.occurred_at + what.delay
        schedule(session, what.command, at=due, key=key, command_id=derived_id, base=type(process))
    else:
        schedule(session, what, command_id=derived_id, base=type(process))


def _has_reacted(session: Session, definition: AggregateDefinition, first_id: UUID) -> bool:
    """Ask whether the first thing that followed from an event, whatever it was, is there already."""
    events, commands = definition.tables.events, require_table(definition.tables)
    is_there = or_(exists().where(events.c.event_id == first_id), exists().where(commands.c.command_id == first_id))
    connection = session.connection(bind_arguments=definition.tables.bind_arguments)
    return bool(connection.scalar(select(is_there)))
