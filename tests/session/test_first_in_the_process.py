"""What the library does before anything has configured the mappers of a process, as the first thing in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, class_mapper

from sa_eventsource import ConcurrencyError, EventSourcedRepository, EventStore
from sa_eventsource.verification import verify
from tests.bank import Deposited, Opened
from tests.databases import configure_sqlite
from tests.orders import Account, Base
from tests.processes import finish_forked

ID = uuid4()


def load_as_of_a_version(engine: Engine, account_id: UUID) -> None:
    with Session(engine) as session:
        account = EventSourcedRepository(session, Account).load_at_version(account_id, 2)
        assert (account.id, account.version, account.balance) == (account_id, 2, 1)


def compare_with_snapshots(engine: Engine, account_id: UUID) -> None:
    assert verify(engine, Base).is_sound


def read_the_log(engine: Engine, account_id: UUID) -> None:
    with Session(engine) as session:
        (opened,) = EventStore(session, Base).events.of_type(Opened).all()
        assert opened.aggregate_id == str(account_id)


def load(engine: Engine, account_id: UUID) -> None:
    with Session(engine) as session:
        assert EventSourcedRepository(session, Account).get(account_id).balance == 6


def refuse_what_comes_unseen(engine: Engine, account_id: UUID) -> None:
    with Session(engine) as session, pytest.raises(ConcurrencyError):
        EventSourcedRepository(session, Account).append(account_id, [Deposited(amount=1)], expected_version=1)


def first_thing(use: Callable[[Engine, UUID], None], account_id: UUID, path: Path) -> None:
    assert not class_mapper(Account, configure=False).configured
    engine = create_engine(f"sqlite:///{path}")
    configure_sqlite(engine)
    use(engine, account_id)
    engine.dispose()


@pytest.mark.parametrize("use", [load_as_of_a_version, compare_with_snapshots, read_the_log, load, refuse_what_comes_unseen])
def test_no_mapper_needs_to_be_configured_before(use: Callable[[Engine, UUID], None], tmp_path: Path) -> None:
    path = tmp_path / "accounts.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    configure_sqlite(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        account = Account.open(account_id=ID)
        for _ in range(6):
            account.deposit()
        session.add(account)
        session.commit()
        assert session.scalar(text("SELECT version FROM snapshots")) is not None
    engine.dispose()
    done = finish_forked(first_thing, use, ID, path, folder=tmp_path, environment={})
    assert done.returncode == 0, done.stderr
