"""Strong read models of a partitioned log: whoever writes the first rows, in whichever partitions, waits for nobody."""

from __future__ import annotations

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, ReadModel, map_from_event, verify


class Base(DeclarativeBase):
    """Base of a log with four partitions."""

    __eventsource__ = EventSourceOptions(partitions=4)


class Launched(DomainEvent):
    """A boat was launched."""

    __event_type__ = "partitions.Launched"
    name: str


class Boat(AggregateRoot[str], Base):
    """A boat."""

    __aggregate_type__ = "partitions.Boat"
    __ignored_events__ = (Launched,)


class Boats(ReadModel, Base):
    """A row a boat."""

    __projection_name__ = "partitions.boats"
    __consistency__ = "strong"
    id: Mapped[str]
    name: Mapped[str] = map_from_event(Launched)


def test_the_first_events_of_several_transactions_at_once(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    sessions = [Session(postgres_engine) for _ in range(6)]  # more than there are partitions
    for number, session in enumerate(sessions):
        session.execute(text("SET LOCAL lock_timeout = '10s'"))
        session.add(boat := Boat(id=f"b-{number}"))
        boat.apply_event(Launched(name="Nina"))
        session.flush()
    for session in sessions:
        session.commit()
        session.close()
    assert verify(postgres_engine, Base).findings == ()
