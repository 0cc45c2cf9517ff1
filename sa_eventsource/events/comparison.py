"""Are two values the same: equal, and made of the same types all the way down?

Python's ``==`` says that 1, 1.0, ``True`` and ``Decimal(1)`` are equal, and that a moment in the hour that a clock goes through
twice differs from the same moment written with its offset.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import datetime, time
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator


class Difference(NamedTuple):
    """Where two values differ first.

    Attributes:
        path: The way to it, such as ``lines.0.price``; empty for the values themselves.
        one: What is there in the first.
        other: What is there in the second.
    """

    path: str
    one: Any
    other: Any


def difference(one: Any, other: Any, path: str = "") -> Difference | None:
    """Find where two values differ first; None if they are the same."""
    if one is other:
        return None
    if type(one) is not type(other):
        return Difference(path, one, other)
    compare = next((compare for kinds, compare in _WITHIN.items() if isinstance(one, kinds)), None)
    if compare is None and hasattr(type(one), "__dataclass_fields__"):
        compare = _of_dataclasses
    if compare is not None:
        return compare(one, other, path)
    same = _same_time(one, other) if isinstance(one, datetime | time) else _equal(one, other)
    return None if same else Difference(path, one, other)


def _of_sequences(one: Any, other: Any, path: str) -> Difference | None:
    if len(one) != len(other) or getattr(one, "maxlen", None) != getattr(other, "maxlen", None):
        return Difference(path, one, other)
    return _first(zip(map(str, range(len(one))), one, other, strict=True), path)


def _of_dataclasses(one: Any, other: Any, path: str) -> Difference | None:
    # Beside its fields, a dataclass of Pydantic's may keep values that it does not declare.
    names = dict.fromkeys([*type(one).__dataclass_fields__, *getattr(one, "__dict__", ()), *getattr(other, "__dict__", ())])
    return _first(((name, getattr(one, name, None), getattr(other, name, None)) for name in names), path)


def _of_models(one: BaseModel, other: BaseModel, path: str) -> Difference | None:
    fields = type(one).model_fields
    found = _first(((name, vars(one).get(name), vars(other).get(name)) for name in fields), path)
    for mine, its in (
        (one.__pydantic_extra__, other.__pydantic_extra__),
        (one.__pydantic_private__, other.__pydantic_private__),
    ):
        found = found or difference(mine, its, path)
    return found


def _of_mappings(one: Mapping[Any, Any], other: Mapping[Any, Any], path: str) -> Difference | None:
    if len(one) != len(other):
        return Difference(path, one, other)
    if isinstance(one, OrderedDict) and list(one) != list(other):
        return Difference(path, one, other)
    if isinstance(one, defaultdict) and one.default_factory is not getattr(other, "default_factory", None):
        return Difference(path, one, other)
    keys = {key: key for key in other}
    for key, value in one.items():
        if key not in keys or difference(key, keys[key]) is not None:
            return Difference(path, one, other)
        found = difference(value, other[key], path_to(key, path))
        if found is not None:
            return found
    return None


def _of_sets(one: set[Any] | frozenset[Any], other: set[Any] | frozenset[Any], path: str) -> Difference | None:
    entries = {entry: entry for entry in other}
    same = len(one) == len(other) and all(entry in entries and difference(entry, entries[entry]) is None for entry in one)
    return None if same else Difference(path, one, other)


_WITHIN: dict[tuple[type[Any], ...], Callable[[Any, Any, str], Difference | None]] = {
    (BaseModel,): _of_models,
    (Mapping,): _of_mappings,
    (set, frozenset): _of_sets,
    (list, tuple, deque): _of_sequences,
}
"""What is looked into, and how."""


def _same_time(one: Any, other: Any) -> bool:
    """Tell whether two times are the same moment and are written alike: with one date, hour and offset."""
    mine, its = one.utcoffset(), other.utcoffset()
    return bool((mine, one.tzinfo is None, one.replace(tzinfo=None)) == (its, other.tzinfo is None, other.replace(tzinfo=None)))


def _first(entries: Iterator[tuple[str, Any, Any]], path: str) -> Difference | None:
    for name, one, other in entries:
        found = difference(one, other, path_to(name, path))
        if found is not None:
            return found
    return None


def path_to(key: object, path: str) -> str:
    """Name what lies under a key, or in a place, of what lies at *path*."""
    name = key if isinstance(key, str) else shown(key)
    return f"{path}.{name}" if path else name


def shown(value: object) -> str:
    """Write a value for a message, which must not fail over it nor be filled by it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of the application's own, or of a number that is too long
        return f"a value of type {type(value).__qualname__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_LONGEST_SHOWN = 300


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - a comparison of the application's own may do anything
        return False
