"""Processes that run commands are killed wherever they are: nothing is lost, nothing is done twice."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import Session

from sa_eventsource import Commands, EventStore, Worker, schedule
from tests.commands.ordering import Base, PlaceOrder
from tests.parameters import slow_after
from tests.proofs.cutting import Child, Cut, Points
from tests.shop import OrderPlaced
from tests.waiting import wait_until

TABLE = Base.metadata.tables["commands"]
COMMANDS = 20


def work(points: Points, url: str) -> None:
    """Run what is due, in a process."""
    engine = create_engine(url)
    points.watch(engine)
    Worker(engine, Base, only=["commands"]).run_once()


def handle(points: Points, url: str, command_id: UUID) -> None:
    """Handle one command by its id, in a process."""
    engine = create_engine(url)
    points.watch(engine)
    Commands(engine, Base).handle(PlaceOrder(customer_id="ann"), command_id=command_id)


def customers(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return sorted(each.event.customer_id for each in EventStore(session, Base).events.of_type(OrderPlaced))


def left(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(TABLE).where(TABLE.c.status != "done")) or 0


def _runs_out(engine: Engine) -> bool:
    """Run what is left; a process that was killed may hold what it has claimed for a moment."""
    Worker(engine, Base, only=["commands"]).run_once()
    return left(engine) == 0


STATEMENTS = [f"{when} {verb}" for verb in ("SELECT", "INSERT", "UPDATE") for when in ("before", "after")]


@pytest.mark.parametrize("number", [2, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 5, 11))])
@pytest.mark.parametrize("kind", slow_after(3, ["before COMMIT", "COMMIT sent", *STATEMENTS]))
def test_a_worker_that_is_killed_has_done_all_or_nothing(kind: str, number: int, postgres_engine: Engine) -> None:
    with Session(postgres_engine) as session:
        for each in range(COMMANDS):
            schedule(session, PlaceOrder(customer_id=f"{each:02}"), base=Base)
        session.commit()
    url = postgres_engine.url.render_as_string(hide_password=False)
    with Child(work, url, cuts=(Cut(number, kind),)) as worker:
        assert worker.until_it_stops() == kind
        worker.kill()
    wait_until(lambda: _runs_out(postgres_engine))
    assert customers(postgres_engine) == [f"{number:02}" for number in range(COMMANDS)]


@pytest.mark.parametrize("kind", slow_after(2, ["before COMMIT", "COMMIT sent", "after INSERT", "before UPDATE", "after UPDATE"]))
def test_a_command_is_done_once_though_nobody_has_learnt_its_outcome(kind: str, postgres_engine: Engine) -> None:
    url, command_id = postgres_engine.url.render_as_string(hide_password=False), uuid4()
    with Child(handle, url, command_id, cuts=(Cut(1, kind),)) as process:
        assert process.until_it_stops() == kind
        process.kill()
    commands = Commands(postgres_engine, Base)
    first, again = (commands.handle(PlaceOrder(customer_id="ann"), command_id=command_id) for _ in range(2))
    assert first.result == again.result
    assert customers(postgres_engine) == ["ann"]
