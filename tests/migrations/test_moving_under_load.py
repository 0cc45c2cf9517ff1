"""A log that is moved into partitions and out of them while it is written to and followed: all wait, and nothing else changes."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine, MetaData, Table, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    ConcurrencyError,
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
from tests.shop import AnyTill, Sold
from tests.waiting import wait_until


class Base(DeclarativeBase):
    """Base of a log that its processes know as one without partitions, also when it has some."""

    __eventsource__ = EventSourceOptions(partitions=None)


class Till(AnyTill, Base):
    """What is written to all the time."""

    __aggregate_type__ = "moving.Till"


class Sales(ReadModel, Base):
    """All marks, in their order."""

    __projection_name__ = "moving.sales"
    id: Mapped[str]
    marks: Mapped[list[str]] = map_from_event(Sold, reduce=append("what"))


class Receipt(Base):
    """A row for each event that the subscription was given."""

    __tablename__ = "moving_receipts"
    id: Mapped[int] = mapped_column(primary_key=True)
    mark: Mapped[str]


@subscribe("moving.receipts", Sold, base=Base)
def receive(recorded: RecordedEvent[Sold], session: Session) -> None:
    session.add(Receipt(mark=recorded.event.what))


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
                    till_id = f"t-{len(marks) % 3}"
                    till = session.get(Till, till_id) or Till(id=till_id)
                    session.add(till)
                    till.apply_event(Sold(what=mark))
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
        assert sorted(each.event.what for each in recorded) == marks
        assert sorted(session.scalars(select(Receipt.mark))) == marks
        for sales in session.scalars(select(Sales)):
            assert list(sales.marks) == [each.event.what for each in recorded if each.aggregate_id == sales.id]
    assert conflicts.total()
    assert [str(each) for each in verify(engine, Base).findings] == []


def taken(engine: Engine) -> int:
    with Session(engine) as session:
        receipts = session.scalar(select(func.count()).select_from(Receipt)) or 0
        sales = sum(len(each.marks) for each in session.scalars(select(Sales)))
    return min(receipts, sales)
