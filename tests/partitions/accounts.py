"""Accounts, whose log has four partitions."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import EventSourceOptions, ReadModel, event_record, map_from_event
from sa_eventsource.read_models import append, sum_
from tests.bank import AnyAccount, Deposited


class Base(DeclarativeBase):
    """With four partitions."""

    __eventsource__ = EventSourceOptions(partitions=4)


class Account(AnyAccount, Base):
    """An account."""

    __aggregate_type__ = "deposits.Account"


class Statement(ReadModel, Base):
    """What came into each account, in order: what is skipped, or comes twice, shows."""

    __projection_name__ = "partitions.statement"
    id: Mapped[str]
    amounts: Mapped[list[int]] = map_from_event(Deposited, reduce=append("amount"))
    total: Mapped[int] = map_from_event(Deposited, source="amount", reduce=sum_())


EVENTS = event_record(Base).__table__
PARTITIONS = [f"events_p{number}" for number in range(4)]


def deposit(engine: Engine, account_id: str, *amounts: int, event_id: UUID | None = None) -> None:
    """Put money into an account, in one transaction."""
    with Session(engine) as session:
        account = session.get(Account, account_id) or Account(id=account_id)
        session.add(account)
        for each in amounts:
            account.apply_event(Deposited(amount=each), event_id=event_id)
        session.commit()


def partition_of(engine: Engine, account_id: str) -> str:
    """Name the partition that an account's events are in."""
    with engine.connect() as connection:
        found = connection.scalars(
            text("SELECT DISTINCT tableoid::regclass::text FROM events WHERE aggregate_id = :id"), {"id": account_id}
        )
        return str(found.one())


def in_two_partitions(engine: Engine) -> tuple[str, str]:
    """Put money into accounts until two lie in different partitions; name these."""
    deposit(engine, "a-0", 1)
    for number in range(1, 100):
        deposit(engine, f"a-{number}", 1)
        if partition_of(engine, f"a-{number}") != partition_of(engine, "a-0"):
            return "a-0", f"a-{number}"
    raise AssertionError("all accounts are in one partition")
