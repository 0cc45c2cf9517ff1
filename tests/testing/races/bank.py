"""A bank for races: accounts as plain rows and as aggregates, owners under unique names, doctors on call."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    Command,
    EventSourceOptions,
    Inbox,
    ReadModel,
    RecordedEvent,
    command_handler,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.read_models import count, sum_
from tests.bank import AnyAccount, Deposited, Opened


class Base(DeclarativeBase):
    """The bank's declarative base."""

    __eventsource__ = EventSourceOptions(commands="commands")


class Row(Base):
    """An account as a plain row."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int] = mapped_column(default=100)


class VersionedRow(Base):
    """An account as a row that SQLAlchemy counts the versions of."""

    __tablename__ = "versioned_accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int] = mapped_column(default=100)
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}


class Booking(Base):
    """A line of an account's book."""

    __tablename__ = "bookings"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int]


class FreeName(Base):
    """A name that nothing keeps unique."""

    __tablename__ = "free_names"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class UniqueName(Base):
    """A name that the database keeps unique."""

    __tablename__ = "unique_names"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Doctor(Base):
    """One of the doctors of a shift, of whom one must be on call."""

    __tablename__ = "doctors"

    id: Mapped[int] = mapped_column(primary_key=True)
    shift: Mapped[str]
    on_call: Mapped[bool] = mapped_column(default=True)


class Job(Base):
    """A job in a queue."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    queue: Mapped[str]
    taken: Mapped[int] = mapped_column(default=0)


class Account(AnyAccount, Base):
    """An account as an aggregate."""

    __aggregate_type__ = "races.Account"

    def open(self, owner: str) -> Account:
        """Open it."""
        self.apply_event(Opened(owner=owner))
        return self

    def deposit(self, amount: int = 1) -> int:
        """Put money in, with the owner, of whom the models have rows."""
        self.apply_event(Deposited(amount=amount, owner=self.owner))
        return self.balance


class Totals(ReadModel, Base):
    """What each owner has, in a strong model."""

    __projection_name__ = "races_totals"
    __consistency__ = "strong"

    owner: Mapped[str] = map_from_event(Deposited, key=True)
    deposits: Mapped[int] = map_from_event({Deposited: count()})
    total: Mapped[int] = map_from_event({Deposited: sum_("amount")})


class EventualTotals(ReadModel, Base):
    """The same in an eventual model."""

    __projection_name__ = "races_eventual_totals"

    owner: Mapped[str] = map_from_event(Deposited, key=True)
    deposits: Mapped[int] = map_from_event({Deposited: count()})
    total: Mapped[int] = map_from_event({Deposited: sum_("amount")})


class Owners(ReadModel, Base):
    """Which owners have accounts, in a strong model that keeps no name unique."""

    __projection_name__ = "races_owners"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Opened, key=True, source="aggregate_id")
    owner: Mapped[str] = map_from_event(Opened)


class Standing(ReadModel, Base):
    """What a handler keeps of each owner, in a strong model."""

    __tablename__ = "races_standing"
    __consistency__ = "strong"

    owner: Mapped[str] = mapped_column(primary_key=True)
    deposits: Mapped[int] = mapped_column(default=0, server_default="0")

    @classmethod
    @handles(Deposited)
    def note(cls, recorded: RecordedEvent[Deposited], session: Any) -> None:
        """Count a deposit."""
        load_for_update(session, cls, recorded.event.owner).deposits += 1


class Deposit(Command[int]):
    """Put money into an account."""

    __command_type__ = "races.Deposit"
    account_id: str
    amount: int


@command_handler(Deposit)
def deposit(command: Deposit, session: Any) -> int:
    """Handle the command; give the new balance."""
    account = session.get_one(Account, command.account_id)
    account.deposit(command.amount)
    return int(account.balance)


inbox = Inbox(Base)


def two_of_one_owner(session: Session) -> tuple[str, str]:
    """Open two accounts of one owner, and give their ids."""
    first, second = Account(), Account()
    session.add_all([first.open(first.id), second.open(first.id)])
    return first.id, second.id
