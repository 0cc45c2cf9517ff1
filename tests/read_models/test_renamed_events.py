"""A read model goes on where an event was renamed: its rows are what they were."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventReplayer,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    applies,
    evolves,
    map_from_event,
)


def _declared(event_type: str, former: tuple[str, ...], kind: str) -> tuple[type[Any], type[Any], type[Any], type[Any]]:
    """Declare an aggregate and a read model, as a release does in which the event has this name."""

    class Base(DeclarativeBase):
        pass

    class Raised(DomainEvent):
        __event_type__ = event_type
        __former_types__ = former
        by: int

    class Lowered(DomainEvent):
        __event_type__ = f"renamed.{kind}.Lowered"
        by: int

    class Level(AggregateRoot[str], Base):
        __aggregate_type__ = f"renamed.{kind}.Level"

        @applies(Raised)
        def _raised(self, event: Raised) -> None: ...

        @applies(Lowered)
        def _lowered(self, event: Lowered) -> None: ...

    if kind == "fields":

        class Fields(ReadModel, Base):
            __projection_name__ = "renamed_fields"
            id: Mapped[str] = map_from_event(key=True, source="log.aggregate_id")
            by: Mapped[int | None] = map_from_event(Raised, Lowered)

        return Raised, Level, Fields, Base

    if kind == "types":

        class Types(ReadModel, Base):
            __projection_name__ = "renamed_types"
            id: Mapped[str] = map_from_event(key=True, source="log.aggregate_id")
            latest: Mapped[str | None] = map_from_event(Raised, Lowered, source="log.event_type")

        return Raised, Level, Types, Base

    class Methods(ReadModel, Base):
        __projection_name__ = "renamed_methods"
        id: Mapped[str] = map_from_event(key=True, source="log.aggregate_id")
        by: Mapped[int] = mapped_column(default=0)

        @evolves(Raised, Lowered)
        def _changed(self, recorded: RecordedEvent[Any]) -> None:
            self.by += recorded.event.by if isinstance(recorded.event, Raised) else -recorded.event.by

    return Raised, Level, Methods, Base


@pytest.mark.parametrize("kind", ["fields", "methods"])
def test_rows_stay_and_go_on_after_a_rename(engine: Engine, kind: str) -> None:
    name = f"renamed.{kind}.{engine.dialect.name}"
    before, level, model, base = _declared(f"{name}.ZRaised", (), kind)
    base.metadata.create_all(engine)
    with Session(engine) as session:
        one = level(id="a")
        one.apply_event(before(by=2))
        session.add(one)
        session.commit()
    ReadModelManager(engine, base).catch_up(model)

    after, level, model, base = _declared(f"{name}.Raised", (f"{name}.ZRaised",), kind)
    (status,) = [each for each in ReadModelManager(engine, base).status() if each.name == f"renamed_{kind}"]
    assert status.state == "running"
    with Session(engine) as session:
        session.get_one(level, "a").apply_event(after(by=3))
        session.commit()
    ReadModelManager(engine, base).catch_up(model)
    with Session(engine) as session:
        found = session.get_one(model, "a").by
    EventReplayer(engine, base).rebuild(model)
    with Session(engine) as session:
        assert session.get_one(model, "a").by == found == (3 if kind == "fields" else 5)


def test_a_second_rename_is_none_either() -> None:
    prints = [
        _declared(name, former, "fields")[2].__read_model_definition__.fingerprint
        for name, former in [("renamed.A", ()), ("renamed.C", ("renamed.A", "renamed.B"))]
    ]
    assert len(set(prints)) == 1


def test_where_rows_have_the_names_of_types_they_are_others() -> None:
    first = _declared("renamed.types.Raised", (), "types")[2].__read_model_definition__.fingerprint
    second = _declared("renamed.types.Risen", ("renamed.types.Raised",), "types")[2].__read_model_definition__.fingerprint
    assert first != second
