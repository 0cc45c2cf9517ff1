"""One meaning of an event class: its own events, and those of classes that inherit from it unless a nearer one is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    Worker,
    applies,
    fold,
    handles,
    map_from_event,
    subscribe,
)
from sa_eventsource.read_models import count, last, sum_
from sa_eventsource.read_models.read_model_definition import definition_of


class Base(DeclarativeBase):
    """The application's declarative base."""


class Sent(DomainEvent):
    """A parcel was sent."""

    __event_type__ = "inherit.Sent"
    weight: int


class SentAbroad(Sent):
    """A parcel was sent abroad."""

    __event_type__ = "inherit.SentAbroad"
    country: str = "nl"


class SentByShip(SentAbroad):
    """A parcel was sent by ship."""

    __event_type__ = "inherit.SentByShip"


class Closing(DomainEvent):
    """What ends a parcel's way: no event by itself."""

    __abstract__ = True


class Delivered(Closing):
    """The parcel arrived."""

    __event_type__ = "inherit.Delivered"


class Lost(Closing):
    """The parcel did not arrive."""

    __event_type__ = "inherit.Lost"


class Parcel(AggregateRoot, Base):
    """A parcel."""

    __aggregate_type__ = "inherit.Parcel"
    weight: int = 0
    closed: bool = False

    @applies(Sent)
    def _sent(self, event: Sent) -> None:
        self.weight += event.weight

    @applies(Closing)
    def _closed(self, event: Closing) -> None:
        self.closed = True


class ParcelRow(ReadModel, Base):
    """A row a parcel, strong."""

    __projection_name__ = "inherit_parcels"
    __consistency__ = "strong"
    __removed_by__ = (Lost,)

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    weight: Mapped[int] = map_from_event(Sent, reduce=sum_("weight"))
    way: Mapped[str] = map_from_event({Sent: "by land", SentAbroad: "abroad", Closing: "closed"})
    country: Mapped[str | None] = map_from_event({SentAbroad: last("country")})


class ParcelCount(ReadModel, Base):
    """The same, eventual, in a table of its own, with fewer fields."""

    __tablename__ = "inherit_counts"

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    sent: Mapped[int] = map_from_event(Sent, reduce=count())
    closed: Mapped[int] = map_from_event(Closing, reduce=count())


class Log(ReadModel, Base):
    """A row an event, by handlers."""

    __tablename__ = "inherit_log"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    by: Mapped[str]

    @classmethod
    @handles(Sent, Closing)
    def _any(cls, recorded: RecordedEvent[Any], session: Session) -> None:
        session.add(cls(event_id=str(recorded.event_id), by="any"))

    @classmethod
    @handles(SentAbroad)
    def _abroad(cls, recorded: RecordedEvent[SentAbroad], session: Session) -> None:
        session.add(cls(event_id=str(recorded.event_id), by="abroad"))


@pytest.fixture
def parcels(engine: Engine) -> Engine:
    """Engine on a database with some parcels."""
    Base.metadata.create_all(engine)
    streams: dict[str, list[DomainEvent]] = {
        "land": [Sent(weight=1), Delivered()],
        "abroad": [Sent(weight=1), SentAbroad(weight=2, country="be")],
        "ship": [SentByShip(weight=4, country="is")],
        "lost": [SentByShip(weight=8), Lost()],
    }
    with Session(engine) as session:
        for name, events in streams.items():
            parcel = Parcel(id=name)
            for event in events:
                parcel.apply_event(event)
            session.add(parcel)
        session.commit()
    return engine


ROWS = {"land": (1, "closed", None), "abroad": (3, "abroad", "be"), "ship": (4, "abroad", "is")}


def rows(engine: Engine) -> dict[str, Any]:
    """Read the strong model."""
    with Session(engine) as session:
        return {each.id: (each.weight, each.way, each.country) for each in session.scalars(select(ParcelRow))}


def counts(engine: Engine) -> dict[str, Any]:
    """Read the eventual model."""
    with Session(engine) as session:
        return {each.id: (each.sent, each.closed) for each in session.scalars(select(ParcelCount))}


def test_aggregates_and_queries_take_them(parcels: Engine) -> None:
    with Session(parcels) as session:
        assert {each.id: (each.weight, each.closed) for each in session.scalars(select(Parcel))} == {
            "land": (1, True),
            "abroad": (3, False),
            "ship": (4, False),
            "lost": (8, True),
        }
        events = EventStore(session).events
        assert events.of_type(Sent).count() == 5
        assert events.of_type(SentAbroad).count() == 3
        assert events.of_type(Closing).count() == 2


def test_the_four_ways_of_a_read_model_take_them(parcels: Engine) -> None:
    assert rows(parcels) == ROWS
    with Session(parcels) as session:
        folded = fold(ParcelRow, EventStore(session).events.all())
    assert {key: (row["weight"], row["way"], row["country"]) for key, row in folded.items()} == ROWS
    ReadModelManager(parcels, Base).catch_up()
    caught_up = counts(parcels)
    assert caught_up == {"land": (1, 1), "abroad": (2, 0), "ship": (1, 0), "lost": (1, 1)}
    replayer = EventReplayer(parcels, Base)
    for model in (ParcelRow, ParcelCount, Log):
        replayer.rebuild(model)
    assert rows(parcels) == ROWS
    assert counts(parcels) == caught_up


def test_the_nearest_handler_takes_them(parcels: Engine) -> None:
    ReadModelManager(parcels, Base).catch_up()
    with Session(parcels) as session:
        assert sorted(session.scalars(select(Log.by))) == ["abroad"] * 3 + ["any"] * 4


heard: list[str] = []


@subscribe("inherit_heard", Sent, base=Base)
def listen(recorded: RecordedEvent[Sent], _session: Session) -> None:
    heard.append(type(recorded.event).__name__)


@subscribe("inherit_closed", Closing, base=Base)
def listen_too(recorded: RecordedEvent[Any], _session: Session) -> None:
    heard.append(type(recorded.event).__name__)


def test_subscriptions_take_them(parcels: Engine) -> None:
    heard.clear()
    Worker(parcels, Base).run_once()
    assert sorted(heard) == ["Delivered", "Lost", "Sent", "Sent", "SentAbroad", "SentByShip", "SentByShip"]


def further(name: str, base: type[Sent]) -> Callable[..., Sent]:
    """Declare a further class of events, when all else is declared already."""
    return type(name, (base,), {"__module__": __name__, "__qualname__": name, "__event_type__": f"inherit.{name}"})


def test_a_class_declared_later_is_taken_from_then_on(parcels: Engine) -> None:
    ReadModelManager(parcels, Base).catch_up()
    before = definition_of(ParcelCount).fingerprint
    sent_by_air: Any = further("SentByAir", SentAbroad)
    try:
        assert definition_of(ParcelCount).fingerprint != before
        with Session(parcels) as session:
            parcel = Parcel(id="air")
            parcel.apply_event(sent_by_air(weight=16, country="us"))
            session.add(parcel)
            session.commit()
        assert rows(parcels) == {**ROWS, "air": (16, "abroad", "us")}
        EventReplayer(parcels, Base).rebuild(ParcelCount)
        assert counts(parcels)["air"] == (1, 0)
    finally:
        forget("SentByAir")
    assert definition_of(ParcelCount).fingerprint == before


def forget(name: str) -> None:
    """Take a class off again, for the other tests."""
    from sa_eventsource.events import event_types

    event_types._classes.pop((f"inherit.{name}", 1))
    for model in (ParcelRow, ParcelCount, Log):
        definition = definition_of(model)
        definition.adopt(definition.reading())
    event_types.changed()


def test_a_class_that_does_not_fit_a_model_is_refused_where_it_is_declared() -> None:
    class Weighed(DomainEvent):
        """Something was weighed."""

        __event_type__ = "inherit.Weighed"
        grams: int

    class Weights(ReadModel, Base):
        """The last weight."""

        __projection_name__ = "inherit_weights"
        id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
        grams: Mapped[int] = map_from_event(Weighed)

    with pytest.raises(DeclarationError, match=r"Weights\.grams"):

        class WeighedByHand(Weighed):
            """Somebody said how heavy it felt."""

            __event_type__ = "inherit.WeighedByHand"
            grams: str  # type: ignore[assignment]

    assert list(definition_of(Weights).events) == ["inherit.Weighed"]


def test_a_class_between_that_removes_the_row_wins_over_a_base_that_sets_it() -> None:
    assert sorted(definition_of(ParcelRow).removed_by) == ["inherit.Lost"]
    assert "inherit.Lost" not in definition_of(ParcelRow).events
    assert "inherit.Delivered" in definition_of(ParcelRow).events
