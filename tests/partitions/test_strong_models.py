"""Strong read models of a partitioned log: whoever writes the first rows, in whichever partitions, waits for nobody."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import EventSourceOptions, ReadModel, map_from_event, verify
from tests.bank import AnyAccount, Opened


class Base(DeclarativeBase):
    """Base of a log with four partitions."""

    __eventsource__ = EventSourceOptions(partitions=4)


class Account(AnyAccount, Base):
    """An account."""

    __aggregate_type__ = "partitions.StrongAccount"


class Owners(ReadModel, Base):
    """A row an account."""

    __projection_name__ = "partitions.owners"
    __consistency__ = "strong"
    id: Mapped[str]
    owner: Mapped[str] = map_from_event(Opened)


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_the_first_events_of_several_transactions_at_once(postgres_engine: Engine) -> None:
    sessions = [Session(postgres_engine) for _ in range(6)]  # more than there are partitions
    for number, session in enumerate(sessions):
        session.execute(text("SET LOCAL lock_timeout = '10s'"))
        session.add(account := Account(id=f"a-{number}"))
        account.apply_event(Opened(owner="Nina"))
        session.flush()
    for session in sessions:
        session.commit()
        session.close()
    assert verify(postgres_engine, Base).findings == ()
