"""What an event class can hold, read once from the schema that Pydantic made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from sa_eventsource.events.domain_event import DomainEvent

_EXACT = frozenset(
    {
        "str", "int", "float", "bool", "decimal", "uuid", "bytes", "date", "time", "datetime", "timedelta", "none", "literal",
        "enum", "nullable", "default", "list", "set", "frozenset", "dict", "tuple", "model", "model-fields", "model-field",
        "tagged-union", "definitions", "definition-ref", "json-or-python", "chain", "lax-or-strict",
    }
)  # fmt: skip
"""Schemas whose values come back from JSON as they were, whatever they hold."""


@dataclass(frozen=True, slots=True)
class SchemaTraits:
    """What :func:`of` finds out.

    Attributes:
        may_hold_times: A ``datetime`` may be in it.
        is_ambiguous: A value in it may come back as another: a union without discriminator, ``Any``, a validator of its own.
    """

    may_hold_times: bool
    is_ambiguous: bool


_known: WeakKeyDictionary[type[DomainEvent], SchemaTraits] = WeakKeyDictionary()


def of(event_class: type[DomainEvent]) -> SchemaTraits:
    """Get the traits of a class."""
    try:
        return _known[event_class]
    except KeyError:
        kinds: set[str] = set()
        _collect(event_class.__pydantic_core_schema__, kinds)
        ambiguous = not kinds <= _EXACT
        traits = _known[event_class] = SchemaTraits("datetime" in kinds or ambiguous, ambiguous)
        return traits


def _collect(schema: Any, kinds: set[str]) -> None:
    if isinstance(schema, dict):
        kind = schema.get("type")
        if isinstance(kind, str):
            kinds.add("model" if kind == "model" and not _is_open(schema) else kind)
            if _is_open(schema):
                kinds.add("open model")
            if schema.get("serialization_exclude") or schema.get("validation_alias") != schema.get("serialization_alias"):
                kinds.add("field written otherwise than read")
        for key, value in schema.items():
            if key not in ("metadata", "config", "expected", "members"):
                _collect(value, kinds)
    elif isinstance(schema, list | tuple):
        for each in schema:
            _collect(each, kinds)


def _is_open(schema: dict[str, Any]) -> bool:
    """Tell whether a model keeps fields it does not declare, or has subclasses that would lose theirs."""
    if schema.get("type") != "model":
        return False
    model = schema["cls"]
    return model.model_config.get("extra") == "allow" or bool(model.__subclasses__()) or schema.get("custom_init", False)
