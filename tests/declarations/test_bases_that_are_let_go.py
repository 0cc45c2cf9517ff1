"""A declarative base that nobody has any more takes no memory, whatever was done with its classes."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    ReadModel,
    Worker,
    applies,
    event_record,
    map_from_event,
)
from sa_eventsource.read_models import count


class Rang(DomainEvent):
    """A bell rang."""

    __event_type__ = "let_go.Rang"


def _plain(engine: Engine) -> Any:
    class Base(DeclarativeBase):
        """A base of an application without events."""

    Base.metadata.create_all(engine)
    Base.registry.dispose()
    return ref(Base.metadata)


def _used(engine: Engine) -> Any:
    class Base(DeclarativeBase):
        """A base that is declared, used and let go."""

        __eventsource__ = EventSourceOptions(commands="commands")

    class Bell(AggregateRoot[str], Base):
        """Rings."""

        __aggregate_type__ = "let_go.Bell"
        __snapshot_frequency__ = 2
        rings: int = 0

        @applies(Rang)
        def _rang(self, _event: Rang) -> None:
            self.rings += 1

    class Rings(ReadModel, Base):
        """How often each has rung."""

        __projection_name__ = "let_go_rings"
        id: Mapped[str] = map_from_event(Rang, key=True, source="aggregate_id")
        rings: Mapped[int] = map_from_event(Rang, reduce=count())

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(3):
            bell = session.get(Bell, "a") or Bell(id="a")
            session.add(bell)
            bell.apply_event(Rang())
            session.commit()
            assert bell.rings == number + 1
        session.scalars(select(Bell)).all()
        assert EventStore(session, Base).events.count() == 3
        record = event_record(Base)
        assert len(session.scalars(select(record)).all()) == 3
    Worker(engine, Base).run_once()
    with Session(engine) as session:
        assert session.scalars(select(Rings.rings)).all() == [3]
    Base.metadata.drop_all(engine)
    Base.registry.dispose()
    return ref(Base.metadata)


@pytest.mark.parametrize("use", [_plain, _used])
def test_a_base_that_is_let_go_is_freed(engine: Engine, use: Any) -> None:
    metadata = use(engine)
    engine.clear_compiled_cache()
    for _ in range(3):
        gc.collect()
    assert metadata() is None
