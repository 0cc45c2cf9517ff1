"""An account whose methods do what they should not, which several of the session's tests look at from different sides."""

from __future__ import annotations

import pytest

from sa_eventsource import DomainEvent, applies
from tests.bank import AnyAccount, Closed, Deposited, Opened, Withdrawn
from tests.orders import Base


class TakenOver(DomainEvent):
    """What had been deposited at another bank came along."""

    __event_type__ = "careless.TakenOver"
    amounts: list[int]


class CarelessError(Exception):
    """Raised by an @applies method, which should not."""


class CarelessAccount(AnyAccount, Base):
    """Has a snapshot for every second event, and a field without a default."""

    __snapshot_frequency__ = 2

    amounts: list[int]

    @classmethod
    def open(cls, *amounts: int, account_id: str = "a") -> CarelessAccount:
        """Open an account and put money into it."""
        account = cls(id=account_id)
        account.apply_event(Opened(owner="ann"))
        for amount in amounts:
            account.deposit(amount)
        return account

    def fail(self) -> None:
        """Have a method raise with half of its work done, which leaves the instance without a state."""
        with pytest.raises(CarelessError):
            self.deposit(-1)

    def _opened(self, event: Opened) -> None:
        super()._opened(event)
        self.amounts = []

    @applies(TakenOver)
    def _taken_over(self, event: TakenOver) -> None:
        self.amounts = event.amounts  # and not a list of its own

    def _deposited(self, event: Deposited) -> None:
        super()._deposited(event)
        self.amounts.append(event.amount)
        if event.amount < 0:
            raise CarelessError

    def _withdrawn(self, event: Withdrawn) -> None:
        self.apply_event(Deposited(amount=-event.amount))

    def _closed(self, _event: Closed) -> None:
        self.closed = True
