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

from sa_eventsource import Command, Commands, EventSourceOptions, EventStore, command_handler
from tests.proofs.cutting import Child, Cut, Points
from tests.shop import AnyOrder, OrderPlaced

pytestmark = pytest.mark.slow


def _dbos() -> Any:
    if find_spec("dbos") is None and not os.environ.get("CI"):
        pytest.skip("DBOS is not installed", allow_module_level=True)
    return import_module("dbos")


dbos = _dbos()


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class Order(AnyOrder[UUID], Base):
    __aggregate_type__ = "dbos.Order"


class PlaceOrder(Command[None]):
    __command_type__ = "dbos.PlaceOrder"
    order_id: UUID


class ShipOrder(Command[None]):
    __command_type__ = "dbos.ShipOrder"
    order_id: UUID


client: list[Any] = []
commands: list[Commands] = []
"""Those of the process."""


@command_handler(PlaceOrder, base=Base)
def place_order(command: PlaceOrder, session: Session) -> None:
    session.add(Order.place(order_id=command.order_id))
    session.flush()
    wanted = {"queue_name": "orders", "workflow_name": "fulfil", "workflow_id": str(command.order_id)}
    client[0].enqueue_in_transaction(session, wanted, str(command.order_id))


@command_handler(ShipOrder, base=Base)
def ship_order(command: ShipOrder, session: Session) -> None:
    session.get_one(Order, command.order_id).ship()


def note_shipped(order_id: str) -> None:
    """Change the aggregate by a command whose id is the workflow's: the step may run again."""
    command_id = uuid5(NAMESPACE_URL, f"note shipped/{dbos.DBOS.workflow_id}")
    commands[0].handle(ShipOrder(order_id=UUID(order_id)), command_id=command_id)


step = dbos.DBOS.step()(note_shipped)


def fulfil(order_id: str) -> None:
    """Ship an order."""
    step(order_id)


dbos.DBOS.workflow()(fulfil)


def work(points: Points, url: str) -> None:
    """Run workflows in a process until those that are enqueued are done."""
    engine = create_engine(url)
    points.watch(engine)
    commands.append(Commands(engine, Base))
    dbos.DBOS(config={"name": "orders", "system_database_url": url, "log_level": "CRITICAL", "application_version": "1"})
    dbos.DBOS.launch()
    dbos.DBOS.register_queue("orders", polling_interval_sec=0.05)
    for each in _workflows(create_engine(url)):
        dbos.DBOS.retrieve_workflow(each).get_result()
    dbos.DBOS.destroy()


def order(points: Points, url: str, order_id: UUID) -> None:
    """Place an order, and have it shipped, in one transaction of a process."""
    engine = create_engine(url)
    client.append(dbos.DBOSClient(system_database_engine=engine))
    points.watch(engine)
    Commands(engine, Base).handle(PlaceOrder(order_id=order_id))


def run(function: Any, *arguments: Any) -> None:
    """Run one of these in a process, to its end."""
    with Child(function, *arguments) as process:
        process.until_it_ends()
        assert process.heard("done"), process.said


def _workflows(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT workflow_uuid FROM dbos.workflow_status")))


def _versions(engine: Engine) -> dict[str, int]:
    with Session(engine) as session:
        ids = {each.aggregate_id for each in EventStore(session, Base).events.of_type(OrderPlaced)}
        return {each: session.get_one(Order, UUID(each)).version for each in ids}


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
    order_id = UUID(int=1)
    with Child(order, url, order_id, cuts=(cut,)) as process:
        assert process.until_it_stops() == cut.kind
        process.kill()
    workflows = _workflows(postgres_engine)
    assert list(_versions(postgres_engine)) == workflows
    run(work, url)
    assert _versions(postgres_engine) == dict.fromkeys(workflows, 2)


@pytest.mark.parametrize("kind", ["after INSERT", "before COMMIT", "COMMIT sent"])
def test_a_workflow_that_is_killed_in_a_step_ships_once(kind: str, url: str, postgres_engine: Engine) -> None:
    run(order, url, UUID(int=1))
    with Child(work, url, cuts=(Cut(1, kind),)) as worker:
        assert worker.until_it_stops() == kind
        worker.kill()
    run(work, url)
    assert _versions(postgres_engine) == {str(UUID(int=1)): 2}
