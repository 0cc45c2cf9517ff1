"""Inside a transaction that a test rolls back in the end, nothing can follow the log; it says what to do instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource import EventReplayer, EventStore, JoinedTransactionError, ReadModelManager, Worker, fold, verify
from tests.bank import Deposited
from tests.projections.bank import Account, Balance, Base

JOIN_MODES = ["conditional_savepoint", "create_savepoint", "rollback_only", "control_fully"]


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def joining(postgres_engine: Engine) -> Iterator[Connection]:
    """A connection in a transaction that is rolled back in the end."""
    with postgres_engine.connect() as connection, connection.begin() as outer:
        yield connection
        assert outer.is_active
        outer.rollback()


@pytest.mark.parametrize(
    "follow",
    [
        lambda sessions: Worker(sessions, Base).run_once(),
        lambda sessions: Worker(sessions, Base).run(),
        lambda sessions: ReadModelManager(sessions, Base).catch_up(),
        lambda sessions: ReadModelManager(sessions, Base).status(),
        lambda sessions: EventReplayer(sessions, Base).rebuild(Balance),
        lambda sessions: verify(sessions, Base),
    ],
    ids=["run_once", "run", "catch_up", "status", "rebuild", "verify"],
)
@pytest.mark.parametrize("mode", JOIN_MODES)
def test_what_follows_the_log_is_refused(joining: Connection, follow: Callable[[Any], object], mode: Any) -> None:
    sessions = sessionmaker(joining, join_transaction_mode=mode)
    with pytest.raises(JoinedTransactionError, match=r"in a transaction already.*Pass the engine.*fold\(") as refused:
        follow(sessions)
    assert isinstance(refused.value, InvalidRequestError)
    assert refused.value.url == repr(joining.engine.url)
    assert joining.in_transaction()


def test_the_rows_can_be_worked_out_within_the_transaction(joining: Connection) -> None:
    with Session(joining, join_transaction_mode="create_savepoint") as session:
        session.add(account := Account(id="a"))
        account.apply_event(Deposited(amount=3))
        session.commit()
        assert fold(Balance, EventStore(session).events.all())["a"]["total"] == 3


def test_a_connection_that_is_in_no_transaction_is_as_good_as_an_engine(postgres_engine: Engine) -> None:
    with Session(postgres_engine) as session:
        session.add(account := Account(id="a"))
        account.apply_event(Deposited(amount=3))
        session.commit()
    with postgres_engine.connect() as connection:
        sessions = sessionmaker(connection)
        assert Worker(sessions, Base, only=["balance"]).run_once() == 1
        assert ReadModelManager(sessions, Base).status(Balance)[0].state == "running"
