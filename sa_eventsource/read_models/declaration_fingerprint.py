"""The fingerprint of a read model's declaration: the same in every process, whatever addresses and hashes are there.

Rows that were made under another declaration must be rebuilt, and a restart is no other declaration. So the declaration is written
as a text first, by value, and what does not shape rows is left out: the validators in an annotation, the names that classes have in
Python, and the modules that they are in. An event goes by the name that it was stored under first, so that one which is renamed by
``__former_types__`` is the same; but where rows have the names of types as values.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from sa_eventsource.events import first_name, split_sources
from sa_eventsource.read_models.sources import EnvelopeField
from sa_eventsource.read_models.value_types import ValueType

if TYPE_CHECKING:
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition


def fingerprint_of(definition: ReadModelDefinition) -> str:
    """Digest what a model's rows follow from: its name, its fields, its key, and the events, and who writes the rows.

    The code of ``@evolves`` methods is part of it. That of ``@handles`` methods is not: what they do reaches further than code.
    """
    names = first_names(definition)

    def name_of(stored: str) -> str:
        return names.get(stored, stored)

    def named(by_name: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name_of(name): each for name, each in by_name.items()}

    declaration: dict[str, Any] = {
        "name": definition.name,
        "own table": definition.has_own_table,
        "strong": definition.is_strong,
        "shards": definition.shards,
        "aggregates": None if definition.aggregate_types is None else sorted(definition.aggregate_types),
        "removed by": sorted(name_of(each) for each in definition.removed_by),
        "handlers": sorted(name_of(each) for each in definition.handlers),
        "key": [[part.name, _written(part.type), _written(named(part.sources))] for part in definition.key],
        "fields": [
            [each.name, _written(each.type), each.family, each.distinct, _written(named(each.contributions))]
            for each in definition.fields
        ],
    }
    if definition.decimal_places:
        declaration["places"] = dict(definition.decimal_places)
    if definition.takes_personal_data is not None:
        declaration["personal data"] = definition.takes_personal_data
    split = {*definition.split_sources, *(each for each in split_sources() if each.event_type in definition.own_stored_types)}
    if split:
        declaration["split"] = sorted(map(list, split))
    if definition.evolvers:
        declaration["evolvers"] = [sorted(map(name_of, definition.evolvers)), definition.evolvers_digest]
        declaration["defaults"] = [[each.name, each.is_optional, _written(each.initial)] for each in definition.fields]
    return hashlib.sha256(json.dumps(declaration, sort_keys=True).encode()).hexdigest()


def first_names(definition: ReadModelDefinition) -> Mapping[str, str]:
    """Find the name that each of a model's events was stored under first; none where rows have names of types as values."""
    sources = [source for name in definition.declared_classes() for source in definition.sources_of(name)]
    if any(isinstance(each, EnvelopeField) and each.name == "event_type" for each in sources):
        return {}
    return {name: first_name(each) for name, each in definition.event_classes.items()}


def _written(value: Any) -> Any:
    """Write a part of the declaration as what JSON can hold."""
    written: Any
    if isinstance(value, enum.Enum):
        written = _written(value.value)  # what is stored
    elif value is None or isinstance(value, bool | int | str):
        written = value
    elif isinstance(value, ValueType):
        written = [value.kind, value.enum is not None, _written(value.item)]
    elif isinstance(value, Mapping):
        written = {str(name): _written(each) for name, each in value.items()}
    elif isinstance(value, list | tuple):
        written = [_written(each) for each in value]
    elif is_dataclass(value):
        written = [type(value).__name__, {each.name: _written(getattr(value, each.name)) for each in fields(value)}]
    else:
        written = [type(value).__name__, str(value)]  # a constant, such as a Decimal or a date
    return written
