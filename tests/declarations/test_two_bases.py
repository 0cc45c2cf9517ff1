"""An application with several declarative bases: what looks after one of them leaves the tables of the others alone."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DeclarationError,
    DomainEvent,
    EventSourceOptions,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    Worker,
    map_from_event,
    subscribe,
)
from sa_eventsource.aggregates import definition_of
from sa_eventsource.mapping import find_tables, tables_of_base, tables_on
from tests.committing import commit_events


class Sent(DomainEvent):
    """What aggregates of both bases have."""

    __event_type__ = "two_bases.Sent"


def send(engine: Engine, aggregate_class: type[Any]) -> None:
    commit_events(engine, aggregate_class, aggregate_class.__name__, Sent())


def test_a_worker_of_one_base_leaves_the_names_of_the_others_tables_to_it(engine: Engine) -> None:
    called: list[str] = []

    class Plain(DeclarativeBase):
        pass

    class Named(DeclarativeBase):
        __eventsource__ = EventSourceOptions(events="named_events", projection_positions="named_positions")

    class Parcel(AggregateRoot[str], Plain):
        __aggregate_type__ = "two_bases.Parcel"
        __ignored_events__ = (Sent,)

    @subscribe(f"two_bases.{engine.dialect.name}", Sent, base=Named)  # a closure is declared once under a name
    def of_the_other(recorded: RecordedEvent[Sent], session: Session) -> None:
        called.append(recorded.aggregate_id)

    Plain.metadata.create_all(engine)
    send(engine, Parcel)
    assert Worker(engine, Plain).names == ()
    assert ReadModelManager(engine, Plain).status() == []
    assert dict(Named.metadata.tables) == {}

    class Letter(AggregateRoot[str], Named):  # its module is imported afterwards
        __aggregate_type__ = "two_bases.Letter"
        __ignored_events__ = (Sent,)

    Named.metadata.create_all(engine)
    send(engine, Letter)
    assert Worker(engine, Named).run_once() == 1
    assert called == ["Letter"]


def test_a_base_that_is_asked_for_its_tables_has_them_under_its_own_names() -> None:
    class Bare(DeclarativeBase):
        __eventsource__ = EventSourceOptions(events="bare_events")

    assert find_tables(Bare.metadata) is None
    assert dict(Bare.metadata.tables) == {}
    assert tables_of_base("test", Bare).events.name == "bare_events"
    assert tables_on(Bare.metadata) is find_tables(Bare.metadata) is tables_of_base("test", Bare)


class Parted(DomainEvent):
    """What a read model takes, on this base or on another one."""

    __event_type__ = "two_bases.Parted"


def _part(engine: Engine, aggregate_class: type[Any]) -> None:
    commit_events(engine, aggregate_class, "one", Parted())


def _base(metadata: MetaData | None = None) -> Any:
    return type("Base", (DeclarativeBase,), {} if metadata is None else {"metadata": metadata})


def _parcel(base: Any) -> Any:
    class Parcel(AggregateRoot[str], base):  # type: ignore[misc]
        __aggregate_type__ = "two_bases.Parcel"
        __ignored_events__ = (Parted,)

    return Parcel


def _parcel_row(base: Any, consistency: str) -> Any:
    class ParcelRow(ReadModel, base):  # type: ignore[misc]
        __consistency__ = consistency  # type: ignore[assignment]
        id: Mapped[str]
        parted: Mapped[bool] = map_from_event({Parted: True})

    return ParcelRow


def test_a_strong_model_on_another_base_than_its_events_is_refused(engine: Engine) -> None:
    base, of_rows = _base(), _base()
    parcel, row = _parcel(base), _parcel_row(of_rows, "strong")
    base.metadata.create_all(engine)
    _part(engine, parcel)
    with Session(engine) as session:
        for _ in range(2):
            with pytest.raises(
                DeclarationError, match=r"ParcelRow is strong and takes Parted, an event of Parcel, .* another base"
            ):
                session.scalars(select(row)).all()


def test_an_eventual_model_on_another_base_follows_the_log_that_both_name(engine: Engine) -> None:
    base, of_rows = _base(), _base()
    parcel, row = _parcel(base), _parcel_row(of_rows, "eventual")
    base.metadata.create_all(engine)
    _part(engine, parcel)
    assert ReadModelManager(engine, of_rows).catch_up() == 1
    with Session(engine) as session:
        assert session.scalars(select(row.id)).all() == ["one"]


@pytest.mark.parametrize("shared", ["metadata", "event"])
def test_a_strong_model_is_written_where_its_own_base_has_the_event(engine: Engine, shared: str) -> None:
    base = _base()
    on = _base(base.metadata) if shared == "metadata" else _base()
    parcel, row = _parcel(base), _parcel_row(on, "strong")
    if shared == "event":
        parcel = _parcel(on)  # the aggregate of the other base has it, too
    on.metadata.create_all(engine)
    _part(engine, parcel)
    with Session(engine) as session:
        assert session.scalars(select(row.id)).all() == ["one"]


class Noticed(DomainEvent):
    """What no aggregate names."""

    __event_type__ = "two_bases.Noticed"


def test_an_aggregate_elsewhere_that_takes_any_event_is_no_sign_of_a_mistake(engine: Engine) -> None:
    base, of_rows = _base(), _base()

    class Audit(AggregateRoot[str], base):  # type: ignore[misc, valid-type]
        __aggregate_type__ = "two_bases.Audit"
        __ignored_events__ = (DomainEvent,)

    class Notice(ReadModel, of_rows):  # type: ignore[misc, valid-type]
        __consistency__ = "strong"
        id: Mapped[str]
        noticed: Mapped[bool] = map_from_event({Noticed: True})

    of_rows.metadata.create_all(engine)
    with Session(engine) as session:
        assert session.scalars(select(Notice.id)).all() == []
    assert definition_of(Audit).aggregate_type == "two_bases.Audit"
