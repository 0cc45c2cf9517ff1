"""Read models and personal data: what a model takes of it, it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.events import is_personal
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.sources import event_fields

if TYPE_CHECKING:
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

_WAYS = ("clear", "masked", None)


def check_personal_data(definition: ReadModelDefinition) -> None:
    """Check that a model which takes personal data says how, and that its rows can be found again by those whose data it is.

    What a method takes by a base class without personal fields is left alone: it gets placeholders.

    Raises:
        DeclarationError: It does not, or they cannot.
    """
    where, way = definition.model.__name__, definition.takes_personal_data
    if way not in _WAYS:
        raise DeclarationError(f'{where}.__personal_data__ is {way!r}; it must be "clear", "masked" or None')
    for part in definition.key:
        if any(each.is_personal for source in part.sources.values() for each in event_fields(source)):
            raise DeclarationError(f"{where}.{part.name} is personal data, and cannot be a key: a row is known by it for good")
    if way == "clear" and definition.handlers:
        raise DeclarationError(
            f'{where} has @handles methods, and __personal_data__ = "clear": what they write, nobody finds again who is to remove '
            'it. Declare fields, write @evolves methods, or take placeholders: __personal_data__ = "masked"'
        )
    what = _personal_part(definition)
    if way is None and what is not None:
        raise DeclarationError(
            f"{where} takes {what}, which is personal data: in the log it is sealed. Leave it out, or say how rows have it: "
            '__personal_data__ = "clear", as it is, until its subject is forgotten, or "masked", as its placeholder'
        )


def _personal_part(definition: ReadModelDefinition) -> str | None:
    """Name the first thing that a model takes and that is personal; None if there is none."""
    for name, event_class in definition.declared_classes().items():
        for source in definition.sources_of(name):
            for each in event_fields(source):
                if each.is_personal:
                    return f"{event_class.__name__}.{each.name}"
    for name, event_class in definition.event_classes.items():
        by_method = name in definition.evolvers or name in definition.handlers
        if by_method and event_class in definition.named_classes and is_personal(event_class):
            return f"{event_class.__name__} by a method"
    return None
