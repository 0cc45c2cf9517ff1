"""Which class stands for which stored event type and version, in this process.

A class may be declared in one thread, by a module that a request imports, while others read events: whoever goes through what is
declared goes through a copy, and what follows from it is kept so that it cannot outlive a change (:func:`on_change`).
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions import DeclarationError, DuplicateEventTypeError, UnknownEventTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from sa_eventsource.events.domain_event import DomainEvent

declaring = RLock()
"""Held by who checks that a declaration fits the others, and adds it."""

_classes: dict[tuple[str, int], type[DomainEvent]] = {}
_former: dict[str, str] = {}
_newest: dict[tuple[str, Any], type[DomainEvent]] = {}
_declared_again: set[tuple[str, Any]] = set()
_revision = [0]
_changed: list[Callable[[], None]] = []
_joined: list[Callable[[type[DomainEvent]], None]] = []


def on_change(forget: Callable[[], None]) -> None:
    """Have *forget* called whenever classes or upcasters change, so that nothing kept from before is used.

    A thread may be about to keep what it made from before: *forget* gives those who come later another place to keep it in.
    """
    _changed.append(forget)


def on_join(listener: Callable[[type[DomainEvent]], None]) -> None:
    """Have *listener* called with each class that is declared from now on, when it is known."""
    _joined.append(listener)


def changed() -> None:
    """Notify all who keep something that is derived from the declared classes."""
    _revision[0] += 1
    for forget in _changed:
        forget()


def revision() -> int:
    """Get a number that is another one whenever classes or upcasters have changed, for what is derived from them when asked for."""
    return _revision[0]


def note_declared(event_class: type[DomainEvent]) -> None:
    """Note that a class is the newest of its module, name and type, abstract ones too: a cell was run again, or a module reloaded.

    Abstract classes of a function are not: each call may make another one.
    """
    if vars(event_class).get("__abstract__", False) and "<locals>" in event_class.__qualname__:
        return
    identity = _identity(event_class)
    if identity in _newest:
        _declared_again.add(identity)
    _newest[identity] = event_class


def is_replaced(event_class: type[DomainEvent]) -> bool:
    """Check whether a class has been declared again since, so that this one is the earlier declaration."""
    return _newest.get(_identity(event_class), event_class) is not event_class


def _identity(event_class: type[Any]) -> tuple[str, Any]:
    return place(event_class), vars(event_class).get("__event_type__")


def register(event_class: type[DomainEvent], former_types: tuple[str, ...]) -> None:
    """Make a class known under its type, its version and its former names.

    A class of the same module and qualified name replaces its predecessor: the module was reloaded, or the function run again.

    Raises:
        DuplicateEventTypeError: Another class has the type and version, or one of the former names.
    """
    event_type, version = event_class.__event_type__, event_class.__event_version__
    with declaring:
        _refuse_duplicate(event_class, former_types)
        _classes[event_type, version] = event_class
        _former.update(dict.fromkeys(former_types, event_type))
        changed()
    for listener in _joined:
        listener(event_class)


def _refuse_duplicate(event_class: type[DomainEvent], former_types: tuple[str, ...]) -> None:
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


def is_event(event_class: type[DomainEvent]) -> bool:
    """Check that a class is an event by itself, and not only a base of others: abstract, or a generic one with its parameters."""
    return "__event_type__" in vars(event_class) and _why_none(event_class) is None


def refuse_unreadable(event_class: type[DomainEvent]) -> None:
    """Refuse a class whose events would be read as those of another, or not at all.

    Raises:
        DeclarationError: It is one.
    """
    reason = _why_none(event_class)
    if reason is None:
        current = current_class(event_class.__event_type__, event_class.__event_version__)
        if current is event_class:
            return
        if place(current) == place(event_class):
            reason = "it was declared again since; make events of the new class, and run again what still uses the old one"
        else:
            reason = f"its events are read as {place(current)}, version {current.__event_version__}; make events of that class"
    raise DeclarationError(f"{place(event_class)} cannot be stored: {reason}")


def _why_none(event_class: type[DomainEvent]) -> str | None:
    if vars(event_class).get("__abstract__", False):
        return "it is abstract; declare a class that inherits from it"
    if event_class.__pydantic_generic_metadata__["origin"] is not None:
        written = event_class.__name__
        named = "".join(character for character in written.title() if character.isalnum())
        return (
            f"a process that has not written {written} does not know its name; declare a class: class {named}({written}): .... "
            f"Events stored under that name by an earlier release are read where it has __former_types__ = ({written!r},)"
        )
    return None


def family(event_class: type[DomainEvent]) -> tuple[type[DomainEvent], ...]:
    """List the events that a class stands for: its own, and those of all classes that inherit from it, in the order declared.

    That is what ``isinstance`` says of an event as it is read. Classes of older versions are left out: none is read as them. So is
    the marker of archived streams, which is no event that happened. Those that inherit from an earlier declaration of the class
    are its own too, until they are declared again themselves: their events are in the log.
    """
    current: dict[str, type[DomainEvent]] = {}
    for (event_type, version), each in _classes.copy().items():
        if event_type not in current or version > current[event_type].__event_version__:
            current[event_type] = each
    return tuple(each for each in current.values() if _inherits(each, event_class) and "_is_marker" not in vars(each))


def _inherits(each: type[DomainEvent], event_class: type[DomainEvent]) -> bool:
    if issubclass(each, event_class):
        return True
    identity = _identity(event_class) if _declared_again else None
    return identity in _declared_again and _newest[identity] is event_class and identity in map(_identity, each.__mro__)


def members(declared: Iterable[type[DomainEvent]]) -> dict[type[DomainEvent], type[DomainEvent]]:
    """List the events that declarations for some classes take, each with the declared class that takes it.

    An event is taken by the class nearest to it: its own if that is declared, else the first of its bases that is.
    """
    wanted = dict.fromkeys(declared)
    found: dict[type[DomainEvent], type[DomainEvent]] = {}
    for each in wanted:
        for member in dict.fromkeys((*([each] if is_event(each) else ()), *family(each))):
            found[member] = nearest(member, wanted)
    return found


def nearest(event_class: type[DomainEvent], declared: Collection[type[DomainEvent]]) -> type[DomainEvent]:
    """Get the class itself if it is declared, or else the first of its bases that is, or that was declared again; one must be."""
    newest = {identity: each for each in declared if (identity := _identity(each)) in _declared_again}
    for base in event_class.__mro__:
        found = base if base in declared else newest.get(_identity(base))
        if found is not None:
            return found
    raise AssertionError(f"{event_class} inherits from none of {declared}")


def current_type(event_type: str) -> str:
    """Follow a former name to the present one."""
    return _former.get(event_type, event_type)


def current_class(event_type: str, event_version: int) -> type[DomainEvent]:
    """Get the class of the highest version of a type. The version is only for the message.

    Raises:
        UnknownEventTypeError: No class declares the type.
    """
    present = current_type(event_type)
    versions = [version for name, version in _classes.copy() if name == present]
    if not versions:
        raise UnknownEventTypeError(event_type, event_version)
    return _classes[present, max(versions)]


def class_of(event_type: str, version: int) -> type[DomainEvent] | None:
    """Get the class of one version of a type, by its present name."""
    return _classes.get((event_type, version))


def all_classes() -> tuple[type[DomainEvent], ...]:
    """List the classes of all types and versions."""
    return tuple(_classes.copy().values())


def stored_types(event_class: type[DomainEvent]) -> tuple[str, ...]:
    """List the names under which events of just this class may be stored: the present one first, then its former ones."""
    event_type = event_class.__event_type__
    return (event_type, *(name for name, present in _former.copy().items() if present == event_type))


def first_name(event_class: type[DomainEvent]) -> str:
    """Get the name that a class was stored under first: of its former names the one that it lists first, else its present one."""
    return event_class.__former_types__[0] if event_class.__former_types__ else event_class.__event_type__


def stored_types_of_family(event_class: type[DomainEvent]) -> tuple[str, ...]:
    """List the names under which events of a class, or of one that inherits from it, may be stored."""
    own = stored_types(event_class) if is_event(event_class) else ()
    return tuple(dict.fromkeys([*own, *(name for each in family(event_class) for name in stored_types(each))]))


def place(event_class: type[object]) -> str:
    """Name a class so that a person finds it."""
    return f"{event_class.__module__}.{event_class.__qualname__}"
