"""Events as rows that a statement reads from a JSON array, in place of those that are stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sa_eventsource.events import encode, encode_metadata
from sa_eventsource.mapping import READ, json_rows
from sa_eventsource.read_models.sources import event_fields
from sa_eventsource.read_models.value_types import without_decimals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

_json_row = json_rows(READ)
_DIGITS = 6
"""Of the number of a part, behind the point of its place."""


def events_as_rows(definition: ReadModelDefinition, events: Iterable[RecordedEvent[Any]]) -> str:
    """Write events as Python has read them as rows of the log, a JSON array.

    Their payload is that of their present shape, or, where only the class can read one, the values that the model takes.
    """
    if not definition.split_sources:
        return "[" + ",".join([_json_row(_as_row(definition, recorded), None) for recorded in events]) + "]"
    rows = [
        f'{_json_row(_as_row(definition, recorded), None)[:-1]},"place":{recorded.position}.{recorded.part:0{_DIGITS}}}}'
        for recorded in events
        if definition.changes_row(recorded)
    ]
    return "[" + ",".join(rows) + "]"


def _as_row(definition: ReadModelDefinition, recorded: RecordedEvent[Any]) -> dict[str, Any]:
    event_type, metadata = type(recorded.event).__event_type__, encode_metadata(recorded.metadata)
    data = _values(definition, recorded) if event_type in definition.read_in_python else encode(recorded.event)
    values = {name: getattr(recorded, name) for name in READ if name != "event_data"}
    return {**values, "event_type": event_type, "event_data": data, "metadata": metadata}


def _values(definition: ReadModelDefinition, recorded: RecordedEvent[Any]) -> str:
    sources = definition.sources_of(type(recorded.event).__event_type__)
    fields = {each.name: each for source in sources for each in event_fields(source)}
    values = {name: each.type.to_json(each.evaluate(recorded)) for name, each in fields.items()}
    return json.dumps(without_decimals(values))
