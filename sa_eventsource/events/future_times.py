"""Event classes that take moments in the future only: what they store today, they refuse to read tomorrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sa_eventsource.events.domain_event import DomainEvent


def refuses_later(event_class: type[DomainEvent]) -> str | None:
    """Find a field that takes moments in the future only, and so cannot be read later; None if there is none."""
    schema = event_class.__pydantic_core_schema__
    found = next(_fields_of(schema), {})
    definitions = schema.get("definitions", ())
    for name, field in found.items():
        if _asks_for_future(field):
            return name
    return "a model within it" if _asks_for_future(definitions) else None


def _fields_of(schema: Any) -> Iterator[dict[str, Any]]:
    """Find the fields of the outermost model."""
    if isinstance(schema, dict):
        if schema.get("type") == "model-fields":
            yield schema["fields"]
        elif isinstance(schema.get("schema"), dict):
            yield from _fields_of(schema["schema"])


def _asks_for_future(schema: Any) -> bool:
    if isinstance(schema, dict):
        return schema.get("now_op") == "future" or any(
            _asks_for_future(each) for key, each in schema.items() if key not in ("metadata", "default", "config")
        )
    return isinstance(schema, list | tuple) and any(map(_asks_for_future, schema))
