"""SQLModel: its tables and the event log on one metadata, in one transaction, through its session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import AggregateRoot, ConcurrencyError, DomainEvent, EventRecord, applies

pytest.importorskip("sqlmodel")

from sqlmodel import Field, Session, SQLModel, select

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


class Base(DeclarativeBase):
    """Aggregates share SQLModel's metadata and registry, so ``SQLModel.metadata.create_all`` makes all tables."""

    metadata = SQLModel.metadata
    registry = SQLModel._sa_registry


class Hero(SQLModel, table=True):
    """An ordinary SQLModel table."""

    __tablename__ = "sqlmodel_heroes"  # pyright: ignore[reportAssignmentType]

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    mission_id: str | None = None


class MissionStarted(DomainEvent):
    """A mission was given out."""

    __event_type__ = "sqlmodel.MissionStarted"

    goal: str


class MissionFinished(DomainEvent):
    """It is over."""

    __event_type__ = "sqlmodel.MissionFinished"


class Mission(AggregateRoot, Base):
    """An aggregate beside SQLModel's tables."""

    __aggregate_type__ = "sqlmodel.Mission"

    goal: str = ""
    finished: bool = False

    @classmethod
    def start(cls, goal: str) -> Mission:
        """Give a mission out."""
        mission = cls()
        mission.apply_event(MissionStarted(goal=goal))
        return mission

    def finish(self) -> None:
        """End it."""
        self.apply_event(MissionFinished())

    @applies(MissionStarted)
    def _started(self, event: MissionStarted) -> None:
        self.goal = event.goal

    @applies(MissionFinished)
    def _finished(self, _: MissionFinished) -> None:
        self.finished = True


@pytest.fixture
def database(engine: Engine) -> Iterator[Engine]:
    """All of SQLModel's tables, and the event log's."""
    SQLModel.metadata.create_all(engine)
    yield engine
    SQLModel.metadata.drop_all(engine)


def test_one_metadata_has_all_tables() -> None:
    """What creates or migrates SQLModel's tables finds the log's too."""
    assert {"events", "snapshots", "projections", "projection_positions", "parked_events", "sqlmodel_heroes"} <= set(
        SQLModel.metadata.tables
    )


def test_saves_both_in_one_transaction(database: Engine) -> None:
    """``sqlmodel.Session`` commits the row and the events, and its ``exec`` finds both."""
    with Session(database) as session:
        mission = Mission.start("save the city")
        session.add(mission)
        session.add(Hero(name="Deadpond", mission_id=mission.id))
        session.commit()
        session.refresh(mission)
        assert mission.goal == "save the city"
    with Session(database) as session:
        hero = session.exec(select(Hero).where(Hero.name == "Deadpond")).one()
        found = session.get(Mission, hero.mission_id)
        assert found is not None
        found.finish()
        session.commit()
        missions: Any = select(Mission)
        assert [each.finished for each in session.exec(missions)] == [True]
        pairs: Any = select(Hero, Mission).join(Mission, Mission.id == Hero.mission_id)
        assert [(hero.name, each.version) for hero, each in session.exec(pairs)] == [("Deadpond", 2)]


def test_rolls_both_back(database: Engine) -> None:
    """A row that is refused takes the events with it."""
    with Session(database) as session:
        session.add(Hero(name="Deadpond"))
        session.commit()
        session.add_all([Mission.start("nothing"), Hero(name="Deadpond")])
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        count: Any = select(func.count()).select_from(EventRecord)
        assert session.exec(count).one() == 0


def test_conflicts_are_found(database: Engine) -> None:
    """The later of two sessions is refused."""
    with Session(database) as session:
        mission = Mission.start("save the city")
        session.add(mission)
        session.commit()
        mission_id = mission.id
    with Session(database) as session:
        stale = session.get_one(Mission, mission_id)
        session.expunge(stale)
        session.rollback()
        session.get_one(Mission, mission_id).finish()
        session.commit()
    with Session(database) as session:
        stale.finish()
        session.add(stale)
        with pytest.raises(ConcurrencyError):
            session.commit()
