"""What the code declares of a log: events, the aggregates that apply them, who takes them, commands, what follows from what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sa_eventsource.aggregates import definition_of
from sa_eventsource.commands import handlers_on
from sa_eventsource.consumers import Relay, consumers_on
from sa_eventsource.events import members
from sa_eventsource.evolution.causation import declared_causation
from sa_eventsource.evolution.schema_file import events_of
from sa_eventsource.processes import ProcessSubscription
from sa_eventsource.read_models import ReadModelDefinition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from sa_eventsource.consumers import Consumer
    from sa_eventsource.events import DomainEvent
    from sa_eventsource.mapping import EventSourceTables

ConsumerKind: TypeAlias = Literal["read model", "process manager", "subscription", "publisher"]

KINDS: tuple[ConsumerKind, ...] = ("read model", "process manager", "subscription", "publisher")
"""All kinds of consumers, in the order in which they are listed."""


@dataclass(frozen=True, slots=True)
class DeclaredSystem:
    """What the code declares of a log.

    Attributes:
        events: The classes of events, by stored name.
        owners: The stored names of the events that each type of aggregate applies, by name.
        consumers: Who takes events, by name.
        commands: The classes of commands, by stored name.
        causation: What may follow from an event, by stored names, as process managers declare it.
    """

    events: Mapping[str, type[DomainEvent]]
    owners: Mapping[str, Sequence[str]]
    consumers: Mapping[str, Consumer]
    commands: Mapping[str, type[BaseModel]]
    causation: Mapping[str, frozenset[str]]

    def owners_of(self, event_type: str) -> list[str]:
        """List the types of the aggregates that apply an event."""
        return [owner for owner, events in self.owners.items() if event_type in events]

    def takers_of(self, event_type: str, kind: ConsumerKind) -> list[str]:
        """List the names of the consumers of a kind that take an event."""
        return [name for name, each in self.consumers.items() if kind_of(each) == kind and event_type in each.event_classes]


def declared_system(tables: EventSourceTables) -> DeclaredSystem:
    """Collect what the code declares of a log."""
    owners = {
        name: sorted(each.__event_type__ for each in members(definition_of(aggregate).handlers.functions()))
        for name, aggregate in sorted(tables.aggregate_classes.items())
    }
    consumers = sorted([*tables.read_models.values(), *consumers_on(tables)], key=lambda each: each.name)
    return DeclaredSystem(
        events={each.__event_type__: each for each in events_of(tables)},
        owners=owners,
        consumers={each.name: each for each in consumers},
        commands={name: each.command_class for name, each in sorted(handlers_on(tables).items())},
        causation=declared_causation(tables),
    )


def kind_of(consumer: Consumer) -> ConsumerKind:
    """Say what a consumer is."""
    if isinstance(consumer, ReadModelDefinition):
        return "read model"
    if isinstance(consumer, ProcessSubscription):
        return "process manager"
    return "publisher" if isinstance(consumer, Relay) else "subscription"
