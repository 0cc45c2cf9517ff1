"""Whatever apply_event takes comes back from the database equal, made of the same types; else it is refused at once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import Session

from sa_eventsource import DeclarationError, DomainEvent, EventPayloadError, EventStore
from tests.events.boxes import Base, Box, same
from tests.events.kinds_of_fields import kinds, unvalidated

_numbers = itertools.count()


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def declared(annotations: list[Any]) -> type[DomainEvent] | None:
    """Declare an event with fields of these types; None if Pydantic knows no such field."""
    name = f"Generated{next(_numbers)}"
    body = {"__annotations__": {f"f{number}": each for number, each in enumerate(annotations)}, "__module__": __name__}
    try:
        return type(name, (DomainEvent,), {**body, "__qualname__": name})
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return None


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(fields=st.lists(kinds(), min_size=1, max_size=3), wrong=st.none() | unvalidated)
def test_an_event_comes_back_as_it_was_or_is_refused(engine: Engine, fields: list[tuple[Any, Any]], wrong: Any) -> None:
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
