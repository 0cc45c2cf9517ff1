"""Measure personal data: ``python -m benchmarks.personal [--url URL] [--rounds N] [--events N]``.

What encrypting values costs: the same events are appended and loaded with their fields marked as personal and without the marks.
The two take turns within each round, and what counts is the ratio of the times in the same round; the table shows the median over
the rounds, and the lowest and the highest. Beside other work, only the processor's time counts, measured of this process alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias
from uuid import UUID, uuid4

from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.databases import circumstances, empty_database
from sa_eventsource import AggregateRoot, DomainEvent, EnvironmentKeys, EventSourceOptions, EventStore, Personal, applies

if TYPE_CHECKING:
    from sqlalchemy import Engine

_VARIABLE = "SA_EVENTSOURCE_BENCHMARK_KEYS"
os.environ.setdefault(_VARIABLE, "benchmark:" + b64encode(os.urandom(32)).decode())

Work: TypeAlias = Callable[[], object]


class Base(DeclarativeBase):
    """Declarative base of the benchmark."""

    __eventsource__ = EventSourceOptions(master_keys=EnvironmentKeys(_VARIABLE))


class PlainContact(DomainEvent):
    """An event of which nothing is marked."""

    __event_type__ = "benchmarks.personal.PlainContact"
    customer_id: str
    channel: str
    email: str
    name: str


class OneField(DomainEvent):
    """The same event, of which one field is personal."""

    __event_type__ = "benchmarks.personal.OneField"
    customer_id: str
    channel: str
    email: Annotated[str, Personal(subject="customer_id", placeholder="")]
    name: str


class TwoFields(DomainEvent):
    """The same event, of which two fields are personal."""

    __event_type__ = "benchmarks.personal.TwoFields"
    customer_id: str
    channel: str
    email: Annotated[str, Personal(subject="customer_id", placeholder="")]
    name: Annotated[str, Personal(subject="customer_id", placeholder="")]


class Contacts(AggregateRoot[UUID], Base):
    """An aggregate that counts its events."""

    __aggregate_type__ = "benchmarks.personal.Contacts"

    count: int = 0
    last: str = ""

    @applies(PlainContact)
    def _plain(self, event: PlainContact) -> None:
        self.count += 1
        self.last = event.email

    @applies(OneField)
    def _one(self, event: OneField) -> None:
        self.count += 1
        self.last = event.email

    @applies(TwoFields)
    def _two(self, event: TwoFields) -> None:
        self.count += 1
        self.last = event.email


class Bench:
    """What is measured on one database."""

    def __init__(self, engine: Engine, events: int) -> None:
        """Take the database, and the number of events that a stream to load has."""
        self._engine = engine
        self._events = events

    def append(self, event_class: type[Any], count: int = 1, times: int = 100) -> Work:
        """Make what stores new streams of some events, a commit each, of subjects that are known."""

        def work() -> None:
            for number in range(times):
                self._new_stream(event_class, count, [f"c-{number % 50}"])

        return work

    def load(self, event_class: type[Any], subjects: int) -> Work:
        """Make what loads an aggregate, whose events belong to so many subjects."""
        stream = self._new_stream(event_class, self._events, [f"c-{number}" for number in range(subjects)])

        def work() -> None:
            for _ in range(5):
                with Session(self._engine) as session:
                    found = session.get_one(Contacts, stream)
                    if found.count != self._events or found.last != "c-0@example.com":
                        raise AssertionError("it was not loaded")

        return work

    def read(self, event_class: type[Any]) -> Work:
        """Make what reads a stream by the event store."""
        stream = self._new_stream(event_class, self._events, ["c-0"])

        def work() -> None:
            for _ in range(5):
                with Session(self._engine) as session:
                    if len(EventStore(session, Base).events.of(Contacts, stream).all()) != self._events:
                        raise AssertionError("it was not read")

        return work

    def _new_stream(self, event_class: type[Any], count: int, subjects: Sequence[str]) -> UUID:
        with Session(self._engine) as session:
            contacts = Contacts(id=uuid4())
            for number in range(count):
                subject = subjects[(count - number - 1) % len(subjects)]
                contacts.apply_event(event_class(customer_id=subject, channel="web", email=f"{subject}@example.com", name="Ann"))
            session.add(contacts)
            stream = contacts.id
            session.commit()
            return stream


class Round(NamedTuple):
    """What a round took, in seconds."""

    plain_wall: float
    plain_here: float
    wall: float
    here: float


def compared(plain: Work, marked: Work, rounds: int) -> list[Round]:
    """Time both in turns, on the wall's clock and of the processor; the first turn warms up."""
    return [Round(*_timed(plain), *_timed(marked)) for _ in range(rounds + 1)][1:]


def _timed(work: Work) -> tuple[float, float]:
    wall, here = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - here


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty database to use instead of an embedded PostgreSQL")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--cases", default="abcdefg", help="some of the rows of the table, a letter each")
    parser.add_argument("--events", type=int, default=1000, help="events of a stream that is loaded")
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    arguments = parser.parse_args()
    table = Table("what", "ratio to the same without", "of the processor, Python", "an event, without and with", "target")
    with empty_database(arguments.url, durable=arguments.durable) as engine:
        Base.metadata.create_all(engine)
        bench, size = Bench(engine, arguments.events), arguments.events
        cases: dict[str, tuple[str, Callable[[], Work], Callable[[], Work], int, str]] = {
            "a": ("load, one field", lambda: bench.load(PlainContact, 1), lambda: bench.load(OneField, 1), 5 * size, "0.6"),
            "b": ("load, a subject each", lambda: bench.load(PlainContact, size), lambda: bench.load(OneField, size), 5 * size, ""),
            "c": ("load, two fields", lambda: bench.load(PlainContact, 1), lambda: bench.load(TwoFields, 1), 5 * size, ""),
            "d": ("read by EventStore", lambda: bench.read(PlainContact), lambda: bench.read(OneField), 5 * size, ""),
            "e": ("append one event, one field", lambda: bench.append(PlainContact), lambda: bench.append(OneField), 100, ""),
            "f": ("append one event, two fields", lambda: bench.append(PlainContact), lambda: bench.append(TwoFields), 100, "0.8"),
            "g": (
                "append 100 events, two fields",
                lambda: bench.append(PlainContact, 100, 5),
                lambda: bench.append(TwoFields, 100, 5),
                500,
                "",
            ),
        }
        for letter in arguments.cases:
            name, plain, marked, events, target = cases[letter]
            rounds = compared(plain(), marked(), arguments.rounds)
            ratios = sorted(each.plain_wall / each.wall for each in rounds)
            here = statistics.median(each.plain_here for each in rounds), statistics.median(each.here for each in rounds)
            table.add_row(
                name,
                f"{statistics.median(ratios):.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                f"{here[0] / here[1]:.2f}",
                f"{here[0] / events * 1e6:.1f} µs, {here[1] / events * 1e6:.1f} µs",
                target,
            )
        Console(width=140).print(table)
        Console(width=140).print(circumstances(engine.url))
        Base.metadata.drop_all(engine)


if __name__ == "__main__":
    main()
