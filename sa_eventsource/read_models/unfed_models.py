"""Strong models whose events are of aggregates on another declarative base: their rows would never be written.

Whoever appends events writes the strong models of the same base. SQLAlchemy configures mappers when all classes have been imported
that they have to do with, as for relationships: so what no aggregate of a model's base has then, and one of another base has, is an
event that the model waits for in vain. An eventual model may be on a base of its own: it follows a log, and whoever writes there,
perhaps in another process, need not be known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates import definition_of as aggregate_definition
from sa_eventsource.consumers import owners_of
from sa_eventsource.events import DomainEvent, members
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import all_tables
from sa_eventsource.read_models.read_model import ReadModel
from sa_eventsource.read_models.read_model_definition import definition_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper

    from sa_eventsource.mapping import EventSourceTables


def refuse_unfed(_mapper: Mapper[Any], class_: type[Any]) -> None:
    """Refuse a strong model on another base than the aggregates that have its events.

    Args:
        _mapper: The mapper that is about to be configured.
        class_: What it maps: a read model, or something else.

    Raises:
        DeclarationError: It is one.
    """
    if not issubclass(class_, ReadModel) or not definition_of(class_).is_strong:
        return
    definition, model = definition_of(class_), class_.__name__
    for event_class in sorted(definition.named_classes, key=lambda each: each.__name__):
        owner = _owner_elsewhere(definition.tables, event_class)
        if owner is not None and not owners_of(definition.tables, (event_class,)):
            raise DeclarationError(
                f"{model} is strong and takes {event_class.__name__}, an event of {owner}, which is on another base: who appends "
                f"events writes the strong models of the same base. Declare {model} on the base of {owner}, or on one with the "
                "same metadata: class ReadBase(DeclarativeBase): metadata = Base.metadata"
            )


def _owner_elsewhere(here: EventSourceTables, event_class: type[DomainEvent]) -> str | None:
    others = (each for tables in all_tables() if tables is not here for each in list(tables.aggregate_classes.values()))
    return next((each.__name__ for each in others if _names(each, event_class)), None)


def _names(aggregate: type[Any], event_class: type[DomainEvent]) -> bool:
    """Check whether an aggregate takes an event as such, and not as it takes whatever there is: ``@applies(DomainEvent)``."""
    taken = aggregate_definition(aggregate).handlers.functions()
    return any(base in taken for each in members((event_class,)) for base in each.__mro__ if base is not DomainEvent)
