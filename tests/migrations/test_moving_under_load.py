"""A log that is moved into partitions and out of them while it is written to and followed: all wait, and nothing else changes."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine, MetaData, Table, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    ConcurrencyError,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    ReadModel,
    RecordedEvent,
    Worker,
    map_from_event,
    subscribe,
    verify,
)
from sa_eventsource.migrations.repartition import repartition
from sa_eventsource.read_models import append
from tests.waiting import wait_until


class Base(DeclarativeBase):
    """Base of a log that its processes know as one without partitions, also when it has some."""

    __eventsource__ = EventSourceOptions(partitions=None)


class Hauled(DomainEvent):
    """Something was hauled."""

    __event_type__ = "moving.Hauled"
    mark: str


class Truck(AggregateRoot[str], Base):
    """By whom."""

    __aggregate_type__ = "moving.Truck"
    __ignored_events__ = (Hauled,)


class Hauls(ReadModel, Base):
    """All marks, in their order."""

    __projection_name__ = "moving.hauls"
    id: Mapped[str]
    marks: Mapped[list[str]] = map_from_event(Hauled, reduce=append("mark"))


class Receipt(Base):
    """A row for each event that the subscription was given."""

    __tablename__ = "moving_receipts"
    id: Mapped[int] = mapped_column(primary_key=True)
    mark: Mapped[str]


@subscribe("moving.receipts", Hauled, base=Base)
def receive(recorded: RecordedEvent[Hauled], session: Session) -> None:
    session.add(Receipt(mark=recorded.event.mark))


def move(engine: Engine, partitions: int | None) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE events DROP CONSTRAINT IF EXISTS events_position_key"))
        repartition(connection, Table("events", MetaData()), partitions)
        if partitions is None:
            connection.execute(text("ALTER TABLE events ADD UNIQUE (position)"))


def test_nothing_is_lost_or_done_twice_and_conflicts_are_conflicts(postgres_engine: Engine) -> None:
    engine = postgres_engine
    Base.metadata.create_all(engine)
    stop, written, conflicts = threading.Event(), Counter[int](), Counter[int]()

    def write(writer: int) -> list[str]:
        marks: list[str] = []
        while not stop.is_set():
            mark = f"{writer}-{len(marks)}"
            try:
                with Session(engine) as session:
                    truck_id = f"t-{len(marks) % 3}"
                    truck = session.get(Truck, truck_id) or Truck(id=truck_id)
                    session.add(truck)
                    truck.apply_event(Hauled(mark=mark))
                    session.commit()
            except ConcurrencyError:
                conflicts[writer] += 1
                continue
            marks.append(mark)
            written[writer] = len(marks)
        return marks

    def all_have_written(more: int) -> None:
        before = written.copy()
        wait_until(lambda: all(written[each] >= before[each] + more for each in range(3)), "a writer does not go on")

    with ThreadPoolExecutor(3) as pool, Worker(engine, Base):
        writing = [pool.submit(write, number) for number in range(3)]
        try:
            for partitions in (4, 3, None):
                all_have_written(20)
                move(engine, partitions)
            all_have_written(20)
        finally:
            stop.set()
        marks = sorted(mark for each in writing for mark in each.result(60))
        wait_until(lambda: taken(engine) == len(marks), "the worker does not go on")
    with Session(engine) as session:
        recorded: list[Any] = EventStore(session, Base).events.all()
        assert sorted(each.event.mark for each in recorded) == marks
        assert sorted(session.scalars(select(Receipt.mark))) == marks
        for hauls in session.scalars(select(Hauls)):
            assert list(hauls.marks) == [each.event.mark for each in recorded if each.aggregate_id == hauls.id]
    assert conflicts.total()
    assert [str(each) for each in verify(engine, Base).findings] == []


def taken(engine: Engine) -> int:
    with Session(engine) as session:
        receipts = session.scalar(select(func.count()).select_from(Receipt)) or 0
        hauls = sum(len(each.marks) for each in session.scalars(select(Hauls)))
    return min(receipts, hauls)
