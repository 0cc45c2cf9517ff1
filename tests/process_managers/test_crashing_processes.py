"""Random stories, cut off at random statements: what comes of each order is what comes of it when nothing fails."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from sa_eventsource import EventStore
from tests.databases import configure_sqlite
from tests.process_managers.fulfilment import Base, Fulfilment, Order, Payment, sold_out
from tests.process_managers.test_stories import let_work, pay, place, time_passes

ORDERS = ("o-0", "o-1", "o-2")

actions = st.one_of(
    st.tuples(st.sampled_from(["place", "pay"]), st.sampled_from(ORDERS)),
    st.tuples(st.just("time passes"), st.just("")),
)


class Crash(KeyboardInterrupt):
    """The process ends here; nothing catches it."""


@dataclass
class Expected:
    """What happens to orders, told in a few lines."""

    states: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def place(self, order: str) -> None:
        self.states[order] = ("placed", "requested", "waiting for payment")

    def pay(self, order: str) -> None:
        if self.states[order][2] == "given up":
            self.states[order] = ("cancelled", "refunded", "given up")
        elif order in sold_out:
            self.states[order] = ("cancelled", "refunded", "ended")
        else:
            self.states[order] = ("shipped", "received", "ended")

    def time_passes(self) -> None:
        for order, (_, payment, stage) in self.states.items():
            if stage == "waiting for payment":
                self.states[order] = ("cancelled", payment, "given up")


def work_and_crash(engine: Engine, statement: int) -> None:
    """Let all work until a statement that is not executed any more, and then, as another process, to the end."""
    left = [statement]

    def count(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Crash

    event.listen(engine, "before_cursor_execute", count)
    try:
        with suppress(Crash):
            let_work(engine)
    finally:
        event.remove(engine, "before_cursor_execute", count)
    engine.dispose()
    let_work(engine)


def states(engine: Engine) -> dict[str, tuple[str, str, str]]:
    with Session(engine) as session:
        orders = session.query(Order).all()
        return {
            each.id: (each.status.value, session.get_one(Payment, each.id).status, session.get_one(Fulfilment, each.id).stage)
            for each in orders
        }


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    story=st.lists(st.tuples(actions, st.integers(1, 60)), min_size=1, max_size=5),
    gone=st.sets(st.sampled_from(ORDERS), max_size=2),
)
def test_a_crash_changes_nothing(story: list[tuple[tuple[str, str], int]], gone: set[str]) -> None:
    expected, paid = Expected(), set[str]()
    sold_out.clear()
    sold_out.update(gone)
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'test.db'}")
        configure_sqlite(engine)
        Base.metadata.create_all(engine)
        for (action, order), statement in story:
            if action == "place" and order not in expected.states:
                place(engine, order)
                expected.place(order)
            elif action == "pay" and order in expected.states and order not in paid:
                pay(engine, order)
                expected.pay(order)
                paid.add(order)
            elif action == "time passes":
                time_passes(engine)
                expected.time_passes()
            work_and_crash(engine, statement)
        assert states(engine) == expected.states
        with Session(engine) as session:
            causes = [(each.causation_id, each.event) for each in EventStore(session, Base).events.all() if each.causation_id]
        assert len(causes) == len(set(map(repr, causes)))  # nothing follows twice from one cause
        engine.dispose()
    sold_out.clear()
