"""Events as the Python code that makes them, to be copied into a test."""

from __future__ import annotations

import enum
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sa_eventsource.events import DomainEvent

_WIDTH = 96
_INDENT = "    "


def scenario_code(class_name: str, aggregate_id: Any, events: Sequence[DomainEvent]) -> str:
    """Write the scenario that is given some events, as ``sa_eventsource.testing`` takes it."""
    given = "".join(f"{_INDENT}{line}\n" for event in events for line in f"{_code(event)},".splitlines())
    return f"scenario({class_name}, {_code(aggregate_id)}).given(\n{given})"


def _code(value: Any) -> str:
    """Write a value as the code that makes it; for a class of the application's own, that is its ``repr``."""
    if isinstance(value, BaseModel):
        more = value.model_extra or {}  # named as whoever stored them liked: no name of theirs is written as code
        given = [f"{name}={_code(item)}" for name, item in value if name not in more]
        return _call(type(value).__name__, [*given, *([f"**{_mapping(more)}"] if more else [])])
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    for kind, write in _WRITTEN.items():
        if isinstance(value, kind):
            return write(value)
    return repr(value)


def _call(name: str, arguments: Sequence[str], brackets: str = "()") -> str:
    """Write a call on one line, or on several where it is long."""
    begin, end = brackets[0], brackets[1]
    line = f"{name}{begin}{', '.join(arguments)}{end}"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    inside = "".join(f"{_INDENT}{each}\n" for argument in arguments for each in f"{argument},".splitlines())
    return f"{name}{begin}\n{inside}{end}"


def _tuple(value: tuple[Any, ...]) -> str:
    items = [_code(each) for each in value]
    return f"({items[0]},)" if len(items) == 1 else _call("", items)


def _mapping(value: Mapping[Any, Any]) -> str:
    return _call("", [f"{_code(key)}: {_code(item)}" for key, item in value.items()], "{}")


def _float(value: float) -> str:
    return repr(value) if math.isfinite(value) else f'float("{value}")'


def _set(value: Any) -> str:
    items = sorted(map(_code, value))
    return _call("", items, "{}") if items else "set()"


_WRITTEN: dict[type, Callable[[Any], str]] = {
    Decimal: lambda value: f'Decimal("{value}")',
    UUID: lambda value: f'UUID("{value}")',
    float: _float,
    tuple: _tuple,
    list: lambda value: _call("", [_code(each) for each in value], "[]"),
    dict: _mapping,
    frozenset: lambda value: f"frozenset({_set(value)})",
    set: _set,
    str: lambda value: '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if value.isprintable() else repr(value),
}
