"""Rewriting some fields of a stored payload by a function, and nothing else: the text around them stays as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sa_eventsource.events import SEALED_BEGINNING, decode_metadata, item_spans, member_spans, refuse_unstorable, replaced, shown
from sa_eventsource.exceptions import AnonymisationError, EventPayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sa_eventsource.types import JsonValue

_EACH = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredField:
    """A field of a stored event, which a function gives another value.

    Attributes:
        field: The keys that lead to it, such as ``"lines.0.note"``.
        value: Its value as the JSON that is stored.
        event_id: The event.
        aggregate_type: The type name of its stream.
        aggregate_id: The id of its stream, as stored.
        version: Its version there.
        event_type: The name that it is stored under.
        event_version: The version of its class that it was stored as: older ones may have other fields.
        occurred_at: When it occurred, in UTC.
        metadata: Its metadata.
    """

    field: str
    value: JsonValue
    event_id: UUID
    aggregate_type: str
    aggregate_id: str
    version: int
    event_type: str
    event_version: int
    occurred_at: datetime
    metadata: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """A field of a stored event that was given another value, or would be.

    Attributes:
        event_id: The event.
        aggregate_type: The type name of its stream.
        aggregate_id: The id of its stream, as stored.
        version: Its version there.
        event_type: The name that it is stored under.
        field: The keys that lead to it, such as ``"lines.0.note"``.
        before: Its value as the JSON that was stored.
        after: What stands there now, or would.
    """

    event_id: UUID
    aggregate_type: str
    aggregate_id: str
    version: int
    event_type: str
    field: str
    before: JsonValue
    after: JsonValue


Rewriting: TypeAlias = "Callable[[StoredField], JsonValue]"


def rewritten(row: Any, fields: Sequence[tuple[str, ...]], rewrite: Rewriting) -> tuple[str, list[FieldChange]]:
    """Give the payload of a row of ``select_events`` with some fields rewritten, and what has changed in it.

    What is sealed is left alone.

    Raises:
        AnonymisationError: The function gave a value of another structure, or one that cannot be stored; or fields overlap.
    """
    text: str = row.event_data
    places = sorted({place for path in fields for place in _places(text, 0, path, ())}, key=lambda place: place[1])
    spans, texts, changes = [], [], []
    end = 0
    for path, start, behind in places:
        name = ".".join(path)
        if start < end:
            raise _refused(row, name, "it is in another field that is to be rewritten. Name one of them")
        end = behind
        before = json.loads(text[start:end])
        after = rewrite(_field(row, name, before))
        if after == before and type(after) is type(before):
            continue
        texts.append(_written(row, name, before, after))
        spans.append((start, end))
        changes.append(_change(row, name, before, after))
    return replaced(text, spans, texts), changes


def has_field(text: str, fields: Sequence[str]) -> bool:
    """Check whether a stored payload has one of some fields, given by their paths, with something that is not sealed."""
    return any(True for path in fields for _ in _places(text, 0, tuple(path.split(".")), ()))


def _places(text: str, at: int, path: tuple[str, ...], before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Find where the values stand that a path leads to, except for those that are sealed."""
    first, *rest = path
    inner: Iterator[tuple[str, int, int]]
    if text[at] == "{":
        inner = member_spans(text, at)
    elif text[at] == "[":
        inner = ((str(number), *place) for number, place in enumerate(item_spans(text, at)))
    else:
        return
    for key, start, end in inner:
        if first not in (_EACH, key) or text.startswith(SEALED_BEGINNING, start):
            continue
        if rest:
            yield from _places(text, start, tuple(rest), (*before, key))
        else:
            yield (*before, key), start, end


def _written(row: Any, name: str, before: Any, after: Any) -> str:
    if not _has_structure_of(before, after):
        raise _refused(
            row, name, f"{shown(after)} has not the structure of what is there: objects keep their keys, arrays their length"
        )
    try:
        refuse_unstorable(row.event_type, after)
        return json.dumps(after, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError, EventPayloadError) as error:
        raise _refused(row, name, f"{shown(after)} cannot be stored as JSON: {error}") from error


def _has_structure_of(before: Any, after: Any) -> bool:
    if isinstance(before, dict):
        return (
            isinstance(after, dict)
            and before.keys() == after.keys()
            and all(_has_structure_of(value, after[key]) for key, value in before.items())
        )
    if isinstance(before, list):
        return isinstance(after, list) and len(before) == len(after) and all(map(_has_structure_of, before, after))
    return not isinstance(after, dict | list)


def _field(row: Any, name: str, value: Any) -> StoredField:
    return StoredField(
        field=name,
        value=value,
        event_id=row.event_id,
        aggregate_type=row.aggregate_type,
        aggregate_id=row.aggregate_id,
        version=row.version,
        event_type=row.event_type,
        event_version=row.event_version,
        occurred_at=row.occurred_at,
        metadata=decode_metadata(row.event_metadata),
    )


def _change(row: Any, name: str, before: Any, after: Any) -> FieldChange:
    return FieldChange(
        event_id=row.event_id,
        aggregate_type=row.aggregate_type,
        aggregate_id=row.aggregate_id,
        version=row.version,
        event_type=row.event_type,
        field=name,
        before=before,
        after=after,
    )


def _refused(row: Any, field: str, reason: str) -> AnonymisationError:
    return AnonymisationError(f"{field}: {reason}", event_type=row.event_type, event_id=row.event_id, fields=[field])
