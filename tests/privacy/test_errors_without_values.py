"""What errors say, and what is kept of them, quotes no personal value; a misspelt option does not show one either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventPayloadError,
    EventSourceOptions,
    ReadModel,
    RetryPolicy,
    Worker,
    map_from_event,
)
from sa_eventsource.events import Personal
from sa_eventsource.projections.failures import error_text
from tests.privacy.keys import MASTER_KEYS

SECRET = "ann.secret@example.com"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Joined(DomainEvent):
    __event_type__ = "errors_without_values.Joined"

    email: Annotated[str, Personal(subject="aggregate_id", placeholder="(gone)")]


class Member(AggregateRoot, Base):
    __aggregate_type__ = "errors_without_values.Member"
    __ignored_events__ = (Joined,)


class Directory(ReadModel, Base):
    __tablename__ = "members_without_values"
    __projection_name__ = "members_without_values"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(Joined, key=True, source="aggregate_id")
    email: Mapped[str] = map_from_event(Joined)


@pytest.fixture
def engine(postgres_engine: Engine) -> Engine:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        member = Member(id="m-1")
        member.apply_event(Joined(email=SECRET))
        session.add(member)
        session.commit()
    return postgres_engine


def kept_errors(engine: Engine) -> Iterator[str]:
    with engine.connect() as connection:
        for table in ("projection_positions", "parked_events"):
            yield from connection.scalars(text(f"SELECT error FROM {table} WHERE error IS NOT NULL"))


def test_an_event_that_does_not_fit_its_class_is_kept_without_its_values() -> None:
    class Whole(DomainEvent):
        __event_type__ = "errors_without_values.Whole"

        count: int

    with pytest.raises(ValueError, match="count") as caught:
        Whole.model_validate_json(f'{{"count": "{SECRET}"}}')
    kept = error_text(caught.value)
    assert "int_parsing" in kept
    assert SECRET not in kept


def test_a_row_that_the_database_refuses_is_kept_without_its_values(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE members_without_values ADD CHECK (length(email) < 5)")
    Worker(engine, Base, retries=RetryPolicy(attempts=1)).run_once()
    (kept,) = kept_errors(engine)
    assert "INSERT INTO members_without_values" in kept
    assert "parameters hidden" in kept


@pytest.mark.parametrize("value", [[SECRET], b"\xff" + SECRET.encode()])
def test_an_event_that_cannot_be_written_is_refused_without_its_value(value: object) -> None:
    with pytest.raises(EventPayloadError, match=r"Joined\.email") as caught:
        Member(id="m-2").apply_event(Joined.model_construct(email=value))
    assert SECRET not in error_text(caught.value)


@pytest.mark.parametrize("chosen", ["maskd", "MASKED", False])
def test_a_misspelt_option_is_refused(engine: Engine, chosen: object) -> None:
    with Session(engine.execution_options(personal_data=chosen)) as session, pytest.raises(TypeError, match="neither"):
        session.get(Member, "m-1")


def test_the_option_of_a_statement_is_refused(engine: Engine) -> None:
    with Session(engine) as session:
        with pytest.raises(TypeError, match="no option of a statement"):
            session.get(Member, "m-1", execution_options={"personal_data": "masked"})
        with pytest.raises(TypeError, match="no option of a statement"):
            session.scalars(select(Member).execution_options(personal_data="masked"))
