"""Are two values the same: equal, and made of the same types all the way down?

Python's ``==`` says that 1, 1.0, ``True`` and ``Decimal(1)`` are equal, and that a moment in the hour that a clock goes through
twice differs from the same moment written with its offset.

What a value that is the same may still have otherwise, matters to code that goes on from it: the order of a dict's entries, the
rules of a time's zone, the sign of a zero, one list in two places. An exact comparison finds these too.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from uuid import UUID

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator


class Difference(NamedTuple):
    """Where two values differ first.

    Attributes:
        path: The way to it, such as ``lines.0.price``; empty for the values themselves.
        one: What is there in the first.
        other: What is there in the second.
        is_copy: Whether the two are alike, but in one of the values the same object is in a further place.
    """

    path: str
    one: Any
    other: Any
    is_copy: bool = False


def difference(one: Any, other: Any, *, exactly: bool = False) -> Difference | None:
    """Find where two values differ first.

    Args:
        one: A value.
        other: Another one.
        exactly: Whether code that goes on from the one must do the same from the other.

    Returns:
        The place, or None if they are the same.
    """
    comparison = _ExactComparison() if exactly else _Comparison()
    return comparison.of(one, other, "")


_PLAIN = frozenset({bool, bytes, date, int, str, timedelta, NoneType, UUID})
"""Types, without their subclasses, whose values are the same if they are equal."""


class _Comparison:
    """Looks into two values from the outside in."""

    def of(self, one: Any, other: Any, path: str) -> Difference | None:
        kind = type(one)
        if kind in _PLAIN:
            return None if kind is type(other) and one == other else Difference(path, one, other)
        if self._is_copy(one, other):
            return Difference(path, one, other, is_copy=True)
        if one is other:
            return None
        if kind is not type(other):
            return Difference(path, one, other)
        look_into = next((look_into for kinds, look_into in self._WITHIN.items() if isinstance(one, kinds)), None)
        if look_into is None and hasattr(type(one), "__dataclass_fields__"):
            look_into = _Comparison._of_dataclasses
        if look_into is not None:
            return look_into(self, one, other, path)
        same = self._same_time(one, other) if isinstance(one, datetime | time) else self._equal(one, other)
        return None if same else Difference(path, one, other)

    def _of_sequences(self, one: Any, other: Any, path: str) -> Difference | None:
        if len(one) != len(other) or getattr(one, "maxlen", None) != getattr(other, "maxlen", None):
            return Difference(path, one, other)
        return self._first(zip(map(str, range(len(one))), one, other, strict=True), path)

    def _of_dataclasses(self, one: Any, other: Any, path: str) -> Difference | None:
        # Beside its fields, a dataclass of Pydantic's may keep values that it does not declare.
        names = dict.fromkeys([*type(one).__dataclass_fields__, *getattr(one, "__dict__", ()), *getattr(other, "__dict__", ())])
        return self._first(((name, getattr(one, name, None), getattr(other, name, None)) for name in names), path)

    def _of_models(self, one: BaseModel, other: BaseModel, path: str) -> Difference | None:
        fields = [*type(one).model_fields, *undeclared(one)]
        found = self._first(((name, vars(one).get(name), vars(other).get(name)) for name in fields), path)
        for mine, its in (
            (one.__pydantic_extra__, other.__pydantic_extra__),
            (one.__pydantic_private__, other.__pydantic_private__),
        ):
            found = found or self.of(mine, its, path)
        return found

    def _of_mappings(self, one: Mapping[Any, Any], other: Mapping[Any, Any], path: str) -> Difference | None:
        if len(one) != len(other) or (self._has_order(one) and not self._same_order(one, other)):
            return Difference(path, one, other)
        if isinstance(one, defaultdict) and one.default_factory is not getattr(other, "default_factory", None):
            return Difference(path, one, other)
        keys = {key: key for key in other}
        for key, value in one.items():
            if key not in keys or self.of(key, keys[key], path) is not None:
                return Difference(path, one, other)
            found = self.of(value, other[key], path_to(key, path))
            if found is not None:
                return found
        return None

    def _of_sets(self, one: set[Any] | frozenset[Any], other: set[Any] | frozenset[Any], path: str) -> Difference | None:
        entries = {entry: entry for entry in other}
        same = len(one) == len(other) and all(entry in entries and self.of(entry, entries[entry], path) is None for entry in one)
        return None if same else Difference(path, one, other)

    _WITHIN: ClassVar[dict[tuple[type[Any], ...], Callable[[Any, Any, Any, str], Difference | None]]] = {
        (BaseModel,): _of_models,
        (Mapping,): _of_mappings,
        (set, frozenset): _of_sets,
        (list, tuple, deque): _of_sequences,
    }
    """What is looked into, and how."""

    def _first(self, entries: Iterator[tuple[str, Any, Any]], path: str) -> Difference | None:
        for name, one, other in entries:
            found = self.of(one, other, path_to(name, path))
            if found is not None:
                return found
        return None

    def _is_copy(self, one: Any, other: Any) -> bool:  # noqa: ARG002 - who only looks at values sees no difference
        """Check whether one of the two is in a further place, without the other: who changes it in one place, changes it in all."""
        return False

    def _has_order(self, value: Mapping[Any, Any]) -> bool:
        return isinstance(value, OrderedDict)

    def _same_order(self, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
        return list(one) == list(other)

    def _same_time(self, one: Any, other: Any) -> bool:
        """Check whether two times are the same moment and are written alike: with one date, hour and offset."""
        mine, its = one.utcoffset(), other.utcoffset()
        return bool((mine, one.tzinfo is None, one.replace(tzinfo=None)) == (its, other.tzinfo is None, other.replace(tzinfo=None)))

    def _equal(self, one: Any, other: Any) -> bool:
        try:
            return bool(one == other)
        except Exception:  # noqa: BLE001 - a comparison of the application's own may do anything
            return False


class _ExactComparison(_Comparison):
    """Finds what makes code go on otherwise."""

    def __init__(self) -> None:
        self._partners: dict[tuple[str, int], int] = {}

    def _is_copy(self, one: Any, other: Any) -> bool:
        if not _can_change(one):
            return False
        partners = self._partners
        mine, its = partners.setdefault(("one", id(one)), id(other)), partners.setdefault(("other", id(other)), id(one))
        return (mine, its) != (id(other), id(one))

    def _has_order(self, value: Mapping[Any, Any]) -> bool:  # noqa: ARG002 - every mapping is gone through in an order
        return True

    def _same_time(self, one: Any, other: Any) -> bool:
        return super()._same_time(one, other) and (one.tzinfo == other.tzinfo or (_is_fixed(one) and _is_fixed(other)))

    def _equal(self, one: Any, other: Any) -> bool:
        match one:
            case float():
                return bool(one.hex() == other.hex())  # -0.0 is not 0.0, and NaN is NaN
            case Decimal():
                return bool(one.as_tuple() == other.as_tuple())
        return super()._equal(one, other)


def undeclared(model: BaseModel) -> list[str]:
    """List the values of a model that are none of its fields, as ``model_copy(update=...)`` leaves them: nothing writes them.

    What the class itself keeps there, such as the values of a ``cached_property`` or under private names, is not among them.
    """
    known = type(model).model_fields
    return [name for name in vars(model) if name not in known and name[0] != "_" and not hasattr(type(model), name)]


def _can_change(value: object) -> bool:
    match value:
        case BaseModel():
            return not value.model_config.get("frozen", False)
        case list() | dict() | set() | deque():
            return True
    parameters = getattr(type(value), "__dataclass_params__", None)
    return parameters is not None and not parameters.frozen


def _is_fixed(value: datetime | time) -> bool:
    """Check whether a time's zone has one offset, whatever the date."""
    return value.tzinfo is not None and value.tzinfo.utcoffset(None) is not None


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
