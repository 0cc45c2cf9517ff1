"""What a worker knows of a log between two questions, where the server is another one meanwhile."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, literal
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import ReadModel, Worker, map_from_event
from sa_eventsource.checkpoints import new_events
from sa_eventsource.read_models import count
from tests.bank import AnyAccount, Deposited
from tests.committing import commit_events


class Base(DeclarativeBase):
    """Base of a bank."""


class Account(AnyAccount, Base):
    """What is followed."""

    __aggregate_type__ = "new_events.Account"


class Deposits(ReadModel, Base):
    """How many there are on each account."""

    __projection_name__ = "deposits"
    id: Mapped[str]
    number: Mapped[int] = map_from_event(Deposited, reduce=count())


def test_a_server_that_lacks_the_last_transactions_has_all_asked_again(
    postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a failover to a standby that was behind: it gives the same transaction ids to others."""
    Base.metadata.create_all(postgres_engine)
    commit_events(postgres_engine, Account, "a", Deposited(amount=1))
    polling = Worker(postgres_engine, Base)._pollings(lambda: False)[0]
    with Session(postgres_engine) as session, monkeypatch.context() as former_primary:
        polling.wake(session)
        former_primary.setattr(new_events, "current_snapshot", lambda: literal("900000000:900000000:"))
        polling.wake(session)
    commit_events(postgres_engine, Account, "a", Deposited(amount=1))
    with Session(postgres_engine) as session:
        polling.wake(session)
        assert session.get_one(Deposits, "a").number == 2
