"""Orders: the events that happen to them, and the rules for what may happen."""

from decimal import Decimal
from enum import StrEnum

from sa_eventsource import AggregateRoot, DomainEvent, DomainRuleError, applies

from project_name.base import Base


class OrderPlaced(DomainEvent):
    """A customer ordered something."""

    customer: str
    total: Decimal


class OrderPaid(DomainEvent):
    """The money came."""

    payment_id: str


class OrderStatus(StrEnum):
    """How far an order has come."""

    NEW = "new"
    PLACED = "placed"
    PAID = "paid"


class OrderNotOpenError(DomainRuleError):
    """An order is not waiting for its payment."""


class Order(AggregateRoot, Base):
    """An order. Its state follows from its events, and is stored nowhere else."""

    status: OrderStatus = OrderStatus.NEW
    customer: str = ""
    total: Decimal = Decimal(0)

    @classmethod
    def place(cls, customer: str, total: Decimal) -> "Order":
        """Order something."""
        order = cls()
        order.apply_event(OrderPlaced(customer=customer, total=total))
        return order

    def pay(self, payment_id: str) -> None:
        """Take the money.

        Raises:
            OrderNotOpenError: It is paid already.
        """
        if self.status is not OrderStatus.PLACED:
            raise OrderNotOpenError(f"order {self.id} is {self.status}")
        self.apply_event(OrderPaid(payment_id=payment_id))

    @applies(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.status = OrderStatus.PLACED
        self.customer = event.customer
        self.total = event.total

    @applies(OrderPaid)
    def _paid(self, _: OrderPaid) -> None:
        self.status = OrderStatus.PAID
