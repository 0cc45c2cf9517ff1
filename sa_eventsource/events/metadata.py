"""Metadata of events to JSON text and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from sa_eventsource.events.comparison import path_to
from sa_eventsource.events.jsonb import parsed
from sa_eventsource.events.storable import is_suspicious, refuse_unstorable
from sa_eventsource.exceptions import EventPayloadError

if TYPE_CHECKING:
    from sa_eventsource.types import JsonValue


def encode_metadata(metadata: Mapping[str, JsonValue]) -> str | None:
    """Write metadata as JSON text; None if there is none.

    Raises:
        EventPayloadError: It holds what JSON or PostgreSQL cannot.
    """
    if not metadata:
        return None
    if not _is_flat(metadata):
        for field, reason in _not_json(metadata, ""):
            raise EventPayloadError("metadata", field, reason)
    try:
        text = to_json(metadata, inf_nan_mode="constants").decode()
    except (ValueError, RecursionError) as error:
        raise EventPayloadError("metadata", "", f"it cannot be written as JSON: {error}") from error
    if is_suspicious(text):
        refuse_unstorable("metadata", metadata)
        try:
            parsed(text)
        except (ValueError, RecursionError) as error:
            raise EventPayloadError("metadata", "", f"it could not be read back: {error}") from error
    return text


def decode_metadata(text: str | bytes | None) -> dict[str, Any]:
    """Read metadata from JSON text; an empty dict if there is none."""
    found: dict[str, Any] = {} if text is None else json.loads(text)
    return found


def as_stored(metadata: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Get metadata as it will be read: a copy of its own, with a list where a tuple was.

    Raises:
        EventPayloadError: It holds what JSON or PostgreSQL cannot.
    """
    text = encode_metadata(metadata)
    if text is None:
        return {}
    found: dict[str, Any] = dict(metadata) if _is_flat(metadata) else parsed(text)
    return found


def _is_flat(metadata: Mapping[str, JsonValue]) -> bool:
    """Check whether it is a dict of texts, as it nearly always is."""
    return type(metadata) is dict and all(type(key) is str and type(value) is str for key, value in metadata.items())


def _not_json(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, str):
                yield path, f"the key {key!r} is not a str"
            yield from _not_json(each, path_to(key, path))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _not_json(each, path_to(index, path))
    elif not isinstance(value, str | int | float | bool | None):
        yield path, f"{value!r} is not a JSON value; pass str(...) or another that is"
