"""Whatever apply_event takes comes back from the database equal, made of the same types; else it is refused at once."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, EventPayloadError, EventStore, applies
from tests.events.kinds_of_fields import kinds, unvalidated

_numbers = itertools.count()


class Base(DeclarativeBase):
    pass


class Box(AggregateRoot, Base):
    __aggregate_type__ = "every_kind_of_field.Box"

    events: int = 0

    @applies(DomainEvent)
    def _count(self, _event: DomainEvent) -> None:
        self.events += 1


def declared(annotations: list[Any]) -> type[DomainEvent] | None:
    """Declare an event with fields of these types; None if Pydantic knows no such field."""
    name = f"Generated{next(_numbers)}"
    body = {"__annotations__": {f"f{number}": each for number, each in enumerate(annotations)}, "__module__": __name__}
    try:
        return type(name, (DomainEvent,), {**body, "__qualname__": name})
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return None


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


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(fields=st.lists(kinds(), min_size=1, max_size=3), wrong=st.none() | unvalidated)
def test_an_event_comes_back_as_it_was_or_is_refused(engine: Engine, fields: list[tuple[Any, Any]], wrong: Any) -> None:
    Base.metadata.create_all(engine)
    event_class = declared([annotation for annotation, _ in fields])
    if event_class is None:
        return
    values = {f"f{number}": value for number, (_, value) in enumerate(fields)}
    try:
        event = event_class(**values)
    except (ValidationError, ValueError, TypeError, ArithmeticError):
        event = event_class.model_construct(**values)
    if wrong is not None:
        event = event_class.model_construct(**{**vars(event), "f0": wrong})
    box = Box()
    try:
        box.apply_event(event)
    except (EventPayloadError, DeclarationError):
        return
    with Session(engine) as session:
        session.add(box)
        session.commit()
        found = EventStore(session, Box).events.of(Box, box.id).all()
        assert [same(each.event, event) for each in found] == [True], (found, event)
