"""A box for events of any class, and whether what comes out is what went in."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import AggregateRoot, DomainEvent, applies


class Base(DeclarativeBase):
    """Base of the box."""


class Box(AggregateRoot, Base):
    """Takes any event, and counts."""

    __aggregate_type__ = "events.Box"

    events: int = 0

    @applies(DomainEvent)
    def _count(self, _event: DomainEvent) -> None:
        self.events += 1


def same(one: Any, other: Any) -> bool:  # noqa: PLR0911 - one for each kind
    """Check whether two values are equal and of equal types, all the way down. Not the library's own way of telling it."""
    if type(one) is not type(other):
        return False
    if isinstance(one, datetime):
        mine, its = one.utcoffset(), other.utcoffset()
        if mine is not None and its is not None:  # Python finds no moment of an hour that comes twice equal to one in another zone
            return bool(one.replace(tzinfo=None) - other.replace(tzinfo=None) == mine - its)
    if isinstance(one, BaseModel):
        return same(vars(one), vars(other)) and one.__pydantic_extra__ == other.__pydantic_extra__
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(
            same(value, other[key]) and sorted(map(repr, map(type, one))) == sorted(map(repr, map(type, other)))
            for key, value in one.items()
        )
    if isinstance(one, set | frozenset):
        return one == other and sorted(map(repr, map(type, one))) == sorted(map(repr, map(type, other)))
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
