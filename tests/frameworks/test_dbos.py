"""A workflow of DBOS and the order that it ships are one transaction, whoever is killed wherever."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateRoot,
    Command,
    Commands,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    applies,
    command_handler,
)
from tests.proofs.cutting import Child, Cut, Points

pytestmark = pytest.mark.slow


def _dbos() -> Any:
    if find_spec("dbos") is None and not os.environ.get("CI"):
        pytest.skip("DBOS is not installed", allow_module_level=True)
    return import_module("dbos")


dbos = _dbos()


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class CrateOrdered(DomainEvent):
    __event_type__ = "dbos.CrateOrdered"


class CrateShipped(DomainEvent):
    __event_type__ = "dbos.CrateShipped"


class Crate(AggregateRoot[UUID], Base):
    __aggregate_type__ = "dbos.Crate"
    shipped: int = 0

    @applies(CrateOrdered)
    def _ordered(self, event: CrateOrdered) -> None:
        """Nothing that a test looks at."""

    @applies(CrateShipped)
    def _shipped(self, event: CrateShipped) -> None:
        self.shipped += 1


class OrderCrate(Command[None]):
    __command_type__ = "dbos.OrderCrate"
    crate_id: UUID


class ShipCrate(Command[None]):
    __command_type__ = "dbos.ShipCrate"
    crate_id: UUID


client: list[Any] = []
commands: list[Commands] = []
"""Those of the process."""


@command_handler(OrderCrate, base=Base)
def order_crate(command: OrderCrate, session: Session) -> None:
    crate = Crate(id=command.crate_id)
    crate.apply_event(CrateOrdered())
    session.add(crate)
    session.flush()
    wanted = {"queue_name": "crates", "workflow_name": "fulfil", "workflow_id": str(command.crate_id)}
    client[0].enqueue_in_transaction(session, wanted, str(command.crate_id))


@command_handler(ShipCrate, base=Base)
def ship_crate(command: ShipCrate, session: Session) -> None:
    session.get_one(Crate, command.crate_id).apply_event(CrateShipped())


def note_shipped(crate_id: str) -> None:
    """Change the aggregate by a command whose id is the workflow's: the step may run again."""
    command_id = uuid5(NAMESPACE_URL, f"note shipped/{dbos.DBOS.workflow_id}")
    commands[0].handle(ShipCrate(crate_id=UUID(crate_id)), command_id=command_id)


step = dbos.DBOS.step()(note_shipped)


def fulfil(crate_id: str) -> None:
    """Ship a crate."""
    step(crate_id)


dbos.DBOS.workflow()(fulfil)


def work(points: Points, url: str) -> None:
    """Run workflows in a process until those that are enqueued are done."""
    engine = create_engine(url)
    points.watch(engine)
    commands.append(Commands(engine, Base))
    dbos.DBOS(config={"name": "crates", "system_database_url": url, "log_level": "CRITICAL", "application_version": "1"})
    dbos.DBOS.launch()
    dbos.DBOS.register_queue("crates", polling_interval_sec=0.05)
    for each in _workflows(create_engine(url)):
        dbos.DBOS.retrieve_workflow(each).get_result()
    dbos.DBOS.destroy()


def order(points: Points, url: str, crate_id: UUID) -> None:
    """Order a crate, and have it shipped, in one transaction of a process."""
    engine = create_engine(url)
    client.append(dbos.DBOSClient(system_database_engine=engine))
    points.watch(engine)
    Commands(engine, Base).handle(OrderCrate(crate_id=crate_id))


def run(function: Any, *arguments: Any) -> None:
    """Run one of these in a process, to its end."""
    with Child(function, *arguments) as process:
        process.until_it_ends()
        assert process.heard("done"), process.said


def _workflows(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT workflow_uuid FROM dbos.workflow_status")))


def _crates(engine: Engine) -> dict[str, int]:
    with Session(engine) as session:
        ids = {each.aggregate_id for each in EventStore(session, Base).events.of_type(CrateOrdered)}
        return {each: session.get_one(Crate, UUID(each)).shipped for each in ids}


@pytest.fixture
def url(postgres_engine: Engine) -> str:
    Base.metadata.create_all(postgres_engine)
    found = postgres_engine.url.render_as_string(hide_password=False)
    run(work, found)  # makes the tables of DBOS
    return found


@pytest.mark.parametrize(
    "cut", [Cut(1, "after INSERT"), Cut(2, "after INSERT"), Cut(1, "before COMMIT"), Cut(1, "COMMIT sent")], ids=str
)
def test_an_order_and_its_workflow_are_there_or_neither(cut: Cut, url: str, postgres_engine: Engine) -> None:
    crate_id = UUID(int=1)
    with Child(order, url, crate_id, cuts=(cut,)) as process:
        assert process.until_it_stops() == cut.kind
        process.kill()
    workflows = _workflows(postgres_engine)
    assert list(_crates(postgres_engine)) == workflows
    run(work, url)
    assert _crates(postgres_engine) == dict.fromkeys(workflows, 1)


@pytest.mark.parametrize("kind", ["after INSERT", "before COMMIT", "COMMIT sent"])
def test_a_workflow_that_is_killed_in_a_step_ships_once(kind: str, url: str, postgres_engine: Engine) -> None:
    run(order, url, UUID(int=1))
    with Child(work, url, cuts=(Cut(1, kind),)) as worker:
        assert worker.until_it_stops() == kind
        worker.kill()
    run(work, url)
    assert _crates(postgres_engine) == {str(UUID(int=1)): 1}
