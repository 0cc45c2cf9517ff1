"""How often an application waits: counted in libpq's trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.pipelined.accounts import Account, Audit, Audited, Balance, Note, Owner, Vault, Wallet
from tests.round_trips import round_trips, traced

if TYPE_CHECKING:
    from collections.abc import Callable


def _versions(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT version FROM events ORDER BY position")))


@pytest.mark.parametrize(("kind", "prepared"), [(Wallet, 1), (Account, 0)], ids=["events alone", "with strong models"])
def test_a_new_aggregate_takes_one_round_trip(pipelined: Engine, kind: Any, prepared: int) -> None:
    taken = []
    for number in range(8):
        with round_trips(pipelined) as sent, Session(pipelined) as session:
            session.add(kind.open(f"a-{number}"))
            session.commit()
        taken.append(len(sent))
    # psycopg prepares what it has met five times: beside the one statement, or together with the several.
    assert sorted(taken) == [1] * (8 - prepared) + [2] * prepared
    assert _versions(pipelined) == [1] * 8


@pytest.mark.parametrize("kind", [Wallet, Account], ids=["events alone", "with strong models"])
def test_load_change_save_takes_two_round_trips(pipelined: Engine, kind: Any) -> None:
    with Session(pipelined) as session:
        session.add(kind.open("a-1"))
        session.commit()
    for _ in range(8):
        with round_trips(pipelined) as sent, Session(pipelined) as session:
            session.get_one(kind, "a-1").deposit()
            session.commit()
        assert len(sent) == 2
    assert _versions(pipelined) == list(range(1, 10))


def test_strong_models_are_written(pipelined: Engine) -> None:
    with round_trips(pipelined) as sent, Session(pipelined) as session:
        for number in range(3):
            session.add(account := Account.open(f"a-{number}", owner=f"owner {number}"))
            account.deposit(number)
            account.deposit(10)
        session.commit()
    assert len(sent) == 1
    with Session(pipelined) as session:
        assert session.execute(select(Balance.id, Balance.total).order_by(Balance.id)).all() == [
            ("a-0", 10),
            ("a-1", 11),
            ("a-2", 12),
        ]
        assert session.scalars(select(Owner.owner).order_by(Owner.id)).all() == ["owner 0", "owner 1", "owner 2"]


def test_a_snapshot_needs_the_events_read_back(pipelined: Engine) -> None:
    with round_trips(pipelined) as sent, Session(pipelined) as session:
        session.add(vault := Vault.open("v-1"))
        vault.deposit()
        vault.deposit()
        session.commit()
    assert len(sent) == 2
    with Session(pipelined) as session:
        assert session.scalar(text("SELECT version FROM snapshots")) == 3
        assert session.get_one(Vault, "v-1").balance == 2


def test_a_handler_finds_the_events_that_were_held(pipelined: Engine) -> None:
    with Session(pipelined) as session:
        session.add(Audited.open("a-1"))
        session.commit()
        assert session.scalars(select(Audit.id)).all() == ["a-1 with 1"]


def test_an_ordinary_transaction_saves_its_begin(pipelined: Engine) -> None:
    with round_trips(pipelined) as sent, Session(pipelined) as session:
        session.add(Note(id="n-1", text="one"))
        session.commit()
    assert len(sent) == 2
    with round_trips(pipelined) as sent, pipelined.connect() as connection:
        assert connection.scalar(text("SELECT text FROM pipelined_notes WHERE id = :id"), {"id": "n-1"}) == "one"
        connection.rollback()
    assert len(sent) == 2


def test_an_ordinary_row_in_the_same_flush_keeps_its_own(pipelined: Engine) -> None:
    with round_trips(pipelined) as sent, Session(pipelined) as session:
        session.add_all([Account.open("a-1"), Note(id="n-1", text="one")])
        session.commit()
    assert len(sent) == 3  # BEGIN with events and models; the row; COMMIT
    with Session(pipelined) as session:
        assert session.get_one(Note, "n-1").text == "one"
        assert session.get_one(Account, "a-1").version == 1


def test_a_flush_of_the_application_waits(pipelined: Engine) -> None:
    with round_trips(pipelined) as sent, Session(pipelined) as session:
        session.add(account := Account.open("a-1"))
        session.flush()
        assert session.scalar(text("SELECT count(*) FROM events")) == 1
        account.deposit()
        session.flush()
        assert session.scalars(select(Balance.total)).all() == [1]
        session.rollback()
    assert sent[-1] == "ROLLBACK"
    assert _versions(pipelined) == []


def _listen(engine: Engine) -> None:
    event.listen(engine, "after_cursor_execute", lambda *_: None)


def _listen_to_errors(engine: Engine) -> None:
    event.listen(engine, "handle_error", lambda _context: None)


@pytest.mark.parametrize("listen", [_listen, _listen_to_errors])
def test_where_the_engine_has_listeners_all_is_waited_for(pipelined: Engine, listen: Callable[[Engine], None]) -> None:
    listen(pipelined)
    with round_trips(pipelined) as sent, Session(pipelined) as session:
        session.add(Account.open("a-1"))
        session.commit()
    assert len(sent) == 3  # BEGIN with the events; a model; COMMIT
    assert _versions(pipelined) == [1]


def _hook_of_the_flush(session: Session) -> None:
    event.listen(session, "after_flush", lambda session, _: session.execute(text("SELECT 1")))


def _hook_after_the_flush(session: Session) -> None:
    event.listen(session, "after_flush_postexec", _add_once)


def _add_once(session: Session, _context: object) -> None:
    if session.get(Note, "n-1") is None:
        session.add(Note(id="n-1", text="behind"))


@pytest.mark.parametrize("hook", [_hook_of_the_flush, _hook_after_the_flush])
def test_where_the_session_has_hooks_behind_the_flush_the_commit_is_by_itself(
    pipelined: Engine, hook: Callable[[Session], None]
) -> None:
    with round_trips(pipelined) as sent, Session(pipelined) as session:
        hook(session)
        session.add(Account.open("a-1"))
        session.commit()
    assert sent[-1] == "COMMIT"
    assert _versions(pipelined) == [1]


async def test_an_asynchronous_session_too(postgres_engine: Engine) -> None:
    url = postgres_engine.url.set(drivername="postgresql+psycopg_pipelined")
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
    with traced(driver) as sent:
        async with AsyncSession(engine) as session:
            session.add(Account.open("a-1"))
            await session.commit()
    assert len(sent) == 1
    with traced(driver) as sent:
        async with AsyncSession(engine) as session:
            (await session.get_one(Account, "a-1")).deposit(5)
            await session.commit()
    assert len(sent) == 2
    async with AsyncSession(engine) as session:
        assert (await session.scalars(select(Balance.total))).all() == [5]
    with traced(driver) as sent:
        async with AsyncSession(engine) as session:
            session.add_all([Account.open("a-2"), Note(id="n-1", text="one")])
            await session.flush()
            await session.commit()
    assert len(sent) == 3
    await engine.dispose()
