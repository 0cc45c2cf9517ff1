"""What is held of someone, and of nobody else."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BaseModel
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    Personal,
    ReadModel,
    ReadModelManager,
    applies,
    async_personal_data,
    forget,
    map_from_event,
    personal_data,
)
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

    @applies(Booked)
    def _booked(self, event: Booked) -> None: ...


class Names(ReadModel, Base):
    __projection_name__ = "held_data.names"
    __personal_data__ = "clear"

    name: Mapped[str] = map_from_event(Booked)


def book(session: Session) -> None:
    booking = Booking(id="b-1")
    booking.apply_event(Booked(room=7, name="Ann", guests=[Guest(guest="g-1", name="Bob"), Guest(guest="g-2", name="Cid")]))
    session.add(booking)
    session.commit()


def test_what_is_held_of_someone_is_listed_and_nothing_of_others(engine: Engine) -> None:
    Base.metadata.create_all(engine)
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
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        await session.run_sync(book)
        held = await async_personal_data(session, "g-2", base=Base)
        assert '{"guests.1.name": "Cid"}' in json.dumps(held)
