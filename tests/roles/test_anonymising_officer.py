"""Who may anonymise: the officer, with the rights that the declaration gives, and neither the app nor the worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    ReadModel,
    ReadModelManager,
    anonymise,
    applies,
    create_roles,
    map_from_event,
    verify,
)
from tests.roles.clinic import ROLES, connected_as, drop_roles, let_log_in


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(roles=ROLES, anonymisations="anonymisations")


class Called(DomainEvent):
    __event_type__ = "anonymising_officer.Called"

    name: str


class Caller(AggregateRoot, Base):
    __aggregate_type__ = "anonymising_officer.Caller"
    __snapshot_frequency__ = 1

    name: str = ""

    @applies(Called)
    def _called(self, event: Called) -> None:
        self.name = event.name


class Callers(ReadModel, Base):
    __projection_name__ = "anonymising_officer.callers"

    name: Mapped[str] = map_from_event(Called)


class StrongCallers(ReadModel, Base):
    __tablename__ = "strong_callers"
    __projection_name__ = "anonymising_officer.strong_callers"
    __consistency__ = "strong"

    name: Mapped[str] = map_from_event(Called)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def callers(postgres_engine: Engine) -> Iterator[Engine]:
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
        let_log_in(connection, *ROLES.names())
    with Session(postgres_engine) as session:
        caller = Caller(id="c-1")
        caller.apply_event(Called(name="Annabelle"))
        session.add(caller)
        session.commit()
    ReadModelManager(postgres_engine, Base).catch_up()
    yield postgres_engine
    drop_roles(postgres_engine, *ROLES.names())


def anonymise_in(engine: Engine) -> None:
    is_finished = False
    while not is_finished:
        with Session(engine) as session:
            events: Any = EventStore(session, Base).events
            is_finished = anonymise(events, ["name"], lambda _field: "-", name="all", reason="retention").is_finished
            session.commit()


def test_the_officer_anonymises_and_nobody_else(callers: Engine) -> None:
    for role in (ROLES.app, ROLES.worker, ROLES.reader):
        with connected_as(callers, role) as engine, pytest.raises(DBAPIError, match="permission denied"):
            anonymise_in(engine)
    with connected_as(callers, ROLES.privacy_officer) as engine:
        anonymise_in(engine)
    with Session(callers) as session:
        assert session.get_one(Caller, "c-1").name == "-"
        assert session.scalars(select(Callers.name)).all() == session.scalars(select(StrongCallers.name)).all() == ["-"]
        assert "Annabelle" not in str(session.execute(text("SELECT * FROM events")).all())
    assert verify(callers, Base, only=["roles"]).findings == ()
