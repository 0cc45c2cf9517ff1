"""Upcasting: events stored in an old shape are read in the present one.

Steps go from one version to the next: a function from dict to dict (``@upcast``), or the class of the old version and a
``from_v1`` classmethod of the newer one. A function that is declared with ``into=`` is the last step: it gives the events
themselves, several or none (:mod:`~sa_eventsource.events.splitting`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from pydantic_core import to_json

from sa_eventsource.events.event_types import changed, class_of, current_class, current_type, declaring, place, stored_types
from sa_eventsource.events.splitting import MOST_PARTS, Parts, check_into, declare_split, into_of, is_retired, splits_into
from sa_eventsource.exceptions import DeclarationError, EventDecodeError
from sa_eventsource.plain_functions import check_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.events.domain_event import DomainEvent

Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
Splitter: TypeAlias = "Callable[[dict[str, Any]], Sequence[DomainEvent]]"

_upcasters: dict[tuple[str, int], Callable[[dict[str, Any]], Any]] = {}


@overload
def upcast(event: type[DomainEvent] | str, *, from_version: int) -> Callable[[Upcaster], Upcaster]: ...
@overload
def upcast(
    event: type[DomainEvent] | str, *, from_version: int, into: tuple[type[DomainEvent], ...]
) -> Callable[[Splitter], Splitter]: ...
def upcast(
    event: type[DomainEvent] | str, *, from_version: int, into: tuple[type[DomainEvent], ...] | None = None
) -> Callable[[Any], Any]:
    """Mark the function that turns a stored payload of one version into the next version's, or into other events.

    It gets the payload as a dict and returns the new one; it may change the one it got. It must be pure: it runs at every read.

    With *into*, it returns a list of events instead, of present classes: several, one of another type, or none. Their version and
    their position are those of the stored event::

        @upcast("OrderPlacedAndPaid", from_version=1, into=(OrderPlaced, OrderPaid))
        def split(payload: dict[str, Any]) -> list[DomainEvent]:
            return [OrderPlaced(total=payload["total"]), OrderPaid(payment_id=payload["payment"])]

    Args:
        event: The event class, or its stored name: where other events are made of all that is stored of it, it needs no class.
        from_version: The version of the payloads it takes; it makes those of the next one.
        into: The classes of the events that it may return, which tell who takes them to ask for these stored events; ``()`` where
            the event is dropped.

    Raises:
        DeclarationError: Another function does that already, the version is no number or less than 1, *into* names what is no
            present event, or the function is a coroutine or generator function. An upcaster from the version that the class has, or
            a later one, would never run: it is refused when the first event of the type is written or read, as the class may be
            declared after it.
    """
    event_type = event if isinstance(event, str) else event.__event_type__
    where = f"@upcast({event_type!r}, from_version={from_version!r})"
    if type(from_version) is not int or from_version < 1:
        raise DeclarationError(f"{where}: versions are whole numbers, and count from 1")
    parts = None if into is None else check_into(where, into)

    def mark(function: Any) -> Any:
        check_plain(f"the upcaster {_place(function)}", function, "Write a plain function that returns the new payload.")
        with declaring:
            existing = _upcasters.get((event_type, from_version))
            if existing is not None and _place(existing) != _place(function):
                raise DeclarationError(
                    f"{event_type!r} has two upcasters from version {from_version}: {_place(existing)} and {_place(function)}. "
                    "Keep one."
                )
            _upcasters[event_type, from_version] = function
            declare_split(event_type, from_version, parts)
            changed()
        return function

    return mark


def refuse_idle_steps(target: type[DomainEvent]) -> None:
    """Refuse what claims to turn payloads of a class's version, or of a later one, into the next: it would never run.

    Args:
        target: The class that events of its type are read as.

    Raises:
        DeclarationError: There is such an upcaster, or such a method of the class.
    """
    present, names = target.__event_version__, stored_types(target)
    for (name, version), step in _upcasters.copy().items():
        if name in names and version >= present:
            raise _idle(f"@upcast({name!r}, from_version={version}) on {_place(step)}", version, target)
    for name in vars(target):
        match = _CONVERTER.fullmatch(name)
        if match is not None and int(match[1]) >= present:
            raise _idle(f"{target.__name__}.{name}()", int(match[1]), target)


_CONVERTER = re.compile(r"from_v(\d+)")


def _idle(step: str, version: int, target: type[DomainEvent]) -> DeclarationError:
    return DeclarationError(
        f"{step} never runs: it would take payloads older than those of {place(target)}, which is at version "
        f"{target.__event_version__}. Write __event_version__ = {version + 1} in {target.__name__}, or the older version that the "
        "step is meant for."
    )


def reading_steps(event_class: type[DomainEvent]) -> list[tuple[str, int, Any]]:
    """List what turns older payloads, or other events, into events of the class: upcasters, and classes of older versions."""
    names = {*stored_types(event_class), *(name for name, _ in splits_into(event_class))}
    steps: list[tuple[str, int, Any]] = [
        (name, version, step) for (name, version), step in _upcasters.copy().items() if name in names
    ]
    older = ((version, class_of(event_class.__event_type__, version)) for version in range(1, event_class.__event_version__))
    steps.extend((event_class.__event_type__, version, old) for version, old in older if old is not None)
    return sorted(steps, key=lambda step: (*step[:2], isinstance(step[2], type)))


def in_present_shape(event_type: str, event_version: int, payload: str | bytes) -> DomainEvent | Parts | str | bytes:
    """Bring a payload that is not of the current class's version into its shape.

    Args:
        event_type: The stored name, present or former.
        event_version: The stored version.
        payload: The stored JSON text.

    Returns:
        The JSON text of a payload of the current version; or the event itself where a class method made it; or the events that it
        is read as.

    Raises:
        EventDecodeError: A step is missing or fails, or the version is newer than the class.
        UnknownEventTypeError: No class declares the type.
        ValidationError: The payload does not fit a class on the way.
    """
    target = None if is_retired(event_type, event_version) else current_class(event_type, event_version)
    present = current_type(event_type)
    if target is not None and event_version > target.__event_version__:
        raise EventDecodeError(
            event_type,
            event_version,
            f"it was written by newer code; {place(target)} is at version {target.__event_version__}. "
            "Deploy the newer code here too",
        )
    version = event_version
    data: Any = payload
    while target is None or version < target.__event_version__:
        name = present if (present, version) in _upcasters else event_type
        upcaster = _upcasters.get((name, version))
        if upcaster is not None:
            data = _run(upcaster, _as_dict(data), event_type, event_version)
            into = into_of(name, version)
            if into is not None:
                return _parts(upcaster, data, into, event_type, event_version)
            if not isinstance(data, dict):
                raise _not_given(upcaster, data, "the payload of the next version, a dict", event_type, event_version)
            version += 1
        elif target is None:
            raise EventDecodeError(
                event_type,
                event_version,
                f"nothing turns version {version} into the next one: write @upcast({event_type!r}, from_version={version})",
            )
        else:
            data, version = _by_class(data, version, target, event_type, event_version)
    return data if isinstance(data, target) else _as_text(data, event_type, event_version)


def _parts(upcaster: Any, given: Any, into: tuple[type[DomainEvent], ...], event_type: str, event_version: int) -> Parts:
    """Check what an upcaster has made of an event."""
    wanted = f"a list of events of {', '.join(each.__name__ for each in into)}" if into else "an empty list, as into=() says"
    if not isinstance(given, list | tuple) or not all(type(each) in into for each in given) or len(given) > MOST_PARTS:
        raise _not_given(upcaster, given, wanted, event_type, event_version)
    return Parts(given)


def missing_step(event_type: str, event_version: int) -> int | None:
    """Find the version, on the way of a stored type and version to the present one, from which no step leads on.

    Raises:
        UnknownEventTypeError: No class declares the type, and nothing makes other events of it.
    """
    target = None if is_retired(event_type, event_version) else current_class(event_type, event_version)
    version, present = event_version, current_type(event_type)
    while target is None or version < target.__event_version__:
        name = present if (present, version) in _upcasters else event_type
        by_class = None if target is None else _step_by_class(version, target)
        if (name, version) in _upcasters:
            if into_of(name, version) is not None:
                return None
            version += 1
        elif by_class is None:
            return version
        else:
            version = by_class[1].__event_version__
    return None


def _step_by_class(version: int, target: type[DomainEvent]) -> tuple[type[DomainEvent], type[DomainEvent], Any] | None:
    """Find the class of a version, the one that the next step leads to, the next version's or the current one, and its method."""
    old_class = class_of(target.__event_type__, version)
    for newer in (class_of(target.__event_type__, version + 1), target):
        convert = getattr(newer, f"from_v{version}", None)
        if old_class is not None and newer is not None and convert is not None:
            return old_class, newer, convert
    return None


def _by_class(data: Any, version: int, target: type[DomainEvent], event_type: str, event_version: int) -> tuple[Any, int]:
    """Go one step by classes."""
    step = _step_by_class(version, target)
    if step is None:
        raise EventDecodeError(
            event_type,
            event_version,
            f"nothing turns version {version} into version {version + 1}: write "
            f"@upcast({target.__name__}, from_version={version}), or a class of version {version} and "
            f"{target.__name__}.from_v{version}()",
        )
    old_class, newer, convert = step
    if not isinstance(data, old_class):
        data = old_class.model_validate_json(_as_text(data, event_type, event_version))
    found = _run(convert, data, event_type, event_version)
    if not isinstance(found, newer):
        raise _not_given(convert, found, f"a {newer.__name__}", event_type, event_version)
    return found, newer.__event_version__


def _run(step: Callable[[Any], Any], value: Any, event_type: str, event_version: int) -> Any:
    try:
        return step(value)
    except Exception as error:
        raise EventDecodeError(event_type, event_version, f"the upcaster {_place(step)} failed: {error!r}") from error


def _as_dict(data: Any) -> dict[str, Any]:
    if isinstance(data, str | bytes):
        data = json.loads(data)
    elif not isinstance(data, dict):
        data = data.model_dump(mode="json", by_alias=True)
    found: dict[str, Any] = data
    return found


def _as_text(data: Any, event_type: str, event_version: int) -> str | bytes:
    if isinstance(data, str | bytes):
        return data
    try:
        return to_json(_as_dict(data), inf_nan_mode="constants")
    except (ValueError, RecursionError) as error:
        raise EventDecodeError(event_type, event_version, f"its upcasters give what cannot be written as JSON: {error}") from error


def _not_given(step: Any, value: Any, wanted: str, event_type: str, event_version: int) -> EventDecodeError:
    found = f"a {type(value).__name__}"  # not the value itself: a payload may hold personal data
    if value is None:
        found = "None"
    elif isinstance(value, list | tuple) and value:
        found += f" of {' and '.join(dict.fromkeys(type(each).__name__ for each in value))}"
    forgotten = "; it may have forgotten its return statement" if value is None else ""
    return EventDecodeError(
        event_type, event_version, f"the upcaster {_place(step)} returned {found} instead of {wanted}{forgotten}"
    )


def _place(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"
