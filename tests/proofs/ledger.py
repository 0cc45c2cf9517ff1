"""The aggregates of the proofs, and a writer that can run in a process of its own."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from pydantic import Field
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DomainEvent, applies
from sa_eventsource.session.retry import is_conflict, retry_on_conflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from tests.proofs.cutting import Points


class Base(DeclarativeBase):
    """Base of the proofs' classes."""


class Entered(DomainEvent):
    """A mark was written into a ledger; marks are unique, so that each event can be told from all others."""

    __event_type__ = "proofs.Entered"
    mark: str


class Added(DomainEvent):
    """A counter went up by one."""

    __event_type__ = "proofs.Added"


class AnyLedger(AggregateRoot, Base):
    """Its state is the list of all its events' marks."""

    __abstract__ = True
    marks: list[str] = Field(default_factory=list)

    def enter(self, *marks: str) -> None:
        """Write marks, one event each."""
        for mark in marks:
            self.apply_event(Entered(mark=mark))

    @applies(Entered)
    def _entered(self, event: Entered) -> None:
        self.marks = [*self.marks, event.mark]


class Ledger(AnyLedger):
    """Without snapshots."""

    __aggregate_type__ = "proofs.Ledger"


class SnapshotLedger(AnyLedger):
    """With a snapshot every third event."""

    __aggregate_type__ = "proofs.SnapshotLedger"
    __snapshot_frequency__ = 3


class Counter(AggregateRoot, Base):
    """Counts what ``retry_on_conflict`` lets through."""

    __aggregate_type__ = "proofs.Counter"
    total: int = 0

    @applies(Added)
    def _added(self, _event: Added) -> None:
        self.total += 1


def transaction_marks(name: str, ledger_ids: Sequence[str], events: int) -> dict[str, list[str]]:
    """Name the marks of one transaction, by ledger: the transaction, and its size, so that a torn one shows."""
    size = len(ledger_ids) * events
    return {each: [f"{name}/{size}/{each}/{number}" for number in range(events)] for each in ledger_ids}


def append_all(session: Session, marks: dict[str, list[str]], savepoint: str) -> None:
    """Load or make each ledger and enter its marks; *savepoint* is ``none``, ``kept``, or ``dropped`` with marks to be lost."""
    for ledger_id, entries in marks.items():
        ledger = session.get(Ledger, ledger_id)
        if ledger is None:
            ledger = Ledger(id=ledger_id)
            session.add(ledger)
        if savepoint == "dropped" and ledger.version:
            with_loss = session.begin_nested()
            ledger.enter("lost")
            session.flush()
            with_loss.rollback()
        if savepoint == "kept" and ledger.version:
            with session.begin_nested():
                ledger.enter(entries[0])
            ledger.enter(*entries[1:])
        else:
            ledger.enter(*entries)


def write_transactions(engine: Engine, task: dict[str, Any], points: Points) -> None:
    """Commit transactions until the task's count is reached or the server is gone, and tell each outcome."""
    chance = random.Random(task["seed"])
    for number in range(task["count"]):
        ids = sorted(chance.sample(task["ledgers"], chance.randint(1, min(3, len(task["ledgers"])))))
        name = f"{task['name']}-{number}"
        marks = transaction_marks(name, ids, chance.randint(1, task["events"]))
        savepoint = chance.choice(["none", "none", "kept", "dropped"])
        try:
            with Session(engine) as session:
                append_all(session, marks, savepoint)
                session.commit()
        except Exception as error:
            if not is_conflict(error):
                raise
            points.say("conflict", name)
        else:
            points.reach("committed")
            points.say("committed", name)


def count_up(engine: Engine, counter_id: str, times: int) -> None:
    """Add to one counter, in a transaction each, retrying when another wrote first."""

    @retry_on_conflict(attempts=500, initial_wait=0.002, max_wait=0.05)
    def add_one() -> None:
        with Session(engine) as session:
            session.get_one(Counter, counter_id).apply_event(Added())
            session.commit()

    for _ in range(times):
        add_one()


def run_task(points: Points, task: dict[str, Any]) -> None:
    """Write as the task says, and then count."""
    engine = create_engine(task["url"], isolation_level=task.get("isolation_level", "READ COMMITTED"))
    points.watch(engine)
    write_transactions(engine, task, points)
    if "counter" in task:
        count_up(engine, task["counter"], task["times"])
    engine.dispose()
