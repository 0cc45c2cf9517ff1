"""A shop whose orders are fulfilled by a process: payment, shipment, and what to do when one of them never comes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    After,
    AggregateRoot,
    Command,
    DomainEvent,
    EventSourceOptions,
    ProcessManager,
    applies,
    command_handler,
    reacts,
)
from tests.shop import AnyOrder, OrderCancelled, OrderPlaced


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class Order(AnyOrder, Base):
    __aggregate_type__ = "fulfilment.Order"


PLACED = OrderPlaced(customer_id="c-1", total=Decimal(10))


class PaymentRequested(DomainEvent):
    __event_type__ = "fulfilment.PaymentRequested"
    order_id: str


class PaymentReceived(DomainEvent):
    __event_type__ = "fulfilment.PaymentReceived"
    order_id: str | None


class PaymentRefunded(DomainEvent):
    __event_type__ = "fulfilment.PaymentRefunded"
    order_id: str


class Payment(AggregateRoot[str], Base):
    __aggregate_type__ = "fulfilment.Payment"
    status: str = "new"

    @applies(PaymentRequested)
    def _requested(self, event: PaymentRequested) -> None:
        self.status = "requested"

    @applies(PaymentReceived)
    def _received(self, event: PaymentReceived) -> None:
        self.status = "received"

    @applies(PaymentRefunded)
    def _refunded(self, event: PaymentRefunded) -> None:
        self.status = "refunded"


class ParcelShipped(DomainEvent):
    __event_type__ = "fulfilment.ParcelShipped"
    order_id: str


class OutOfStock(DomainEvent):
    __event_type__ = "fulfilment.OutOfStock"
    order_id: str


class Shipment(AggregateRoot[str], Base):
    __aggregate_type__ = "fulfilment.Shipment"
    __ignored_events__ = (ParcelShipped, OutOfStock)


class RequestPayment(Command[None]):
    __command_type__ = "fulfilment.RequestPayment"
    order_id: str


class Refund(Command[None]):
    __command_type__ = "fulfilment.Refund"
    order_id: str


class Ship(Command[None]):
    __command_type__ = "fulfilment.Ship"
    order_id: str


class CancelOrder(Command[None]):
    __command_type__ = "fulfilment.CancelOrder"
    order_id: str
    reason: str


class CompleteOrder(Command[None]):
    __command_type__ = "fulfilment.CompleteOrder"
    order_id: str


class GiveUpWaiting(Command[None]):
    """The time for the payment is over; whether that means anything, the process says."""

    __command_type__ = "fulfilment.GiveUpWaiting"
    order_id: str


sold_out: set[str] = set()
"""Orders for which the warehouse has nothing left."""

patience = [timedelta(minutes=30)]


@command_handler(RequestPayment)
def request_payment(command: RequestPayment, session: Session) -> None:
    payment = Payment(id=command.order_id)
    payment.apply_event(PaymentRequested(order_id=command.order_id))
    session.add(payment)


@command_handler(Refund)
def refund(command: Refund, session: Session) -> None:
    session.get_one(Payment, command.order_id).apply_event(PaymentRefunded(order_id=command.order_id))


@command_handler(Ship)
def ship(command: Ship, session: Session) -> None:
    shipment = Shipment(id=command.order_id)
    kind = OutOfStock if command.order_id in sold_out else ParcelShipped
    shipment.apply_event(kind(order_id=command.order_id))
    session.add(shipment)


@command_handler(CancelOrder)
def cancel_order(command: CancelOrder, session: Session) -> None:
    session.get_one(Order, command.order_id).apply_event(OrderCancelled(reason=command.reason))


@command_handler(CompleteOrder)
def complete_order(command: CompleteOrder, session: Session) -> None:
    session.get_one(Order, command.order_id).ship()


@command_handler(GiveUpWaiting)
def give_up_waiting(command: GiveUpWaiting, session: Session) -> None:
    process = session.get_one(Fulfilment, command.order_id)
    if process.stage == "waiting for payment":
        process.apply_event(PaymentOverdue())


class FulfilmentBegun(DomainEvent):
    __event_type__ = "fulfilment.FulfilmentBegun"


class FulfilmentPaid(DomainEvent):
    __event_type__ = "fulfilment.FulfilmentPaid"


class PaymentOverdue(DomainEvent):
    __event_type__ = "fulfilment.PaymentOverdue"


class FulfilmentEnded(DomainEvent):
    __event_type__ = "fulfilment.FulfilmentEnded"


class Fulfilment(ProcessManager, Base):
    __aggregate_type__ = "fulfilment.Fulfilment"
    stage: str = "new"

    @reacts(OrderPlaced)
    def on_placed(self, event: OrderPlaced) -> list[object]:
        return [
            FulfilmentBegun(),
            RequestPayment(order_id=self.id),
            After(patience[0], GiveUpWaiting(order_id=self.id)),
        ]

    @reacts(PaymentReceived, by="order_id")
    def on_paid(self, event: PaymentReceived) -> list[object] | Command[None]:
        if self.stage == "waiting for payment":
            return [FulfilmentPaid(), Ship(order_id=self.id)]
        return Refund(order_id=self.id)  # it came too late

    @reacts(PaymentOverdue)
    def on_overdue(self, event: PaymentOverdue) -> Command[None]:
        return CancelOrder(order_id=self.id, reason="not paid in time")

    @reacts(ParcelShipped, by="order_id")
    def on_shipped(self, event: ParcelShipped) -> list[object]:
        return [FulfilmentEnded(), CompleteOrder(order_id=self.id)]

    @reacts(OutOfStock, by="order_id")
    def on_out_of_stock(self, event: OutOfStock) -> list[object]:
        return [FulfilmentEnded(), Refund(order_id=self.id), CancelOrder(order_id=self.id, reason="sold out")]

    @applies(FulfilmentBegun)
    def _begun(self, event: FulfilmentBegun) -> None:
        self.stage = "waiting for payment"

    @applies(FulfilmentPaid)
    def _paid(self, event: FulfilmentPaid) -> None:
        self.stage = "waiting for shipment"

    @applies(PaymentOverdue)
    def _overdue(self, event: PaymentOverdue) -> None:
        self.stage = "given up"

    @applies(FulfilmentEnded)
    def _ended(self, event: FulfilmentEnded) -> None:
        self.stage = "ended"
