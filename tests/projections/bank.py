"""A bank whose accounts are followed in every way there is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    DomainEvent,
    ReadModel,
    RecordedEvent,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.read_models import count, sum_
from tests.bank import AnyAccount, Deposited
from tests.committing import commit_events


class Base(DeclarativeBase):
    """Base of the bank's classes."""


class Noted(DomainEvent):
    """Something that only one model takes."""

    __event_type__ = "bank.Noted"
    note: str


class Account(AnyAccount, Base):
    """Where it came in."""

    __aggregate_type__ = "bank.Account"
    __ignored_events__ = (Noted,)


class Balance(ReadModel, Base):
    """Declared fields: set-based on PostgreSQL."""

    __projection_name__ = "balance"

    total: Mapped[int] = map_from_event(Deposited, reduce=sum_("amount"))


class BranchTotal(ReadModel, Base):
    """Rows that many streams feed, split into four."""

    __projection_name__ = "branch_total"
    __shards__ = 4

    branch: Mapped[str] = map_from_event(Deposited, key=True)
    number: Mapped[int] = map_from_event(Deposited, reduce=count())
    total: Mapped[int] = map_from_event(Deposited, reduce=sum_("amount"))


class _Refusing:
    """Rows by a handler that cannot take a negative amount unless it has been mended."""

    id: Mapped[str] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(default=0)
    entries: Mapped[int] = mapped_column(default=0)

    mended = False

    @classmethod
    @handles(Deposited)
    def _deposited(cls, event: RecordedEvent[Deposited], session: Session) -> None:
        if event.event.amount < 0 and not _Refusing.mended:
            raise ValueError(f"negative: {event.event.amount}")
        row: Any = load_for_update(session, cls, event.aggregate_id)
        row.entries += 1
        row.total += event.event.amount


class Stopping(_Refusing, ReadModel, Base):
    """Stops at an event that it cannot take."""

    __tablename__ = "stopping"
    __projection_name__ = "stopping"


class Parking(_Refusing, ReadModel, Base):
    """Puts the stream aside."""

    __tablename__ = "parking"
    __projection_name__ = "parking"
    __on_error__ = "park"


class DeclaredParking(ReadModel, Base):
    """Declared fields, whose type the database may refuse: no more than an integer holds."""

    __tablename__ = "declared_parking"
    __projection_name__ = "declared_parking"
    __on_error__ = "park"

    id: Mapped[str] = map_from_event(Deposited, key=True, source="aggregate_id")
    latest: Mapped[int] = map_from_event(Deposited, source="amount")
    entries: Mapped[int] = map_from_event(Deposited, reduce=count())


def deposit(engine: Engine, account_id: str, *amounts: int, branch: str = "main") -> None:
    """Commit one event for each amount, in one transaction."""
    commit_events(engine, Account, account_id, *(Deposited(amount=amount, branch=branch) for amount in amounts))


def totals(engine: Engine, model: type[Any]) -> dict[str, int]:
    """Read a model's totals by account."""
    with Session(engine) as session:
        return {row.id: row.total for row in session.scalars(select(model))}


def branch_count(engine: Engine) -> int:
    """How many events the sharded model has taken."""
    with Session(engine) as session:
        return session.scalar(select(func.sum(BranchTotal.number))) or 0
