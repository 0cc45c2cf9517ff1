"""Aggregates that a command was given by their type and id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.aggregates import definition_of
from sa_eventsource.cli.errors import UsageError
from sa_eventsource.exceptions import AggregateIdError

if TYPE_CHECKING:
    from typing import Any

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.mapping import EventSourceTables


def named_aggregate(tables: EventSourceTables, aggregate_type: str) -> AggregateDefinition:
    """Find the aggregate class of a type.

    Raises:
        UsageError: No imported class has the type.
    """
    found = tables.aggregate_classes.get(aggregate_type)
    if found is None:
        known = ", ".join(sorted(tables.aggregate_classes)) or "none; name a module that imports the aggregates"
        raise UsageError(f"there is no aggregate type {aggregate_type!r}; there are: {known}")
    return definition_of(found)


def named_id(definition: AggregateDefinition, text: str) -> Any:
    """Read the id of an aggregate.

    Raises:
        UsageError: It cannot be an id of the class.
    """
    try:
        aggregate_id = definition.typed_id(text)
        definition.text_id(aggregate_id)
    except AggregateIdError as error:
        raise UsageError(str(error)) from error
    except ValueError:
        kind = definition.id_type.__name__
        raise UsageError(f"{text!r} cannot be an id of {definition.aggregate_type}: it must be of type {kind}") from None
    return aggregate_id
