"""A bank: accounts that are opened, and money that comes in and goes out.

Events and aggregates lie on no base. Each folder puts them on one of its own, with what follows from them there.
"""

from __future__ import annotations

from uuid import UUID

from typing_extensions import TypeVar

from sa_eventsource import AggregateRoot, DomainEvent, DomainRuleError, applies

IdT = TypeVar("IdT", bound=str | UUID | int, default=str)


class Opened(DomainEvent):
    """An account was opened."""

    __event_type__ = "bank.Opened"
    owner: str


class Deposited(DomainEvent):
    """Money came in."""

    __event_type__ = "bank.Deposited"
    amount: int
    branch: str = "main"
    owner: str = ""
    note: str = ""


class Withdrawn(DomainEvent):
    """Money went out."""

    __event_type__ = "bank.Withdrawn"
    amount: int


class Closed(DomainEvent):
    """The account is no more used."""

    __event_type__ = "bank.Closed"


class NotEnoughMoney(DomainRuleError):
    """There is not enough money in an account."""

    def __init__(self, balance: int) -> None:
        """Keep how much there is."""
        self.balance = balance
        super().__init__(f"there are only {balance}")


class AnyAccount(AggregateRoot[IdT]):
    """An account."""

    owner: str = ""
    balance: int = 0
    is_open: bool = False

    def deposit(self, amount: int = 1) -> int:
        """Put money in; give the new balance."""
        self.apply_event(Deposited(amount=amount))
        return self.balance

    def withdraw(self, amount: int) -> None:
        """Take money out, as long as there is enough."""
        if amount > self.balance:
            raise NotEnoughMoney(self.balance)
        self.apply_event(Withdrawn(amount=amount))

    @applies(Opened)
    def _opened(self, event: Opened) -> None:
        self.owner, self.is_open = event.owner, True

    @applies(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount

    @applies(Withdrawn)
    def _withdrawn(self, event: Withdrawn) -> None:
        self.balance -= event.amount

    @applies(Closed)
    def _closed(self, _event: Closed) -> None:
        self.is_open = False
