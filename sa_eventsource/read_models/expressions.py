"""From what a declaration says to sources: names, paths, time parts, functions of the event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.sources import (
    ENVELOPE,
    EnvelopeField,
    MetadataValue,
    Source,
    TimePart,
    TimeUnit,
    constant,
    event_field,
)
from sa_eventsource.read_models.traced_functions import traced

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from sa_eventsource.events import DomainEvent
    from sa_eventsource.read_models.value_types import ValueType


@dataclass(frozen=True)
class TimePartOf:
    """A declared time part; made by :func:`day`, :func:`week`, :func:`month` and :func:`year`."""

    unit: TimeUnit
    source: str
    zone: str


SourceSpec: TypeAlias = "str | TimePartOf | Callable[[Any], Any] | int | Decimal"
"""What ``source=`` takes: a name or path, a time part, a function of the event, or a number, the same for every event."""


def day(source: str = "occurred_at", zone: str = "UTC") -> TimePartOf:
    """The day that a moment falls on.

    Args:
        source: A moment: what the log knows (``occurred_at``), or a ``datetime`` field of the event.
        zone: IANA name of the time zone whose days are meant, such as ``"Europe/Amsterdam"``.

    Raises:
        DeclarationError: There is no such zone.
    """
    return _time_part("day", source, zone)


def week(source: str = "occurred_at", zone: str = "UTC") -> TimePartOf:
    """The Monday of the week that a moment falls on. Arguments as for :func:`day`."""
    return _time_part("week", source, zone)


def month(source: str = "occurred_at", zone: str = "UTC") -> TimePartOf:
    """The first day of the month that a moment falls on. Arguments as for :func:`day`."""
    return _time_part("month", source, zone)


def year(source: str = "occurred_at", zone: str = "UTC") -> TimePartOf:
    """The first day of the year that a moment falls on. Arguments as for :func:`day`."""
    return _time_part("year", source, zone)


def _time_part(unit: TimeUnit, source: str, zone: str) -> TimePartOf:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DeclarationError(
            f"{unit}(zone={zone!r}): no such time zone; write an IANA name, such as 'Europe/Amsterdam'"
        ) from error
    return TimePartOf(unit, source, zone)


def resolve(spec: Any, event_class: type[DomainEvent], target: ValueType) -> Source:
    """Turn a declared source into one of an event class.

    Args:
        spec: A name, a path such as ``address.city`` or ``metadata.user``, a time part, a function of the event, or a number.
        event_class: The event.
        target: The type of the field it is for; a metadata value is read as that.

    Raises:
        DeclarationError: The event has no such field, or the function does what the database cannot.
    """
    if isinstance(spec, str):
        return _by_path(spec, event_class, target)
    if isinstance(spec, TimePartOf):
        moment = _by_path(spec.source, event_class, target)
        if moment.type.kind != "moment":
            raise DeclarationError(f"{spec.unit}({spec.source!r}) needs a datetime; {event_class.__name__}.{spec.source} is none")
        return TimePart(spec.unit, moment, spec.zone)
    if callable(spec):
        return traced(spec, event_class, lambda path: _by_path(path, event_class, target))
    number = constant(spec)
    if number is not None:
        return number
    raise DeclarationError(f"{spec!r} is no source; write a field's name, a path, day(...), or a function of the event")


def has_two_meanings(spec: Any, event_class: type[DomainEvent]) -> str | None:
    """Find a name in a source that the event has a field of, and the log an entry; None if there is none."""
    path = spec.source if isinstance(spec, TimePartOf) else spec
    name = path.split(".")[0] if isinstance(path, str) else ""
    return name if name in ENVELOPE and name in event_class.model_fields else None


def has_source(spec: Any, event_class: type[DomainEvent], target: ValueType) -> bool:
    """Check whether an event class has what a source names."""
    try:
        resolve(spec, event_class, target)
    except DeclarationError:
        return False
    return True


def _by_path(path: str, event_class: type[DomainEvent], target: ValueType) -> Source:
    first, *rest = path.split(".")
    if first == "log" and ".".join(rest) in ENVELOPE:
        return _of_log(rest[0], target)
    if first == "event" and rest and first not in event_class.model_fields:
        return event_field(event_class, rest)
    if first == "metadata" and rest and first not in event_class.model_fields:
        if target.kind in ("date", "moment", "uuid") or target.enum is not None or target.item is not None:
            raise DeclarationError(f"{path} is a JSON value; the field must be a str, int, float, Decimal, bool or dict")
        return MetadataValue(tuple(rest), target)
    if path in ENVELOPE and path not in event_class.model_fields:
        return _of_log(path, target)
    if path == "recorded_at" and path not in event_class.model_fields:
        raise DeclarationError(
            "recorded_at cannot be the source of a field: a read model is made of what happened, whenever that was written down. "
            "Take occurred_at, or write an @handles method, which finds recorded_at on the event."
        )
    return event_field(event_class, [first, *rest])


def _of_log(name: str, target: ValueType) -> EnvelopeField:
    if name == "aggregate_id" and target.kind in ("uuid", "integer"):
        return EnvelopeField(name, target)  # stored as text, read as the aggregate declares its ids
    return EnvelopeField(name, ENVELOPE[name])
