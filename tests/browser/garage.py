"""A garage: an application that has one of everything, for the pages of commands, processes, publishers and the schema."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from faststream.rabbit import RabbitBroker
from sqlalchemy import Engine, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    After,
    AggregateRoot,
    Command,
    DomainEvent,
    EventSourceOptions,
    Inbox,
    ProcessManager,
    Publisher,
    ReadModel,
    RecordedEvent,
    RetryPolicy,
    StreamClosed,
    Worker,
    applies,
    command_handler,
    map_from_event,
    reacts,
    schedule,
    subscribe,
    upcast,
)
from tests.committing import commit_events

HOSTILE = "<script>alert(1)</script>\u202egpj"
"""The id of a car, and of its repair."""


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


inbox = Inbox(Base)


class CarBrought(DomainEvent):
    """Somebody has brought a car."""

    __event_type__ = "garage.CarBrought"
    __event_version__ = 2
    plate: str
    miles: int = 0


class CarRepaired(DomainEvent):
    """It runs again."""

    __event_type__ = "garage.CarRepaired"


class BillSent(DomainEvent):
    """The bill is on its way."""

    __event_type__ = "garage.BillSent"
    car: str


@upcast(CarBrought, from_version=1)
def with_plate(payload: dict[str, Any]) -> dict[str, Any]:
    return {"plate": payload["number"]}


@upcast("garage.BroughtAndRepaired", from_version=1, into=(CarBrought, CarRepaired))
def in_two(payload: dict[str, Any]) -> list[DomainEvent]:
    return [CarBrought(plate=payload["plate"]), CarRepaired()]


class Car(AggregateRoot[str], Base):
    __aggregate_type__ = "garage.Car"
    plate: str = ""

    @applies(CarBrought)
    def _brought(self, event: CarBrought) -> None:
        self.plate = event.plate

    @applies(CarRepaired)
    def _repaired(self, event: CarRepaired) -> None:
        """Nothing that the rules need."""


class Bill(AggregateRoot[str], Base):
    __aggregate_type__ = "garage.Bill"
    __ignored_events__ = (BillSent,)


class RepairBegun(DomainEvent):
    __event_type__ = "garage.RepairBegun"


class RepairEnded(DomainEvent):
    __event_type__ = "garage.RepairEnded"


class SendBill(Command[None]):
    __command_type__ = "garage.SendBill"
    car: str


class CallOwner(Command[None]):
    __command_type__ = "garage.CallOwner"
    car: str
    said: str = ""


@command_handler(SendBill, base=Base)
def send_bill(command: SendBill, session: Session) -> None:
    bill = Bill(id=f"bill of {command.car}")
    bill.apply_event(BillSent(car=command.car))
    session.add(bill)


@command_handler(CallOwner, base=Base)
def call_owner(command: CallOwner, session: Session) -> None:
    raise ValueError(f"nobody answers {command.said}")


class Repair(ProcessManager, Base):
    __aggregate_type__ = "garage.Repair"
    __on_error__: ClassVar[Any] = "park"
    is_begun: bool = False

    @reacts(CarBrought)
    def on_brought(self, event: CarBrought) -> list[object]:
        if event.plate == "none":
            raise ValueError("a car without a plate")
        return [RepairBegun(), After(timedelta(days=2), CallOwner(car=self.id), key="call")]

    @reacts(CarRepaired)
    def on_repaired(self, event: CarRepaired) -> list[object]:
        return [RepairEnded(), SendBill(car=self.id), StreamClosed(reason="repaired")]

    @applies(RepairBegun)
    def _begun(self, event: RepairBegun) -> None:
        self.is_begun = True

    @applies(RepairEnded)
    def _ended(self, event: RepairEnded) -> None:
        self.is_begun = False


class Bays(ReadModel, Base):
    __projection_name__ = "garage_bays"
    id: Mapped[str] = map_from_event(CarBrought, key=True, source="aggregate_id")
    plate: Mapped[str] = map_from_event(CarBrought)


has_address = False
"""Whether the mailer can write to whoever has brought a car without a plate."""


@subscribe("garage.mailer", CarBrought, base=Base)
def mail(recorded: RecordedEvent[CarBrought], session: Session) -> None:
    if recorded.event.plate == "none" and not has_address:
        raise ValueError("no address")


publisher = Publisher(
    "garage.publisher", CarRepaired, BillSent, broker=RabbitBroker("amqp://127.0.0.1:1/"), channel="garage", base=Base, shards=2
)
"""Its sender is replaced by tests."""


def bring(engine: Engine, car_id: str, plate: str, *, repaired: bool = False) -> None:
    commit_events(engine, Car, car_id, CarBrought(plate=plate), *([CarRepaired()] if repaired else []))


EVENTS = Base.metadata.tables["events"]
STORED_BEFORE: list[tuple[str, dict[str, Any]]] = [
    ("garage.CarBrought", {"number": "OLD 1"}),
    ("garage.BroughtAndRepaired", {"plate": "OLD 2"}),
    ("garage.CarWashed", {"with": "soap"}),
]
"""What earlier code has stored: an older version, what is read as two events, and what nobody knows any more."""


def open_for_a_day(engine: Engine) -> None:
    """Repair a car, keep two and refuse one, next to what earlier code has stored; schedule commands, one of which fails."""
    Base.metadata.create_all(engine)
    bring(engine, "car-1", "AB 1", repaired=True)
    bring(engine, "car-2", "AB 2")
    bring(engine, HOSTILE, HOSTILE)
    bring(engine, "car-none", "none")
    with engine.begin() as connection:
        for number, (event_type, payload) in enumerate(STORED_BEFORE):
            place = {"aggregate_type": "garage.Yard", "aggregate_id": f"yard-{number}", "version": 1}
            values: dict[str, Any] = {
                "event_id": UUID(int=number + 1),
                "event_type": event_type,
                "event_data": payload,
                "occurred_at": func.now(),
            }
            if engine.dialect.name != "postgresql":  # where an append gives positions
                values["position"] = select(func.coalesce(func.max(EVENTS.c.position), 0) + 1).scalar_subquery()
            connection.execute(insert(EVENTS).values(**place, **values))
    with Session(engine) as session:
        schedule(session, CallOwner(car="car-2", said=HOSTILE), base=Base)
        inbox(session, "message-1")
        session.commit()
    for name in ("garage.Repair", "commands", "garage.mailer", "garage_bays"):
        work(engine, name)


def work(engine: Engine, name: str) -> None:
    """Have a worker see to one thing, without a second attempt."""
    Worker(engine, Base, only=[name], retries=RetryPolicy(attempts=1)).run_once()
