"""Strong models whose events are of aggregates on another declarative base: their rows would never be written.

Who appends events writes the strong models of the same base. SQLAlchemy configures mappers when all classes have been imported that
they have to do with, as for relationships: so what no aggregate of a model's base has then, and one of another base has, is an
event that the model waits for in vain. An eventual model may be on a base of its own: it follows a log, and whoever writes there,
perhaps in another process, need not be known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates import AggregateRoot
from sa_eventsource.consumers import knows, owners_of
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import all_tables
from sa_eventsource.read_models.read_model import ReadModel
from sa_eventsource.read_models.read_model_definition import definition_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Mapper

    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition


def refuse_unfed(_mapper: Mapper[Any], class_: type[Any]) -> None:
    """Refuse a strong model on another base than the aggregates that have its events.

    Args:
        _mapper: The mapper that is about to be configured.
        class_: What it maps: the model, an aggregate that has its events, or something else.

    Raises:
        DeclarationError: It is one.
    """
    if issubclass(class_, AggregateRoot):
        for tables in all_tables():
            for definition in list(tables.read_models.values()):
                _check(definition, [class_])
    elif issubclass(class_, ReadModel):
        _check(definition_of(class_), [each for tables in all_tables() for each in list(tables.aggregate_classes.values())])


def _check(definition: ReadModelDefinition, aggregates: Iterable[type[Any]]) -> None:
    if not definition.is_strong:
        return
    tables, model = definition.tables, definition.model
    for event_class in sorted(definition.named_classes, key=lambda each: each.__name__):
        elsewhere = next((each for each in aggregates if each.metadata is not model.metadata and knows(each, (event_class,))), None)
        if elsewhere is not None and not owners_of(tables, (event_class,)):
            owner = elsewhere.__name__
            raise DeclarationError(
                f"{model.__name__} is strong and takes {event_class.__name__}, an event of {owner}, which is on another base: who "
                f"appends events writes the strong models of the same base. Declare {model.__name__} on the base of {owner}, or on "
                "one with the same metadata: class ReadBase(DeclarativeBase): metadata = Base.metadata"
            )
