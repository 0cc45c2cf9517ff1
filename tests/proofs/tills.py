"""Tills where unique marks are sold, so that each event can be told from all others; and who sells in a process of its own."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource.session.retry import is_conflict, retry_on_conflict
from tests.bank import AnyAccount
from tests.shop import AnyTill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from tests.proofs.cutting import Points


class Base(DeclarativeBase):
    """Base of the proofs' classes."""


class Till(AnyTill, Base):
    """Without snapshots."""

    __aggregate_type__ = "proofs.Till"


class SnapshotTill(AnyTill, Base):
    """With a snapshot every third event."""

    __aggregate_type__ = "proofs.SnapshotTill"
    __snapshot_frequency__ = 3


class Account(AnyAccount, Base):
    """Its balance counts what ``retry_on_conflict`` lets through."""

    __aggregate_type__ = "proofs.Account"


def transaction_marks(name: str, till_ids: Sequence[str], events: int) -> dict[str, list[str]]:
    """Name the marks of one transaction, by till: the transaction, and its size, so that a torn one shows."""
    size = len(till_ids) * events
    return {each: [f"{name}/{size}/{each}/{number}" for number in range(events)] for each in till_ids}


def append_all(session: Session, marks: dict[str, list[str]], savepoint: str) -> None:
    """Load or make each till and sell its marks there; *savepoint* is ``none``, ``kept``, or ``dropped`` with marks to be lost."""
    for till_id, entries in marks.items():
        till = session.get(Till, till_id)
        if till is None:
            till = Till(id=till_id)
            session.add(till)
        if savepoint == "dropped" and till.version:
            with_loss = session.begin_nested()
            till.sell("lost")
            session.flush()
            with_loss.rollback()
        if savepoint == "kept" and till.version:
            with session.begin_nested():
                till.sell(entries[0])
            till.sell(*entries[1:])
        else:
            till.sell(*entries)


def write_transactions(engine: Engine, task: dict[str, Any], points: Points) -> None:
    """Commit transactions until the task's count is reached or the server is gone, and tell each outcome."""
    chance = random.Random(task["seed"])
    for number in range(task["count"]):
        ids = sorted(chance.sample(task["tills"], chance.randint(1, min(3, len(task["tills"])))))
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


def count_up(engine: Engine, account_id: str, times: int) -> None:
    """Put money into one account, in a transaction each, retrying when another wrote first."""

    @retry_on_conflict(attempts=500, initial_wait=0.002, max_wait=0.05)
    def add_one() -> None:
        with Session(engine) as session:
            session.get_one(Account, account_id).deposit()
            session.commit()

    for _ in range(times):
        add_one()


def run_task(points: Points, task: dict[str, Any]) -> None:
    """Write as the task says, and then count."""
    engine = create_engine(task["url"], isolation_level=task.get("isolation_level", "READ COMMITTED"))
    points.watch(engine)
    write_transactions(engine, task, points)
    if "account" in task:
        count_up(engine, task["account"], task["times"])
    engine.dispose()
