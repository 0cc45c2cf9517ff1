"""Events to JSON text and back, exactly or not at all.

Pydantic writes and reads the text; there is no dict in between. An event whose class is proven exact is written, and that is all
(:mod:`~sa_eventsource.events.exactness`). Any other is read back at once, as PostgreSQL would give it, and compared with what was
written, types included. What does not come back, and what no text can carry, is refused when the event is applied: NUL characters
(PostgreSQL's text has none), NaN and infinities (JSON has none), times without a zone (another machine takes them for another
moment).

What comes back is equal, not identical: a time has its offset but no longer the zone's name, the entries of a dict are in another
order, and PostgreSQL knows no negative zero. Where the order means something, declare a list of pairs; an ``OrderedDict`` whose
order would be lost is refused. The object that ``apply_event`` was given still has all that: until the next load, the ``@applies``
method has seen it; from then on, what came back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

from sa_eventsource.events import event_types
from sa_eventsource.events.codec_steps import FromLog, Step, Steps, ToLog
from sa_eventsource.events.comparison import difference, shown
from sa_eventsource.events.exactness import proof_of
from sa_eventsource.events.future_times import refuses_later
from sa_eventsource.events.jsonb import as_text, parsed
from sa_eventsource.events.personal import check_personal, is_personal, sealed_names
from sa_eventsource.events.splitting import Parts, is_retired
from sa_eventsource.events.storable import is_suspicious, refuse_unstorable
from sa_eventsource.events.upcasting import in_present_shape, refuse_idle_steps
from sa_eventsource.exceptions import DeclarationError, EventDecodeError, EventPayloadError, UnknownEventTypeError

if TYPE_CHECKING:
    from uuid import UUID

    from sa_eventsource.events.domain_event import DomainEvent


def decode(event_type: str, event_version: int, payload: str | bytes, *, event_id: UUID | None = None) -> DomainEvent | Parts:
    """Read a stored payload: as an event, or as the events that an upcaster makes of it.

    Args:
        event_type: The stored name.
        event_version: The stored version.
        payload: The stored JSON text.
        event_id: The event's id, for the message of an error.

    Raises:
        EventDecodeError: The payload does not fit, or an upcaster is missing or fails.
        UnknownEventTypeError: No class declares the type.
        DeclarationError: It has an upcaster that would never run.
    """
    try:
        return cast("DomainEvent | Parts", decoder(event_type, event_version)(payload))
    except ValidationError as error:
        may_be_personal = event_type in sealed_names()
        fields, reason = _refusals(error, in_full=not may_be_personal)
        cause = None if may_be_personal else error
        raise EventDecodeError(event_type, event_version, reason, fields=fields, event_id=event_id) from cause
    except EventDecodeError as error:
        raise EventDecodeError(event_type, event_version, error.reason, fields=error.fields, event_id=event_id) from error
    except UnknownEventTypeError as error:
        raise UnknownEventTypeError(event_type, event_version, event_id) from error


def _refusals(error: ValidationError, *, in_full: bool) -> tuple[list[str], str]:
    """List the fields that Pydantic refuses, and say why: in full, or without words that may quote a value."""
    details = error.errors(include_url=False)
    fields = [".".join(map(str, each["loc"])) for each in details]
    reasons = [each["msg"] if in_full or each["type"] in _WITHOUT_VALUES else each["type"] for each in details]
    return fields, "; ".join(f"{field or 'payload'}: {reason}" for field, reason in zip(fields, reasons, strict=True))


_WITHOUT_VALUES = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error", "union_tag_invalid"}
"""Errors in words of Pydantic's own that quote no value. A validator of the application may say anything."""


def _writing(event_class: type[DomainEvent]) -> ToLog:
    to_json = event_class.__pydantic_serializer__.to_json

    def write(event: DomainEvent, _text: str) -> str:
        try:
            return to_json(event, by_alias=True, warnings="error").decode()
        except (ValueError, RecursionError) as error:  # Pydantic's own, and what a text cannot be encoded with
            raise _unwritable(event, error) from _cause(event, error)

    return write


def _proving(event_class: type[DomainEvent]) -> ToLog:
    event_types.refuse_unreadable(event_class)
    refuse_idle_steps(event_class)
    check_personal(event_class)
    field = refuses_later(event_class)
    if field is not None:
        raise DeclarationError(
            f"{event_class.__name__}.{field} must lie in the future, and so could not be read once the time has come. Check that "
            "where the event is made, and declare the field as date or AwareDatetime."
        )
    name = event_class.__event_type__
    read: FromLog = event_class.__pydantic_validator__.validate_json
    proof = proof_of(event_class)
    if proof is None or proof.test is None:
        return lambda event, text: _compared(name, read, event, text)
    if proof.has_immutable_fields and event_class.model_config.get("frozen") and not event_class.__private_attributes__:
        _immutable[event_class] = len(event_class.model_fields)
    test, has_rules = proof.test, proof.has_rules

    def prove(event: DomainEvent, text: str) -> str:
        try:
            is_exact = test(event) and not is_suspicious(text)
        except Exception:  # noqa: BLE001 - a time zone of the application's own may raise anything
            is_exact = False
        if not is_exact:
            return _compared(name, read, event, text)
        if has_rules:
            _read_back(event, read, text)
        return text

    return prove


def _compared(name: str, read: FromLog, event: DomainEvent, text: str) -> str:
    """Read a text back as the database will give it, and compare."""
    try:
        refuse_unstorable(name, event)
        document = parsed(text)
        refuse_unstorable(name, document)  # what is a text only here, such as a path
        found = difference(event, _read_back(event, read, as_text(document)))
    except EventPayloadError:
        raise
    except Exception as error:  # noqa: BLE001 - values and types of the application's own may raise anything
        raise _not_read_back(event, error) from _cause(event, error)
    if found is not None:
        one, other = (shown(found.one), shown(found.other)) if not is_personal(type(event)) else ("its value", "another one")
        raise EventPayloadError(name, found.path, f"{one} would come back as {other}; {_ADVICE}")
    return text


_ADVICE = "use a more exact type, or a discriminator for a union of models"
_UNCHECKED = (
    "the field's type must take what is written of it, which nobody checks of a default, model_copy() and model_construct()"
)


def _read_back(event: DomainEvent, read: FromLog, text: str) -> Any:
    try:
        return read(text)
    except Exception as error:  # noqa: BLE001 - a validator of the application's own may raise anything
        raise _not_read_back(event, error, f"; {_UNCHECKED}") from _cause(event, error)


def _not_read_back(event: DomainEvent, error: Exception, advice: str = "") -> EventPayloadError:
    """Say why an event could not be read back; not in words that may quote a value, where that may be personal."""
    in_full = not is_personal(type(event))
    if isinstance(error, ValidationError):
        (field, *_), reason = _refusals(error, in_full=in_full)
    else:
        field, reason = "", repr(error) if in_full else type(error).__name__
    return EventPayloadError(event.__event_type__, field, f"it could not be read back: {reason}{advice}")


def _cause(event: DomainEvent, error: Exception) -> Exception | None:
    """Give what an error comes from, unless its words may quote a personal value."""
    return None if is_personal(type(event)) else error


def _unwritable(event: DomainEvent, error: Exception) -> EventPayloadError:
    """Say why an event cannot be written; not in Pydantic's words, which quote the value, where that may be personal."""
    reason = "a value is not of its field's type, or none that JSON has" if is_personal(type(event)) else error
    return EventPayloadError(event.__event_type__, _unserializable(event), f"it cannot be written as JSON: {reason}")


def _unserializable(event: DomainEvent) -> str:
    """Name the field that cannot be written; an empty text if it is none alone."""
    for name in type(event).model_fields:
        try:
            event.__pydantic_serializer__.to_json(event, by_alias=True, warnings="error", include={name})
        except (ValueError, RecursionError):
            return name
    return ""


def _reading(event_type: str, event_version: int) -> FromLog | None:
    if is_retired(event_type, event_version):
        return None
    target = event_types.current_class(event_type, event_version)
    refuse_idle_steps(target)
    validate: FromLog = target.__pydantic_validator__.validate_json
    if target.__event_version__ == event_version:
        return validate
    return lambda payload: payload if isinstance(payload, target | Parts) else validate(payload)


def _upcasting(event_type: str, event_version: int) -> FromLog | None:
    if not is_retired(event_type, event_version):
        target = event_types.current_class(event_type, event_version)
        if target.__event_version__ == event_version:
            return None

    def upcasted(payload: Any) -> Any:
        found = in_present_shape(event_type, event_version, payload)
        return _as_stored(event_type, event_version, found) if isinstance(found, Parts) else found

    return upcasted


def _as_stored(event_type: str, event_version: int, parts: Parts) -> Parts:
    """Make of events that an upcaster gave what they would be if they had been stored, or refuse them."""
    try:
        return Parts(as_read(each, encode(each)) for each in parts)
    except EventPayloadError as error:
        raise EventDecodeError(event_type, event_version, f"its upcaster gives an event that cannot be stored: {error}") from error


STEPS = Steps(
    [
        Step("write", to_log=_writing, from_log=lambda _type, _version: None),
        Step("validate", to_log=_proving, from_log=_reading),
        Step("upcast", to_log=lambda _class: None, from_log=_upcasting),
    ]
)
"""The way of every event. A step that changes what is stored, such as encryption, joins it."""

encode = STEPS.write
decoder = STEPS.reader

_immutable: dict[type[DomainEvent], int] = {}
"""The classes whose events are proven to hold nothing that can change, with the number of their fields."""
event_types.on_change(_immutable.clear)


def as_read(event: DomainEvent, payload: str) -> DomainEvent:
    """Get an event that was just encoded as a later load reads it.

    What gets it shares nothing with the object that was applied, which the application may still change: a list in it, say. Where
    nothing can change, and nothing distinguishes the two, that is the object itself: only which fields were given can be seen.

    Args:
        event: The event.
        payload: What :func:`encode` made of it.

    Raises:
        EventPayloadError: A validator of the class takes it no longer.
    """
    event_class = type(event)
    if _is_immutable(event):
        return event
    name = event_class.__event_type__
    again: DomainEvent = _read_back(event, decoder(name, event_class.__event_version__), payload)
    return again


def own_copy(event: DomainEvent) -> DomainEvent:
    """Get an event that shares nothing with another one that could be changed; where nothing can, that one itself."""
    return event if _is_immutable(event) else event.model_copy(deep=True)


def _is_immutable(event: DomainEvent) -> bool:
    return len(event.__pydantic_fields_set__) == _immutable.get(type(event))
