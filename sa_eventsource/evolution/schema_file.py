"""The file in which an application keeps the shapes of what it has stored: events by type and version, commands, read models.

It belongs into the repository, and is read by people in a review: JSON, sorted, two spaces. A version's shapes stay in it as long
as the log may hold events of that version: for good. Of a shape that has changed compatibly, all are kept, the latest one last.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import PydanticUserError
from pydantic.errors import PydanticInvalidForJsonSchema

from sa_eventsource.aggregates import definition_of
from sa_eventsource.commands import handlers_on
from sa_eventsource.events import current_class, members, place, stored_types
from sa_eventsource.evolution.shapes import digest_of_shape, shape_of
from sa_eventsource.exceptions import SchemaFileError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from sa_eventsource.events import DomainEvent
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.read_models import ReadModelDefinition

Entry: TypeAlias = "dict[str, Any]"
Document: TypeAlias = "dict[str, Any]"

FORMAT = 1
"""Version of the file's format."""


def document_of(tables: EventSourceTables) -> Document:
    """Describe what the code declares: the events that aggregates of the log have, the commands, the read models."""
    events: dict[str, dict[str, Entry]] = {}
    for each in events_of(tables):
        events[each.__event_type__] = {
            str(each.__event_version__): {**_model_entry(each), "former_types": list(stored_types(each)[1:])}
        }
    return {
        "format": FORMAT,
        "events": events,
        "commands": {name: _model_entry(each.command_class) for name, each in handlers_on(tables).items()},
        "read_models": {name: _read_model_entry(each) for name, each in tables.read_models.items()},
    }


def events_of(tables: EventSourceTables) -> list[type[DomainEvent]]:
    """List the events that aggregates of a log have, or read models take, by stored name."""
    found: dict[str, type[DomainEvent]] = {}
    for aggregate in tables.aggregate_classes.values():
        found |= {each.__event_type__: each for each in members(definition_of(aggregate).handlers.functions())}
    for definition in tables.read_models.values():
        found |= definition.event_classes
    return [current_class(name, 1) for name in sorted(found)]


def read_document(text: str, name: str) -> Document:
    """Read a file.

    Args:
        text: What it holds.
        name: What it is called, for the message.

    Raises:
        SchemaFileError: It is none.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SchemaFileError(name, f"it is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(each), dict) for each in ("events", "commands", "read_models")):
        raise SchemaFileError(name, "it was not written by this command")
    if found.get("format") != FORMAT:
        raise SchemaFileError(name, f"its format is {found.get('format')!r}, and this release reads {FORMAT}")
    return found


def written(document: Document) -> str:
    """Write a file."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def merged(before: Document, now: Document) -> Document:
    """Add what the code declares now to what a file holds: versions and shapes that were there stay."""
    events = {name: dict(versions) for name, versions in before["events"].items()}
    for name, versions in now["events"].items():
        for version, entry in versions.items():
            events.setdefault(name, {})[version] = _with_shapes(events.get(name, {}).get(version), entry)
    commands = before["commands"] | {
        name: _with_shapes(before["commands"].get(name), each) for name, each in now["commands"].items()
    }
    return {"format": FORMAT, "events": events, "commands": commands, "read_models": now["read_models"]}


def _with_shapes(before: Entry | None, now: Entry) -> Entry:
    shapes = [] if before is None else [each for each in before["shapes"] if each["digest"] != now["shapes"][0]["digest"]]
    return {**now, "shapes": [*shapes, *now["shapes"]]}


def _model_entry(model: type[BaseModel]) -> Entry:
    shape = shape_of(model)
    return {
        "class": place(model),
        "json_schema": json_schema_of(model),
        "shapes": [{"digest": digest_of_shape(shape), "shape": shape}],
    }


def json_schema_of(model: type[BaseModel]) -> Any:
    """Get the JSON Schema of what is written; None where Pydantic has none."""
    try:
        return model.model_json_schema(mode="serialization", by_alias=True)
    except (PydanticInvalidForJsonSchema, PydanticUserError):
        return None


def _read_model_entry(definition: ReadModelDefinition) -> Entry:
    return {
        "class": place(definition.model),
        "declaration": definition.fingerprint,
        "key": {part.name: part.type.kind for part in definition.key},
        "fields": {each.name: each.type.kind for each in definition.fields},
        "events": sorted(definition.event_classes),
    }
