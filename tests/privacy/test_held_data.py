"""What is held of someone, and of nobody else."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, MetaData, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    Personal,
    ReadModel,
    ReadModelManager,
    async_personal_data,
    forget,
    map_from_event,
    personal_data,
)
from sa_eventsource.mapping import find_tables
from tests.parameters import plainly
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Guest(BaseModel):
    guest: str
    name: Annotated[str | None, Personal(subject="guest")] = None


class Booked(DomainEvent):
    __event_type__ = "held_data.Booked"

    room: int
    name: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]
    guests: list[Guest] = []


class Booking(AggregateRoot, Base):
    __aggregate_type__ = "held_data.Booking"
    __ignored_events__ = (Booked,)


class Names(ReadModel, Base):
    __projection_name__ = "held_data.names"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(Booked, key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(Booked)


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def book(session: Session) -> None:
    booking = Booking(id="b-1")
    booking.apply_event(Booked(room=7, name="Ann", guests=[Guest(guest="g-1", name="Bob"), Guest(guest="g-2", name="Cid")]))
    session.add(booking)
    session.commit()


def test_what_is_held_of_someone_is_listed_and_nothing_of_others(engine: Engine) -> None:
    with Session(engine) as session:
        book(session)
        ReadModelManager(engine, Base).catch_up()
        ann, bob = (personal_data(session, each, base=Base) for each in ("b-1", "g-1"))
        assert "Cid" not in json.dumps([ann, bob])
        (event,) = json.loads(json.dumps(ann["events"]))
        assert (event["aggregate_id"], event["version"], event["event_type"]) == ("b-1", 1, "held_data.Booked")
        assert event["data"] == {"name": "Ann"}
        (of_bob,) = json.loads(json.dumps(bob["events"]))
        assert of_bob["data"] == {"guests.0.name": "Bob"}
        (row,) = json.loads(json.dumps(ann["read_models"]))["held_data.names"]
        assert (row["id"], row["name"]) == ("b-1", "Ann")
        forget(session, "b-1", reason="asked", base=Base)
        assert personal_data(session, "b-1", base=Base) == {
            "subject": "b-1",
            "is_forgotten": True,
            "events": [],
            "read_models": {"held_data.names": []},
        }
        assert personal_data(session, "nobody", base=Base)["is_forgotten"] is False


async def test_an_async_session_lists_it(async_engine: AsyncEngine) -> None:
    async with AsyncSession(async_engine) as session:
        await session.run_sync(book)
        held = await async_personal_data(session, "g-2", base=Base)
        assert '{"guests.1.name": "Cid"}' in json.dumps(held)


LOOK_ALIKE = (
    *("1", "10", "01", " 1", "1 ", "11"),
    *("a%", "ab", "a_", "a\\b", "a\\%", "%", "_", "\\", "A%"),
    *("é", "e\u0301", "\\u00e9", "É"),
    *('"', "'", "x' OR '1'='1", "a\nb", "\x7f", "💐", "🌸"),
)
"""Subjects of which one could be taken for another: by LIKE, by JSON's escapes, by cases, by forms of one letter."""


@pytest.fixture
def guests(engine: Engine) -> Engine:
    """Of each subject, an event of a stream of its own, and one among those of all others."""
    with Session(engine) as session:
        party = Booking(id="party")
        everybody = [Guest(guest=each, name=f"<{number}>") for number, each in enumerate(LOOK_ALIKE)]
        party.apply_event(Booked(room=0, name="Host", guests=everybody))
        session.add(party)
        for number, each in enumerate(LOOK_ALIKE):
            booking = Booking(id=each)
            booking.apply_event(Booked(room=number, name=f"[{number}]"))
            session.add(booking)
        session.commit()
    return engine


def _held(session: Session, subject: str) -> tuple[set[str], set[str]]:
    """Give the values that are held of someone, and the streams they are in."""
    events: Any = personal_data(session, subject, base=Base)["events"]
    return {value for each in events for value in each["data"].values()}, {each["aggregate_id"] for each in events}


def test_nobody_is_taken_for_one_who_looks_alike(guests: Engine) -> None:
    with Session(guests) as session:
        for number, subject in enumerate(LOOK_ALIKE):
            assert _held(session, subject) == ({f"[{number}]", f"<{number}>"}, {subject, "party"})
        assert _held(session, "a") == (set(), set())


@pytest.mark.parametrize("forgotten", ["1", "a%", "_", "\\", "é", "x' OR '1'='1"], ids=plainly)
def test_nor_is_anybody_forgotten_with_one_who_looks_alike(guests: Engine, forgotten: str) -> None:
    ReadModelManager(guests, Base).catch_up()
    with Session(guests) as session:
        forget(session, forgotten, reason="asked", base=Base)
        session.commit()
        for number, subject in enumerate(LOOK_ALIKE):
            held, _ = _held(session, subject)
            assert held == (set() if subject == forgotten else {f"[{number}]", f"<{number}>"})
            name = session.scalars(select(Names.name).where(Names.id == subject)).one()
            assert name == ("(forgotten)" if subject == forgotten else f"[{number}]")


def test_an_event_that_only_mentions_a_key_is_not_listed(engine: Engine) -> None:
    with Session(engine) as session:
        book(session)
        keys = find_tables(Base.metadata)
        assert keys is not None
        assert keys.subject_keys is not None
        key_id = session.scalars(select(keys.subject_keys.c.key_id).where(keys.subject_keys.c.subject == "g-1")).one()
        other = Booking(id="b-2")
        other.apply_event(Booked(room=8, name="Dan", guests=[Guest(guest=key_id.hex)]))  # in clear, whose it is
        session.add(other)
        session.commit()
        assert _held(session, "g-1") == ({"Bob"}, {"b-1"})
