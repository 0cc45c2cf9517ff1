"""Which class stands for which stored event type and version, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.exceptions import DuplicateEventTypeError, UnknownEventTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.events.domain_event import DomainEvent

_classes: dict[tuple[str, int], type[DomainEvent]] = {}
_former: dict[str, str] = {}
_changed: list[Callable[[], None]] = []


def on_change(forget: Callable[[], None]) -> None:
    """Have *forget* called whenever classes or upcasters change, so that nothing kept from before is used."""
    _changed.append(forget)


def changed() -> None:
    """Tell all who keep something derived from the registry."""
    for forget in _changed:
        forget()


def register(event_class: type[DomainEvent], former_types: tuple[str, ...]) -> None:
    """Make a class known under its type, its version and its former names.

    A class of the same module and qualified name replaces its predecessor: the module was reloaded, or the function run again.

    Raises:
        DuplicateEventTypeError: Another class has the type and version, or one of the former names.
    """
    event_type, version = event_class.__event_type__, event_class.__event_version__
    existing = _classes.get((event_type, version))
    if existing is not None and place(existing) != place(event_class):
        raise DuplicateEventTypeError(event_type, version, existing=place(existing), duplicate=place(event_class))
    for name in (event_type, *former_types):
        owner = _former.get(name, event_type)
        if owner != event_type:
            raise DuplicateEventTypeError(name, version, existing=f"{owner} (as a former name)", duplicate=place(event_class))
    for name in former_types:
        for (other_type, other_version), other in _classes.items():
            if other_type == name and place(other) != place(event_class):
                raise DuplicateEventTypeError(name, other_version, existing=place(other), duplicate=place(event_class))
    _classes[event_type, version] = event_class
    _former.update(dict.fromkeys(former_types, event_type))
    changed()


def current_type(event_type: str) -> str:
    """Follow a former name to the present one."""
    return _former.get(event_type, event_type)


def current_class(event_type: str, event_version: int) -> type[DomainEvent]:
    """Get the class of the highest version of a type. The version is only for the message.

    Raises:
        UnknownEventTypeError: No class declares the type.
    """
    present = current_type(event_type)
    versions = [version for name, version in _classes if name == present]
    if not versions:
        raise UnknownEventTypeError(event_type, event_version)
    return _classes[present, max(versions)]


def class_of(event_type: str, version: int) -> type[DomainEvent] | None:
    """Get the class of one version of a type, by its present name."""
    return _classes.get((event_type, version))


def stored_types(event_class: type[DomainEvent]) -> tuple[str, ...]:
    """List the names under which events of a class may be stored: the present one first, then its former ones."""
    event_type = event_class.__event_type__
    return (event_type, *(name for name, present in _former.items() if present == event_type))


def place(event_class: type[object]) -> str:
    """Name a class so that a person finds it."""
    return f"{event_class.__module__}.{event_class.__qualname__}"
