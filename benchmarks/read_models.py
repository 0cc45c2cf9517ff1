"""Measure read models: ``python -m benchmarks.read_models [--url URL] [--rounds N] [--events N]``.

What strong models add to a commit, as a ratio to the same commit without them; and what catching up and rebuilding reach, against
the statement that a careful person would write by hand for the same rows. The contenders take turns; the table shows medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import date  # noqa: TC003 - in an annotation that is read
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.databases import empty_database
from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventReplayer,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    evolves,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.read_models import count, day, sum_

if TYPE_CHECKING:
    from collections.abc import Callable


class Base(DeclarativeBase):
    """Declarative base of the benchmark."""


class Submitted(DomainEvent):
    """The first event of a stream."""

    customer_id: str
    amount: Decimal


class Moved(DomainEvent):
    """One of the many that follow."""

    step: str
    employee: int


class Closed(DomainEvent):
    """The last one."""


class PlainPlaced(DomainEvent):
    """An event that no read model takes."""

    customer_id: str
    total: Decimal


class ModelledPlaced(DomainEvent):
    """An event that three strong models take."""

    customer_id: str
    total: Decimal


class ListedPlaced(DomainEvent):
    """An event that one strong model takes."""

    customer_id: str
    total: Decimal


class Thing(AggregateRoot, Base):
    """An aggregate without state."""

    __ignored_events__ = (Submitted, Moved, Closed, PlainPlaced, ModelledPlaced, ListedPlaced)


class ListedOrders(ReadModel, Base):
    """A list, strong."""

    __consistency__ = "strong"
    id: Mapped[str]
    customer_id: Mapped[str] = map_from_event(ListedPlaced)
    total: Mapped[Decimal] = map_from_event(ListedPlaced)
    status: Mapped[str] = map_from_event({ListedPlaced: "pending"})


class ModelledOrders(ReadModel, Base):
    """The first of three."""

    __consistency__ = "strong"
    id: Mapped[str]
    customer_id: Mapped[str] = map_from_event(ModelledPlaced)
    total: Mapped[Decimal] = map_from_event(ModelledPlaced)


class ModelledCustomers(ReadModel, Base):
    """The second: some rows change with every commit."""

    __consistency__ = "strong"
    customer_id: Mapped[str] = map_from_event(ModelledPlaced, key=True)
    total: Mapped[Decimal] = map_from_event(ModelledPlaced, reduce=sum_())


class ModelledDays(ReadModel, Base):
    """The third: one row changes with every commit."""

    __consistency__ = "strong"
    day: Mapped[date] = map_from_event(key=True, source=day())
    number: Mapped[int] = map_from_event(ModelledPlaced, reduce=count())


class Applications(ReadModel, Base):
    """A list of all streams, to be caught up and rebuilt."""

    id: Mapped[str]
    status: Mapped[str] = map_from_event({Submitted: "open", Closed: "closed"})
    amount: Mapped[Decimal] = map_from_event(Submitted)
    last_activity: Mapped[str] = map_from_event(Submitted, Moved, Closed, source="event_type")
    employee: Mapped[int] = map_from_event(Moved)


class StepCount(ReadModel, Base):
    """Counted by a handler, one row changed with each event."""

    __tablename__ = "benchmark_step_counts"
    employee: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Moved)
    def _moved(cls, event: RecordedEvent[Moved], session: Session) -> None:
        load_for_update(session, cls, event.event.employee).number += 1


class _Evolved:
    """A row a stream, changed by a method with each event."""

    id: Mapped[str]
    steps: Mapped[int] = mapped_column(default=0)
    step: Mapped[str] = mapped_column(default="")
    is_slow: Mapped[bool] = mapped_column(default=False)

    @evolves(Moved)
    def _moved(self, recorded: RecordedEvent[Moved]) -> None:
        self.steps += 1
        self.step = recorded.event.step
        self.is_slow = self.steps > _SLOW


class EvolvedThings(_Evolved, ReadModel, Base):
    """In a table of its own."""

    __tablename__ = "benchmark_evolved_things"


class SharedThings(_Evolved, ReadModel, Base):
    """In the shared table."""


_SLOW = 15

_BY_HAND = """
INSERT INTO projections (id, projection_name, data, version, created_at, updated_at)
SELECT aggregate_id, 'by hand', jsonb_build_object(
    'id', aggregate_id,
    'status', (array_agg(CASE event_type WHEN 'Submitted' THEN 'open' ELSE 'closed' END ORDER BY position DESC)
               FILTER (WHERE event_type IN ('Submitted', 'Closed')))[1],
    'amount', (array_agg((event_data->>'amount')::numeric ORDER BY position DESC) FILTER (WHERE event_type = 'Submitted'))[1],
    'last_activity', (array_agg(event_type ORDER BY position DESC))[1],
    'employee', (array_agg((event_data->>'employee')::int ORDER BY position DESC) FILTER (WHERE event_type = 'Moved'))[1]),
  count(*), min(occurred_at), max(occurred_at)
FROM events WHERE event_type IN ('Submitted', 'Moved', 'Closed') AND position > :after AND position <= :upto
GROUP BY aggregate_id
"""
_MERGED_BY_HAND = (
    _BY_HAND
    + """
ON CONFLICT (id, projection_name) DO UPDATE SET data = projections.data || jsonb_strip_nulls(excluded.data),
  version = projections.version + excluded.version, updated_at = greatest(projections.updated_at, excluded.updated_at)
"""
)

_LOG = """
INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at)
SELECT gen_random_uuid(), 'Thing', 'application-' || stream, version,
    CASE version WHEN 1 THEN 'Submitted' WHEN 20 THEN 'Closed' ELSE 'Moved' END, 1,
    CASE version WHEN 1 THEN jsonb_build_object('customer_id', 'c-' || stream % 1000, 'amount', (stream % 900) || '.50')
        WHEN 20 THEN '{}' ELSE jsonb_build_object('step', 'step-' || version, 'employee', stream % 60 + version) END,
    timestamptz '2026-01-01' + stream * interval '1 minute' + version * interval '1 hour'
FROM generate_series(1, :streams) AS stream, generate_series(1, 20) AS version ORDER BY version, stream
"""


def commits(engine: Engine, event_class: Any, aggregates: int, times: int) -> float:
    """Seconds for a commit of so many new aggregates with one event each."""
    start = time.perf_counter()
    for _ in range(times):
        with Session(engine) as session:
            for number in range(aggregates):
                thing = Thing()
                thing.apply_event(event_class(customer_id=f"c-{number}", total=Decimal("12.50")))
                session.add(thing)
            session.commit()
    return (time.perf_counter() - start) / times


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_commits(engine: Engine, table: Table, rounds: int) -> None:
    """What strong models add to a commit."""
    for title, aggregates, with_models, target in (
        ("one event, one strong model", 1, ListedPlaced, "0.70"),
        ("ten aggregates, three strong models", 10, ModelledPlaced, ""),
    ):
        ratios, times = [], []
        for number in range(rounds + 1):
            without = commits(engine, PlainPlaced, aggregates, 100)
            with_them = commits(engine, with_models, aggregates, 100)
            if number:  # the first warms up
                ratios.append(without / with_them)
                times.append((without, with_them))
        plain, modelled = (statistics.median(each) * 1e6 for each in zip(*times, strict=True))
        table.add_row(title, f"{plain:,.0f} µs", f"{modelled:,.0f} µs", f"{statistics.median(ratios):.2f}", target)


def forget(engine: Engine) -> None:
    """Delete the rows that were made of the log."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DELETE FROM projections"))
        connection.execute(text("TRUNCATE benchmark_evolved_things"))
        connection.execute(text("DELETE FROM projection_positions"))
        connection.execute(text("VACUUM ANALYZE projections"))


def measure_log(engine: Engine, table: Table, rounds: int, number: int) -> None:
    """Catching up and rebuilding, against statements written by hand."""
    manager = ReadModelManager(engine, Base)
    with engine.begin() as connection:
        connection.execute(text(_LOG), {"streams": number // 20})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE events"))
        first, last = connection.execute(
            text("SELECT min(position) - 1, max(position) FROM events WHERE event_type <> 'PlainPlaced'")
        ).one()
    batch = 50_000

    def by_hand() -> None:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM projections WHERE projection_name = 'by hand'"))
            connection.execute(text(_BY_HAND), {"after": first, "upto": last})

    def batches_by_hand() -> None:
        for after in range(first, last, batch):
            with engine.begin() as connection:
                connection.execute(text(_MERGED_BY_HAND), {"after": after, "upto": after + batch})

    for title, mine, theirs, target in (
        ("rebuild", lambda: EventReplayer(engine, Base).rebuild(Applications), by_hand, "0.80"),
        (f"catch-up, {batch:,} events a batch", lambda: manager.catch_up(Applications, batch_size=batch), batches_by_hand, "0.40"),
    ):
        times = []
        for count_of_rounds in range(rounds + 1):
            forget(engine)
            hand = seconds(theirs)
            forget(engine)
            ours = seconds(mine)
            if count_of_rounds:
                times.append((hand, ours))
        hand, ours = (statistics.median(each) for each in zip(*times, strict=True))
        ratio = statistics.median(theirs_took / ours_took for theirs_took, ours_took in times)
        table.add_row(f"{title}: {number / ours:,.0f} events/s", f"{hand:.2f} s", f"{ours:.2f} s", f"{ratio:.2f}", target)


def measure_methods(engine: Engine, table: Table, rounds: int, number: int) -> None:
    """Rebuilding and catching up with methods in Python, which get each event."""
    replayer, manager = EventReplayer(engine, Base), ReadModelManager(engine, Base)
    for title, work, target in (
        ("rebuild with a handler, 78 rows", partial(replayer.rebuild, StepCount), "5,000/s"),
        ("rebuild with @evolves, a row a stream, own table", partial(replayer.rebuild, EvolvedThings), "15,000/s"),
        ("rebuild with @evolves, a row a stream, shared table", partial(replayer.rebuild, SharedThings), "15,000/s"),
        ("catch-up with @evolves, a row a stream, own table", partial(manager.catch_up, EvolvedThings), "10,000/s"),
        ("catch-up with @evolves, a row a stream, shared table", partial(manager.catch_up, SharedThings), "10,000/s"),
    ):
        times = []
        for _ in range(rounds):
            forget(engine)
            times.append(seconds(work))
        ours = statistics.median(times)
        table.add_row(f"{title}: {number // 20 * 18 / ours:,.0f} events/s", "", f"{ours:.2f} s", "", target)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty database to use instead of an embedded PostgreSQL")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=262_200)
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    arguments = parser.parse_args()
    with empty_database(arguments.url, durable=arguments.durable) as engine:
        Base.metadata.create_all(engine)
        table = Table("what", "without / by hand", "with read models", "ratio", "target")
        measure_log(engine, table, arguments.rounds, arguments.events)
        measure_methods(engine, table, arguments.rounds, arguments.events)
        measure_commits(engine, table, arguments.rounds)
        Console().print(table)
        Base.metadata.drop_all(engine)


if __name__ == "__main__":
    main()
