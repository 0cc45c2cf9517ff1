"""How events that set one field come together: the last wins, the first, a sum, the least, the greatest, a list.

Each is either commutative (sum, least, greatest) or goes by position (first, last, list), so that events which reach a row out of
their order, as those of several streams do, come to the same as in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from sa_eventsource.read_models.expressions import SourceSpec

Family: TypeAlias = Literal["last", "first", "sum", "min", "max", "list", "evolved"]
"""The last are no reducers' fields, but those that ``@evolves`` methods set."""


@dataclass(frozen=True)
class Reducer:
    """What one event type does to a field. Made by :func:`last`, :func:`count` and the others.

    Attributes:
        name: The function that made it.
        family: How it comes together with the others of the field; all must be of one family.
        source: Where its value comes from; None for the field's own name, or for 1 where it counts.
        sign: -1 for what takes away: ``decrement`` and ``remove``.
        counts: Whether it stands for 1 unless a source is given.
        distinct: Whether a list takes each value once.
    """

    name: str
    family: Family
    source: SourceSpec | None = None
    sign: Literal[1, -1] = 1
    counts: bool = False
    distinct: bool = False


def last(source: SourceSpec | None = None) -> Reducer:
    """The latest event sets the field. The default."""
    return Reducer("last", "last", source)


def first(source: SourceSpec | None = None) -> Reducer:
    """The earliest event sets the field; later ones leave it."""
    return Reducer("first", "first", source)


def count() -> Reducer:
    """Count the events. The field starts at 0."""
    return Reducer("count", "sum", counts=True)


def sum_(source: SourceSpec | None = None) -> Reducer:
    """Add up an ``int`` or ``Decimal``; None adds nothing. The field starts at 0."""
    return Reducer("sum_", "sum", source)


def increment(source: SourceSpec | None = None) -> Reducer:
    """Add to the field: 1, or what *source* gives, which may be a number. Beside :func:`decrement`, by event type."""
    return Reducer("increment", "sum", source, counts=True)


def decrement(source: SourceSpec | None = None) -> Reducer:
    """Take from the field: 1, or what *source* gives, which may be a number."""
    return Reducer("decrement", "sum", source, sign=-1, counts=True)


def min_(source: SourceSpec | None = None) -> Reducer:
    """Keep the least; None does not count. Texts compare by code points."""
    return Reducer("min_", "min", source)


def max_(source: SourceSpec | None = None) -> Reducer:
    """Keep the greatest. As :func:`min_`."""
    return Reducer("max_", "max", source)


def append(source: SourceSpec | None = None, *, distinct: bool = False) -> Reducer:
    """Add to the end of a list, in the order of positions; None is left out.

    Args:
        source: Where the value comes from.
        distinct: Whether to leave out a value that the list has already. Not besides :func:`remove`.
    """
    return Reducer("append", "list", source, distinct=distinct)


def remove(source: SourceSpec | None = None) -> Reducer:
    """Remove every equal value that was appended earlier."""
    return Reducer("remove", "list", source, sign=-1)
