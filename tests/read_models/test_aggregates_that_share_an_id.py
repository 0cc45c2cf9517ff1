"""A stream is known by its aggregate's type and its id: models that name their aggregates, and rows that events remove."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    DeclarationError,
    DomainEvent,
    EventReplayer,
    EventStore,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    fold,
    handles,
    load_for_update,
    map_from_event,
    upcast,
    verify,
)
from sa_eventsource.read_models import count
from tests.committing import commit_events


class Renamed(DomainEvent):
    """Customers and products have names; had another shape once."""

    __event_type__ = "sharing.Renamed"
    __event_version__ = 2
    name: str


@upcast(Renamed, from_version=1)
def _renamed(payload: dict[str, Any]) -> dict[str, Any]:
    return {"name": payload["label"]}


class Dropped(DomainEvent):
    """It is gone."""

    __event_type__ = "sharing.Dropped"


class Shipped(DomainEvent):
    """Only of shipments."""

    __event_type__ = "sharing.Shipped"
    carrier: str


class Base(DeclarativeBase):
    """Base of a shop whose aggregates are numbered each by itself."""


class Customer(AggregateRoot[str], Base):
    """Has number 1, as the product has."""

    __aggregate_type__ = "sharing.Customer"
    __ignored_events__ = (Renamed, Dropped)


class Product(AggregateRoot[str], Base):
    """Has number 1, as the customer has."""

    __aggregate_type__ = "sharing.Product"
    __ignored_events__ = (Renamed, Dropped)


class Customers(ReadModel, Base):
    """Behind the log."""

    __aggregates__ = (Customer,)
    __removed_by__ = (Dropped,)

    id: Mapped[str]
    name: Mapped[str] = map_from_event(Renamed)
    renamings: Mapped[int] = map_from_event(Renamed, reduce=count())


class CustomersAtOnce(ReadModel, Base):
    """With the events."""

    __tablename__ = "sharing_customers"
    __consistency__ = "strong"
    __aggregates__ = (Customer,)
    __removed_by__ = (Dropped,)

    id: Mapped[str]
    name: Mapped[str] = map_from_event(Renamed)
    renamings: Mapped[int] = map_from_event(Renamed, reduce=count())


class ByType(ReadModel, Base):
    """A row for each stream."""

    __removed_by__ = (Dropped,)

    kind: Mapped[str] = map_from_event(key=True, source="aggregate_type")
    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(Renamed)


class _Handled:
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")

    @classmethod
    @handles(Renamed)
    def _renamed(cls, recorded: RecordedEvent[Renamed], session: Session) -> None:
        load_for_update(session, cls, recorded.aggregate_id).name = recorded.event.name


class Handled(_Handled, ReadModel, Base):
    """By a handler."""

    __tablename__ = "sharing_handled"
    __aggregates__ = (Customer,)


class HandledAtOnce(_Handled, ReadModel, Base):
    """By a handler, with the events."""

    __tablename__ = "sharing_handled_at_once"
    __consistency__ = "strong"
    __aggregates__ = (Customer,)


def names(engine: Engine, model: type[Any]) -> dict[str, str]:
    with Session(engine) as session:
        return {row.id: row.name for row in session.scalars(select(model))}


def _happenings(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    commit_events(engine, Customer, "1", Renamed(name="Ann"))
    commit_events(engine, Product, "1", Renamed(name="Chair"), Renamed(name="Armchair"))
    commit_events(engine, Product, "2", Renamed(name="Desk"))
    commit_events(engine, Customer, "3", Renamed(name="Eve"))
    commit_events(engine, Product, "3", Dropped())
    commit_events(engine, Customer, "4", Renamed(name="Bob"), Dropped())


RIGHT = {"1": "Ann", "3": "Eve"}


@pytest.mark.slow_on_sqlite
@pytest.mark.parametrize("model", [Customers, CustomersAtOnce, Handled, HandledAtOnce])
def test_only_events_of_the_named_aggregates_are_taken(engine: Engine, model: type[Any]) -> None:
    _happenings(engine)
    ReadModelManager(engine, Base).catch_up()
    right = RIGHT | ({"4": "Bob"} if issubclass(model, _Handled) else {})
    assert names(engine, model) == right
    EventReplayer(engine, Base).rebuild(model)
    assert names(engine, model) == right
    if not issubclass(model, _Handled):
        EventReplayer(engine, Base).rebuild_rows(model, ["1", "2", "3"])
        with Session(engine) as session:
            folded = fold(model, EventStore(session, Base).events.all())
        assert names(engine, model) == right == {key: row["name"] for key, row in folded.items()}
        assert folded["1"]["renamings"] == 1
    assert ReadModelManager(engine, Base).status(model)[0].lag_events == 0
    assert verify(engine, Base).is_sound


def test_older_events_of_others_are_left_out_too(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    tables = Customers.__read_model_definition__.tables
    with engine.begin() as connection:
        for number, (kind, name) in enumerate([("Customer", "Ann"), ("Product", "Chair")], 1):
            values = {} if engine.dialect.name == "postgresql" else {"position": number}
            connection.execute(
                tables.events.insert().values(
                    event_id=UUID(int=number),
                    aggregate_type=f"sharing.{kind}",
                    aggregate_id="1",
                    version=1,
                    event_type="sharing.Renamed",
                    event_version=1,
                    event_data={"label": name},
                    occurred_at=datetime(2026, 5, 1, tzinfo=UTC),
                    **values,
                )
            )
    ReadModelManager(engine, Base).catch_up(Customers)
    assert names(engine, Customers) == {"1": "Ann"}


def test_the_type_may_be_in_the_key(engine: Engine) -> None:
    _happenings(engine)
    ReadModelManager(engine, Base).catch_up(ByType)
    with Session(engine) as session:
        rows = {(row.kind.removeprefix("sharing."), row.id): row.name for row in session.scalars(select(ByType))}
    assert rows == {("Customer", "1"): "Ann", ("Product", "1"): "Armchair", ("Product", "2"): "Desk", ("Customer", "3"): "Eve"}


class _Field:
    id: Mapped[str]
    name: Mapped[str] = map_from_event(Renamed)


def test_rows_that_events_remove_are_of_one_stream_each() -> None:
    with pytest.raises(
        DeclarationError, match=r"events of Customer and Product, which may share an id.*__aggregates__ = \(Customer,\)"
    ):

        class Both(_Field, ReadModel, Base):
            __removed_by__ = (Dropped,)

    with pytest.raises(DeclarationError, match="may share an id"):

        class Named(_Field, ReadModel, Base):
            __aggregates__ = (Customer, Product)
            __removed_by__ = (Dropped,)


def test_an_aggregate_that_would_share_such_rows_is_refused_when_it_is_declared() -> None:
    class Own(DeclarativeBase): ...

    class First(AggregateRoot[str], Own):
        __ignored_events__ = (Renamed, Dropped)

    class Rows(_Field, ReadModel, Own):
        __removed_by__ = (Dropped,)

    with pytest.raises(DeclarationError, match=r"Rows has events of First and Second.*__aggregates__ = \(First,\)"):

        class Second(AggregateRoot[str], Own):
            __ignored_events__ = (Renamed,)

    tables = Rows.__read_model_definition__.tables
    assert list(tables.aggregate_classes) == ["First"]

    class Third(AggregateRoot[str], Own):
        __ignored_events__ = (Shipped,)


class OtherBase(DeclarativeBase):
    """Another log."""


class Elsewhere(AggregateRoot[str], OtherBase):
    """On it."""

    __ignored_events__ = (Renamed,)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Customer, r"__aggregates__ = \(Customer,\)"),
        ((), "is empty"),
        (("Customer",), r"__aggregates__ = \(Order,\)"),
        ((Renamed,), r"__aggregates__ = \(Order,\)"),
        ((Elsewhere,), "not in the log"),
    ],
)
def test_what_names_no_aggregate_is_refused(given: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        type("Wrong", (_Field, ReadModel, Base), {"__module__": __name__, "__aggregates__": given})


def test_an_event_that_the_named_aggregates_do_not_have_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"takes Shipped, which no aggregate .* has: Customer"):

        class Deliveries(_Field, ReadModel, Base):
            __aggregates__ = (Customer,)
            carrier: Mapped[str] = map_from_event(Shipped)


def test_other_aggregates_are_another_declaration() -> None:
    digests = set()
    for named in (None, "One", "Two"):

        class Own(DeclarativeBase): ...

        class One(AggregateRoot[str], Own):
            __ignored_events__ = (Renamed,)

        class Two(AggregateRoot[str], Own):
            __ignored_events__ = (Renamed,)

        class Rows(_Field, ReadModel, Own):
            __aggregates__ = None if named is None else (One if named == "One" else Two,)

        digests.add(Rows.__read_model_definition__.fingerprint)
    assert len(digests) == 3
