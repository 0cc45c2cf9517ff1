"""Which rows or which stretch of the log a part of a rebuild is about: what callers give, checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sa_eventsource.arguments import check_moment, whole_number

if TYPE_CHECKING:
    from datetime import datetime

    from sa_eventsource.read_models import ReadModelDefinition

_WRITTEN_AS_TEXT = ("uuid", "date", "moment")
"""Kinds of keys that may be given as the text that they are stored as."""


def keys_of_rows(definition: ReadModelDefinition, keys: Any) -> list[tuple[Any, ...]]:
    """Take the primary keys of rows, each as a tuple.

    Args:
        definition: The read model.
        keys: What the caller gave: a value each, or a tuple where the key has several parts.

    Raises:
        TypeError: It is nothing to iterate over, a key has another number of parts than the model's, or a part is of another type.
        ValueError: A part is a text that cannot be read as one of its type.
    """
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise TypeError(f"rebuild_rows() takes the keys of the rows, such as [{keys!r}], not {keys!r} alone")
    return [_key(definition, key) for key in keys]


def _key(definition: ReadModelDefinition, key: Any) -> tuple[Any, ...]:
    values: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
    names = ", ".join(part.name for part in definition.key)
    if len(values) != len(definition.key):
        wanted = f"a tuple each ({names})" if len(definition.key) > 1 else f"a value each, of {names}"
        raise TypeError(f"rebuild_rows() takes {wanted} as keys of {definition.model.__name__}, not {key!r}")
    for part, value in zip(definition.key, values, strict=True):
        may_be_text = part.type.kind in _WRITTEN_AS_TEXT and isinstance(value, str)
        if not (_is_text_of(part.type, value) if may_be_text else part.type.accepts(value)):
            kind = getattr(part.type.python, "__name__", repr(part.type.python))
            where = f"{part.name} in a key of {definition.model.__name__} is of type {kind}"
            if may_be_text:
                raise ValueError(f"{where}, which {value!r} cannot be read as")
            raise TypeError(f"{where}, not {value!r}, which is of type {type(value).__name__}")
    return values


def _is_text_of(value_type: Any, text: str) -> bool:
    try:
        value_type.from_json(text)
    except ValueError:
        return False
    return True


def check_stretch(positions: Any, times: Any) -> tuple[tuple[int, int] | None, tuple[datetime, datetime] | None]:
    """Take a stretch of the log.

    Args:
        positions: What the caller gave as its first and its last position; None for none.
        times: What the caller gave as the time at which it begins, and the one before which it ends; None for none.

    Raises:
        TypeError: One is no pair, or of something else.
        ValueError: Neither is given, a position is negative, a time has no time zone, or the end comes before the beginning.
    """
    if positions is None and times is None:
        raise ValueError("rebuild_between() needs positions=(first, last) or times=(begin, end)")
    stretch = None
    if positions is not None:
        first, last = (
            whole_number("rebuild_between(positions=...)", position, minimum=0, meaning="two positions, 0 or more")
            for position in _pair("positions=(first, last)", positions)
        )
        if first > last:
            raise ValueError(f"rebuild_between(positions=...): the first position, {first}, comes after the last, {last}")
        stretch = first, last
    if times is None:
        return stretch, None
    begin, end = _pair("times=(begin, end)", times)
    for moment in (begin, end):
        check_moment("rebuild_between(times=...)", moment)
    if begin > end:
        raise ValueError(f"rebuild_between(times=...): the beginning, {begin.isoformat()}, comes after the end, {end.isoformat()}")
    return stretch, (begin, end)


def _pair(wanted: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:  # noqa: PLR2004 - a pair
        raise TypeError(f"rebuild_between() takes {wanted}, not {value!r}")
    return value[0], value[1]
