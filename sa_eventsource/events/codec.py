"""Events to JSON text and back, exactly or not at all.

Pydantic writes and reads the text; there is no dict in between. What a text cannot carry is refused when the event is applied:
NUL characters (PostgreSQL's text has none), NaN and infinities (JSON has none), times without a zone (they mean another moment on
another machine), and values that would come back as something else. PostgreSQL's jsonb orders the keys of objects anew, so the
entries of a dict field come back in another order, and knows no negative zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from sa_eventsource.events import registry, schema_traits
from sa_eventsource.events.upcasting import read_old
from sa_eventsource.exceptions import EventDecodeError, EventPayloadError, UnknownEventTypeError

if TYPE_CHECKING:
    from uuid import UUID

    from sa_eventsource.events.domain_event import DomainEvent
    from sa_eventsource.types import JsonValue

Decoder: TypeAlias = Callable[..., "DomainEvent"]

_decoders: dict[tuple[str, int], Decoder] = {}
registry.on_change(_decoders.clear)


def encode(event: DomainEvent) -> str:
    """Write an event's payload as JSON text.

    Raises:
        EventPayloadError: It holds a value that would not survive.
    """
    event_class = type(event)
    name = event_class.__event_type__
    try:
        text = event.model_dump_json(by_alias=True, warnings="error")
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise EventPayloadError(name, _unserializable(event), f"it cannot be written as JSON: {error}") from error
    traits = schema_traits.of(event_class)
    if traits.may_hold_times or _is_suspicious(text):
        _refuse_first(name, event)
    if traits.is_ambiguous:
        _refuse_unequal(name, event, text)
    return text


def decoder(event_type: str, event_version: int) -> Decoder:
    """Get the function that reads payloads of one stored type and version.

    It raises Pydantic's ``ValidationError`` for payloads that do not fit; :func:`decode` says it better.

    Raises:
        UnknownEventTypeError: No class declares the type.
    """
    key = (event_type, event_version)
    try:
        return _decoders[key]
    except KeyError:
        event_class = registry.current_class(event_type, event_version)
        if event_class.__event_version__ == event_version:
            found: Decoder = event_class.__pydantic_validator__.validate_json
        else:
            found = partial(read_old, event_type, event_version)
        _decoders[key] = found
        return found


def decode(event_type: str, event_version: int, payload: str | bytes, *, event_id: UUID | None = None) -> DomainEvent:
    """Read a stored payload.

    Args:
        event_type: The stored name.
        event_version: The stored version.
        payload: The stored JSON text.
        event_id: The event's id, for the message of an error.

    Raises:
        EventDecodeError: The payload does not fit, or an upcaster is missing or fails.
        UnknownEventTypeError: No class declares the type.
    """
    try:
        return decoder(event_type, event_version)(payload)
    except ValidationError as error:
        details = error.errors(include_url=False)
        fields = [".".join(map(str, each["loc"])) for each in details]
        reason = "; ".join(f"{field or 'payload'}: {each['msg']}" for field, each in zip(fields, details, strict=True))
        raise EventDecodeError(event_type, event_version, reason, fields=fields, event_id=event_id) from error
    except EventDecodeError as error:
        raise EventDecodeError(event_type, event_version, error.reason, fields=error.fields, event_id=event_id) from error
    except UnknownEventTypeError as error:
        raise UnknownEventTypeError(event_type, event_version, event_id) from error


def encode_metadata(metadata: Mapping[str, JsonValue]) -> str | None:
    """Write metadata as JSON text; None if there is none.

    Raises:
        EventPayloadError: It holds what JSON or PostgreSQL cannot.
    """
    if not metadata:
        return None
    if type(metadata) is not dict or not all(type(key) is str and type(value) is str for key, value in metadata.items()):
        for field, reason in _not_json(metadata, ""):
            raise EventPayloadError("metadata", field, reason)
    try:
        text = to_json(metadata, inf_nan_mode="constants").decode()
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise EventPayloadError("metadata", "", f"it cannot be written as JSON: {error}") from error
    if _is_suspicious(text):
        _refuse_first("metadata", metadata)
    return text


def decode_metadata(text: str | bytes | None) -> dict[str, Any]:
    """Read metadata from JSON text; an empty dict if there is none."""
    found: dict[str, Any] = {} if text is None else json.loads(text)
    return found


def _is_suspicious(text: str) -> bool:
    return "\\u0000" in text or "NaN" in text or "Infinity" in text


def _refuse_first(name: str, value: object) -> None:
    for field, reason in _unstorable(value, ""):
        raise EventPayloadError(name, field, reason)


def _unstorable(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Find, in a value and all it holds, what no text can carry."""
    match value:
        case str() if "\x00" in value:
            yield path, "it holds a NUL character, which PostgreSQL cannot store"
        case float() | Decimal() if not math.isfinite(value):
            yield path, f"{value} is not a number that JSON can hold"
        case datetime() if value.utcoffset() is None:
            yield path, f"{value!r} has no time zone; pass an aware time, such as datetime.now(UTC)"
        case _:
            for key, each in _members(value):
                inner = f"{path}.{key}" if path else str(key)
                if isinstance(key, str) and "\x00" in key:
                    yield inner, "its key holds a NUL character, which PostgreSQL cannot store"
                yield from _unstorable(each, inner)


def _members(value: object) -> Iterator[tuple[object, object]]:
    match value:
        case BaseModel():
            yield from vars(value).items()
            yield from (value.__pydantic_extra__ or {}).items()
        case Mapping():
            yield from value.items()
        case list() | tuple() | set() | frozenset():
            yield from enumerate(value)
        case _ if hasattr(type(value), "__dataclass_fields__"):
            yield from ((name, getattr(value, name)) for name in type(value).__dataclass_fields__)  # type: ignore[attr-defined]


def _not_json(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, str):
                yield path, f"the key {key!r} is not a str"
            yield from _not_json(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _not_json(each, f"{path}.{index}" if path else str(index))
    elif not isinstance(value, str | int | float | bool | None):
        yield path, f"{value!r} is not a JSON value; pass str(...) or another that is"


def _unserializable(event: DomainEvent) -> str:
    for name, value in vars(event).items():
        try:
            to_json(value, inf_nan_mode="constants")
        except (PydanticSerializationError, UnicodeEncodeError):
            return name
    return ""


def _refuse_unequal(name: str, event: DomainEvent, text: str) -> None:
    advice = "use a more exact type, or a discriminator for a union of models"
    try:
        again = type(event).__pydantic_validator__.validate_json(text)
    except ValidationError as error:
        field = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise EventPayloadError(name, field, f"it could not be read back: {error}; {advice}") from error
    if again == event and _same_types(again, event):
        return
    for field, value in vars(event).items():
        back = getattr(again, field)
        if back != value or not _same_types(back, value):
            raise EventPayloadError(name, field, f"{value!r} would come back as {back!r}; {advice}")


def _same_types(left: object, right: object) -> bool:
    """Tell whether two equal values are made of the same types: 1 and True and Decimal(1) are equal too."""
    if type(left) is not type(right):
        return False
    if isinstance(left, set | frozenset):
        return True
    pairs = zip(_members(left), _members(right), strict=False)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return all(_same_types(value, right.get(key)) for key, value in left.items())
    return all(_same_types(one, other) for (_, one), (_, other) in pairs)
