"""What a read model is declared to do, in words: which event sets what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sa_eventsource.read_models import Calculation, Constant, MetadataValue, TimePart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.read_models import ReadModelDefinition


@dataclass(frozen=True, slots=True)
class EventWords:
    """What an event does to a row.

    Attributes:
        event_type: Its stored name.
        sentences: What it does: the field, which is empty where it is about the row as a whole, and the words.
    """

    event_type: str
    sentences: Sequence[tuple[str, str]]


def key_in_words(definition: ReadModelDefinition) -> list[tuple[str, str]]:
    """Say what identifies a row: each part of the key, and where it comes from."""
    found = []
    for part in definition.key:
        sources = dict.fromkeys(in_words(source) for source in part.sources.values())
        found.append((part.name, " or ".join(sources)))
    return found


def events_in_words(definition: ReadModelDefinition) -> list[EventWords]:
    """Say what each event does, by its stored name."""
    return [EventWords(name, _sentences(definition, name)) for name in sorted(definition.event_classes)]


def _sentences(definition: ReadModelDefinition, event_type: str) -> list[tuple[str, str]]:
    found = []
    for field in definition.fields:
        contribution = field.contributions.get(event_type)
        if contribution is not None:
            given = in_words(contribution.source)
            found.append((field.name, _DEEDS[field.family, contribution.sign].format(given)))
    if event_type in definition.removed_by:
        found.append(("", "removes the row"))
    if event_type in definition.evolvers:
        found.append(("", f"is taken by the method {definition.evolvers[event_type].__name__}"))
    if event_type in definition.handlers:
        found.append(("", "is given to a handler, which writes rows itself"))
    return found


_DEEDS = {
    ("last", 1): "is set to {}",
    ("first", 1): "is set to {}, unless an earlier event set it",
    ("sum", 1): "grows by {}",
    ("sum", -1): "falls by {}",
    ("min", 1): "is the least {} so far",
    ("max", 1): "is the greatest {} so far",
    ("list", 1): "takes in {}",
    ("list", -1): "loses {}",
}


def in_words(source: Any) -> str:
    """Say where a value comes from."""
    match source:
        case Constant():
            return repr(getattr(source.value, "value", source.value))
        case MetadataValue():
            return f"metadata.{source.key}"
        case Calculation():
            return f"{_operand(source.left)} {source.operator} {_operand(source.right)}"
        case TimePart():
            return f"the {source.unit} of {in_words(source.source)} in {source.zone}"
        case _:
            return str(source.name)


def _operand(source: Any) -> str:
    words = in_words(source)
    return f"({words})" if isinstance(source, Calculation) else words
