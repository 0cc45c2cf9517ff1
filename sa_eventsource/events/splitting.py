"""Stored events that are read as several events, or as none: what is declared of them, and what tells their parts apart.

An upcaster that is declared with ``into=`` gives the events themselves, of present classes. All parts have the version and the
position of the stored event. The first has its id too; each further one has an id that follows from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid5

from sa_eventsource.events import event_types
from sa_eventsource.events.event_types import current_type, family, stored_types
from sa_eventsource.exceptions import DeclarationError, UnknownEventTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sa_eventsource.events.domain_event import DomainEvent

MOST_PARTS = 1_000
"""So many events at most come from one; more would be a mistake."""


class Parts(tuple["DomainEvent", ...]):
    """The events that one stored event is read as, in their order; none where it is dropped."""

    __slots__ = ()


class SplitSource(NamedTuple):
    """Stored events that may be read as several.

    Attributes:
        event_type: The name that they are stored under.
        version: The highest version of those that are.
    """

    event_type: str
    version: int


_into: dict[tuple[str, int], tuple[type[DomainEvent], ...]] = {}
_sources: dict[type[DomainEvent] | None, tuple[SplitSource, ...]] = {}
event_types.on_change(_sources.clear)


def declare_split(event_type: str, version: int, into: tuple[type[DomainEvent], ...] | None) -> None:
    """Keep what an upcaster makes of a payload; None where it makes the payload of the next version."""
    if into is None:
        _into.pop((event_type, version), None)
    else:
        _into[event_type, version] = into


def check_into(where: str, into: object) -> tuple[type[DomainEvent], ...]:
    """Check what an upcaster is declared to give.

    Raises:
        DeclarationError: It is no tuple of classes of events.
    """
    if not isinstance(into, tuple | list) or not all(isinstance(each, type) and hasattr(each, "__event_type__") for each in into):
        raise DeclarationError(
            f"{where}: into is {into!r}; name the events that it makes, into=(OrderPlaced, OrderPaid), or none: ()"
        )
    for each in into:
        event_types.refuse_unreadable(each)
    return tuple(into)


def into_of(event_type: str, version: int) -> tuple[type[DomainEvent], ...] | None:
    """Get the classes of the events that the upcaster of a stored name and version gives; None where it gives a payload."""
    return _into.get((event_type, version))


def part_id(event_id: UUID, number: int) -> UUID:
    """Get the id of a part of a stored event, counted from 0."""
    return event_id if number == 0 else uuid5(event_id, str(number))


def is_retired(event_type: str, event_version: int) -> bool:
    """Check whether stored events no longer have a class, and are read by an upcaster as other events, or as none."""
    return any(name == event_type and version >= event_version for name, version in _into) and not _has_class(event_type)


def is_readable(event_type: str) -> bool:
    """Check whether a class declares a stored type, or an upcaster makes other events of it."""
    return _has_class(event_type) or any(name == event_type for name, _ in _into.copy())


def retired_types() -> frozenset[str]:
    """List the stored names that no longer have a class, and are read as other events, or as none."""
    return frozenset(name for name, _ in _into.copy() if not _has_class(name))


def split_sources(event_class: type[DomainEvent] | None = None) -> tuple[SplitSource, ...]:
    """List the stored events of which some may be read as parts.

    Args:
        event_class: Only those that may be read as an event of just this class; None for all.
    """
    found = _sources.get(event_class)
    if found is None:
        highest: dict[str, int] = {}
        for (event_type, version), into in _into.copy().items():
            if event_class is None or event_class in into:
                for name in _stored_names(event_type):
                    highest[name] = max(version, highest.get(name, 0))
        found = _sources[event_class] = tuple(SplitSource(*each) for each in sorted(highest.items()))
    return found


def split_sources_of(event_classes: Iterable[type[DomainEvent]]) -> tuple[SplitSource, ...]:
    """List the stored events of which some may be read as events of some classes, each once with its highest version."""
    if not _into:
        return ()
    highest: dict[str, int] = {}
    for each in event_classes:
        for name, version in split_sources(each):
            highest[name] = max(version, highest.get(name, 0))
    return tuple(SplitSource(*each) for each in sorted(highest.items()))


def split_sources_of_families(event_classes: Iterable[type[DomainEvent]]) -> tuple[SplitSource, ...]:
    """List the stored events of which some may be read as events of some classes, or of those that inherit from them."""
    return split_sources_of([member for each in event_classes for member in (each, *family(each))]) if _into else ()


def splits_into(event_class: type[DomainEvent]) -> list[tuple[str, int]]:
    """List the stored names and versions whose upcasters may give events of just this class."""
    return sorted(step for step, into in _into.copy().items() if event_class in into)


def _stored_names(event_type: str) -> tuple[str, ...]:
    """The names under which events may be stored that an upcaster of a name is asked for."""
    if current_type(event_type) != event_type or not _has_class(event_type):
        return (event_type,)
    return stored_types(event_types.current_class(event_type, 1))


def _has_class(event_type: str) -> bool:
    try:
        event_types.current_class(event_type, 1)
    except UnknownEventTypeError:
        return False
    return True
