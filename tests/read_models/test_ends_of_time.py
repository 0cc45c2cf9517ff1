"""Moments of a payload at the ends of time: one that Python cannot hold, or whose day it cannot, is refused everywhere."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import AggregateRoot, DomainEvent, EventReplayer, ReadModel, ReadModelError, ReadModelManager, map_from_event
from sa_eventsource.read_models import day, month
from tests.committing import commit_events


class Base(DeclarativeBase):
    """The eventual models' base."""


class Due(DomainEvent):
    __event_type__ = "ends_of_time.Due"
    at: datetime
    others: list[datetime] = []


class Bill(AggregateRoot[str], Base):
    __aggregate_type__ = "ends_of_time.Bill"
    __ignored_events__ = (Due,)


class Own(ReadModel, Base):
    __tablename__ = "ends_of_time_own"
    id: Mapped[str]
    tokyo: Mapped[date | None] = map_from_event(Due, source=day("at", zone="Asia/Tokyo"))


class Shared(ReadModel, Base):
    __projection_name__ = "ends_of_time_shared"
    id: Mapped[str]
    new_york: Mapped[date | None] = map_from_event(Due, source=month("at", zone="America/New_York"))


class Moments(ReadModel, Base):
    __tablename__ = "ends_of_time_moments"
    id: Mapped[str]
    at: Mapped[datetime | None] = map_from_event(Due)


class Texts(ReadModel, Base):
    __projection_name__ = "ends_of_time_texts"
    id: Mapped[str]
    at: Mapped[datetime | None] = map_from_event(Due)


class Lists(ReadModel, Base):
    __projection_name__ = "ends_of_time_lists"
    id: Mapped[str]
    others: Mapped[list[datetime] | None] = map_from_event(Due)


class Strictly(DeclarativeBase):
    """The strong model's base."""


class Invoice(AggregateRoot[str], Strictly):
    __aggregate_type__ = "ends_of_time.Invoice"
    __ignored_events__ = (Due,)


class Strong(ReadModel, Strictly):
    __projection_name__ = "ends_of_time_strong"
    __consistency__ = "strong"
    id: Mapped[str]
    tokyo: Mapped[date | None] = map_from_event(Due, source=day("at", zone="Asia/Tokyo"))


LAST, FIRST = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
BEFORE = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
BEHIND = datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))


def bill(engine: Engine, aggregate: type[Bill | Invoice], aggregate_id: str, at: datetime) -> None:
    commit_events(engine, aggregate, aggregate_id, Due(at=at, others=[at]))


@pytest.mark.parametrize("model", [Moments, Texts, Lists])
@pytest.mark.parametrize("at", [BEFORE, BEHIND])
def test_a_moment_that_utc_has_no_year_for_is_refused(engine: Engine, model: type[Any], at: datetime) -> None:
    Base.metadata.create_all(engine)
    bill(engine, Bill, "b-1", datetime(2026, 1, 1, 20, tzinfo=UTC))
    ReadModelManager(engine, Base).catch_up(model)
    bill(engine, Bill, "b-2", at)
    with pytest.raises(ReadModelError, match=r"OverflowError|no time of Python|out of range"):
        ReadModelManager(engine, Base).catch_up(model)
    with pytest.raises(ReadModelError):
        EventReplayer(engine, Base).rebuild(model)
    with Session(engine) as session:
        assert [row.id for row in session.scalars(select(model))] == ["b-1"]


@pytest.mark.parametrize("model", [Moments, Texts, Lists])
def test_the_ends_themselves_are_taken(engine: Engine, model: type[Any]) -> None:
    Base.metadata.create_all(engine)
    bill(engine, Bill, "first", FIRST)
    bill(engine, Bill, "last", LAST)
    ReadModelManager(engine, Base).catch_up(model)
    with Session(engine) as session:
        rows = {row.id: row.others if model is Lists else [row.at] for row in session.scalars(select(model))}
    assert rows == {"first": [FIRST], "last": [LAST]}


@pytest.mark.parametrize(("model", "at"), [(Own, LAST), (Shared, FIRST)])
def test_a_day_that_python_has_not_is_refused(engine: Engine, model: type[Any], at: datetime) -> None:
    Base.metadata.create_all(engine)
    bill(engine, Bill, "b-1", at)
    with pytest.raises(ReadModelError, match=r"OverflowError|no time of Python|out of range"):
        ReadModelManager(engine, Base).catch_up(model)
    with pytest.raises(ReadModelError):
        EventReplayer(engine, Base).rebuild(model)


def test_the_same_moments_are_taken_where_their_day_is_one(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    bill(engine, Bill, "b-1", datetime(9999, 12, 31, 14, 59, tzinfo=UTC))
    ReadModelManager(engine, Base).catch_up(Own)
    with Session(engine) as session:
        assert session.scalars(select(Own.tokyo)).all() == [date(9999, 12, 31)]


def test_a_commit_that_a_strong_model_cannot_follow_is_refused(engine: Engine) -> None:
    Strictly.metadata.create_all(engine)
    with pytest.raises(ReadModelError):
        bill(engine, Invoice, "i-1", LAST)
    bill(engine, Invoice, "i-2", datetime(2026, 1, 1, 20, tzinfo=UTC))
    with Session(engine) as session:
        assert session.scalars(select(Strong.tokyo)).all() == [date(2026, 1, 2)]
