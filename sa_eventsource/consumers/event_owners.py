"""Which aggregates of a log have which events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates import definition_of
from sa_eventsource.events import StreamClosed, members

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sa_eventsource.events import DomainEvent
    from sa_eventsource.mapping import EventSourceTables


def owners_of(tables: EventSourceTables, event_types: Iterable[type[DomainEvent]]) -> list[type[Any]]:
    """List the aggregates on a log that know one of the events, or one that inherits from it, by their type names."""
    return [aggregate for _, aggregate in sorted(tables.aggregate_classes.items()) if knows(aggregate, event_types)]


def knows(aggregate: type[Any], event_types: Iterable[type[DomainEvent]]) -> bool:
    """Check whether an aggregate has a method for one of the events, or ignores it, as all do ``StreamClosed``."""
    found = members(event_types)
    lineage = {base for each in found for base in each.__mro__}
    return StreamClosed in found or not lineage.isdisjoint(definition_of(aggregate).handlers.functions())
