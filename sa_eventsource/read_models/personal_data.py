"""Read models and personal data: what a model takes of it, it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.events import is_personal
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.sources import event_fields

if TYPE_CHECKING:
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

_WAYS = ("masked",)


def check_personal_data(definition: ReadModelDefinition) -> None:
    """Check that a model which takes personal data says how.

    What a method takes by a base class without personal fields is left alone: it gets placeholders.

    Raises:
        DeclarationError: It does not.
    """
    where, way = definition.model.__name__, definition.takes_personal_data
    if way is not None and way not in _WAYS:
        raise DeclarationError(f'{where}.__personal_data__ is {way!r}; it must be "masked", for placeholders, or None')
    what = _personal_part(definition)
    if way is None and what is not None:
        raise DeclarationError(
            f"{where} takes {what}, which is personal data: in the log it is sealed, and a row would hold it in clear. Leave it "
            'out, or take its placeholder: __personal_data__ = "masked"'
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
