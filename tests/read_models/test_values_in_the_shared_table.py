"""Fields of the table that models share behave as columns do: None, lists, dates in sums and beside columns; keys have a length."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime
from sqlalchemy import DateTime, Engine, MetaData, cast, extract, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, ReadModelError, ReadModelManager, map_from_event
from sa_eventsource.read_models import count, day
from tests.committing import commit_events


class Noted(DomainEvent):
    """Something may have been written down."""

    __event_type__ = "shared.Noted"
    note: dict[str, Any] | None = None
    tags: list[str] | None = None
    on: date
    at: AwareDatetime


class Visited(DomainEvent):
    """Somebody looked at a page."""

    __event_type__ = "shared.Visited"
    url: str


class Base(DeclarativeBase):
    """Base of some notes."""


class Item(AggregateRoot[str], Base):
    """What is written about."""

    __aggregate_type__ = "shared.Item"
    __ignored_events__ = (Noted, Visited)


class _Fields:
    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    note: Mapped[dict[str, Any] | None] = map_from_event(Noted)
    tags: Mapped[list[str] | None] = map_from_event(Noted)
    on: Mapped[date] = map_from_event(Noted)
    at: Mapped[datetime] = map_from_event(Noted)


class Notes(_Fields, ReadModel, Base):
    """In the shared table."""

    __consistency__ = "strong"


class OwnNotes(_Fields, ReadModel, Base):
    """In a table of its own."""

    __consistency__ = "strong"
    __tablename__ = "shared_own_notes"


class Days(ReadModel, Base):
    """Keyed by a date."""

    __consistency__ = "strong"
    day: Mapped[date] = map_from_event(key=True, source=day("at"))
    notes: Mapped[int] = map_from_event(Noted, reduce=count())


class Visits(ReadModel, Base):
    """Keyed by a text of any length."""

    url: Mapped[str] = map_from_event(key=True)
    number: Mapped[int] = map_from_event(Visited, reduce=count())


class Holiday(Base):
    """An ordinary table of the application."""

    __tablename__ = "shared_holidays"
    id: Mapped[int] = mapped_column(primary_key=True)
    on: Mapped[date]


ON = date(2026, 3, 15)
AT = datetime(2026, 3, 15, 12, 30, tzinfo=UTC)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    commit_events(engine, Item, "a", Noted(on=ON, at=AT))
    commit_events(engine, Item, "b", Noted(on=ON + timedelta(days=40), at=AT + timedelta(days=40)))
    commit_events(engine, Item, "c", Noted(note={"x": 1}, tags=["y"], on=ON, at=AT))
    with Session(engine) as session:
        session.add(Holiday(id=1, on=ON))
        session.commit()
        yield session


@pytest.mark.parametrize("model", [Notes, OwnNotes])
@pytest.mark.parametrize("name", ["note", "tags"])
def test_none_is_null(session: Session, model: Any, name: str) -> None:
    field = getattr(model, name)
    assert sorted(session.scalars(select(model.id).where(field.is_(None)))) == ["a", "b"]
    assert session.scalars(select(model.id).where(field.is_not(None))).all() == ["c"]
    assert session.scalars(select(func.count(field))).one() == 1
    assert sorted(session.scalars(select(model.id).where(field == None))) == ["a", "b"]  # noqa: E711 - SQLAlchemy's way
    assert session.scalars(select(field).order_by(model.id)).all() == [None, None, {"note": {"x": 1}, "tags": ["y"]}[name]]


@pytest.mark.parametrize("model", [Notes, OwnNotes])
def test_a_part_of_a_time_is_asked_for(session: Session, model: Any) -> None:
    assert session.scalars(select(extract("month", model.on)).order_by(model.id)).all() == [3, 4, 3]
    assert session.scalars(select(extract("day", model.at)).order_by(model.id)).all() == [15, 24, 15]
    assert session.scalar(select(extract("year", Holiday.on))) == 2026


def test_a_part_of_a_key_is_asked_for(session: Session) -> None:
    by_month = select(extract("month", Days.day).label("month"), func.sum(Days.notes)).group_by("month").order_by("month")
    assert [tuple(row) for row in session.execute(by_month)] == [(3, 2), (4, 1)]


def test_values_are_compared(session: Session) -> None:
    assert session.scalars(select(Notes.id).where(Notes.on.between(date(2026, 4, 1), date(2026, 4, 30)))).all() == ["b"]
    assert session.scalars(select(Notes.id).where(Notes.at > AT)).all() == ["b"]
    assert session.get_one(Days, ON).notes == 2


@pytest.mark.parametrize("model", [Notes, OwnNotes])
def test_times_are_calculated_with(postgres_engine: Engine, model: Any) -> None:
    commit_events(postgres_engine, Item, "a", Noted(on=ON, at=AT))
    with Session(postgres_engine) as session:
        session.add(Holiday(id=1, on=ON))
        session.flush()
        assert session.scalars(select(model.on + timedelta(days=1))).one().date() == ON + timedelta(days=1)
        assert session.scalars(select(model.on - timedelta(days=1))).one().date() == ON - timedelta(days=1)
        assert session.scalar(select(model.at + timedelta(hours=1))) == AT + timedelta(hours=1)
        assert session.scalar(select(model.at - cast(AT - timedelta(hours=2), DateTime(timezone=True)))) == timedelta(hours=2)
        assert session.scalars(select(model.id).join(Holiday, model.on == Holiday.on)).all() == ["a"]
        assert session.scalars(select(model.id).where(model.at < func.now() + timedelta(days=36500))).all() == ["a"]
        assert session.scalars(select(func.date_trunc("month", cast(model.at, DateTime(timezone=True))))).one().month == 3


def test_a_key_has_a_length_and_the_error_says_so(postgres_engine: Engine) -> None:
    commit_events(postgres_engine, Item, "v", Visited(url="https://example.org/" + "a" * 280))
    with pytest.raises(ReadModelError, match=r"the key, url, is longer than the 255 characters .* __tablename__") as caught:
        ReadModelManager(postgres_engine, Base).catch_up(Visits)
    assert "psycopg" not in str(caught.value)
