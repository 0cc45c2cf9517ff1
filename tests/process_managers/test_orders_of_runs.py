"""Whatever the order in which events come, workers wake and transactions end: who has paid in time is never cancelled."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from sa_eventsource import RetryPolicy, Worker
from tests.committing import commit_events
from tests.process_managers.bookings import BOOKED, Account, Base, Booking, Stay, paid

COMMANDS = Base.metadata.tables["commands"]
EVENTS = Base.metadata.tables["events"]
NAME = "bookings.Stay"

changes = st.permutations([(action, number) for action in ("begin to pay", "commit", "deadline") for number in range(2)])
runs = st.lists(st.sampled_from(["none", "follow", "run commands", "both"]), min_size=6, max_size=6)
examples = itertools.count()


class Story:
    """Two bookings, and what is known of each."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ids = [f"{next(examples)}-{number}" for number in range(2)]
        self.paid_at: dict[str, datetime] = {}
        self.due_at: dict[str, datetime] = {}
        self.open: dict[str, Session] = {}
        for each in self.ids:
            commit_events(engine, Booking, each, BOOKED)
        self.work(NAME)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.open.values():
            each.close()

    def work(self, *only: str) -> None:
        Worker(self.engine, Base, only=only, retries=RetryPolicy(attempts=1)).run_once()

    def begin_to_pay(self, booking: str) -> None:
        """Record a payment; unless others could not write meanwhile, leave the transaction open."""
        session = Session(self.engine)
        account = Account(id=f"account of {booking}")
        account.apply_event(paid(booking))
        session.add(account)
        session.flush()
        paid_at = session.scalar(select(EVENTS.c.recorded_at).where(EVENTS.c.aggregate_id == account.id))
        assert paid_at is not None
        self.paid_at[booking] = paid_at
        self.open[booking] = session
        if self.engine.dialect.name == "sqlite":
            self.commit(booking)

    def commit(self, booking: str) -> None:
        session = self.open.pop(booking, None)
        if session is not None:
            session.commit()
            session.close()

    def deadline(self, booking: str) -> None:
        """Have the time for the payment end now."""
        with self.engine.begin() as connection:
            of_booking = (COMMANDS.c.process_id == booking, COMMANDS.c.status == "scheduled")
            connection.execute(update(COMMANDS).where(*of_booking).values(due_at=datetime.now(UTC)))
            self.due_at[booking] = connection.scalars(select(COMMANDS.c.due_at).where(*of_booking)).one()

    def stages(self) -> dict[str, str]:
        with Session(self.engine) as session:
            return {each: session.get_one(Stay, each).stage for each in self.ids}

    def is_in_time(self, booking: str) -> bool:
        """Whether a payment was recorded before the deadline, or there is none so far."""
        paid_at, due_at = self.paid_at.get(booking), self.due_at.get(booking)
        return paid_at is not None and (due_at is None or paid_at <= due_at)

    def check(self) -> None:
        stages = self.stages()
        assert not [each for each in self.ids if self.is_in_time(each) and stages[each] == "cancelled"]


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(changes=changes, runs=runs)
def test_who_has_paid_in_time_is_never_cancelled(changes: list[tuple[str, int]], runs: list[str], engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Story(engine) as told:
        for (change, number), run in zip(changes, runs, strict=True):
            match change:
                case "begin to pay":
                    told.begin_to_pay(told.ids[number])
                case "commit":
                    told.commit(told.ids[number])
                case _:
                    told.deadline(told.ids[number])
            if run in ("follow", "both"):
                told.work(NAME)
            if run in ("run commands", "both"):
                told.work("commands")
            told.check()
        for booking in told.ids:
            told.commit(booking)
        for _ in range(2):
            told.work(NAME, "commands")
        told.check()
        stages = told.stages()
        assert "waiting" not in stages.values()
        assert all(stages[each] == "paid" for each in told.ids if told.is_in_time(each))
        with engine.connect() as connection:
            assert connection.scalar(select(func.count()).select_from(COMMANDS).where(COMMANDS.c.status != "done")) == 0
