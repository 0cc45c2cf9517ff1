"""Commits in two phases, on a server that has prepared transactions: the same on either dialect, also where all ends in between."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sa_eventsource import ConcurrencyError
from tests.bank import Deposited, Opened
from tests.databases import EmbeddedServer
from tests.pipelined.accounts import Account, Balance, Base, Note, Owner
from tests.processes import end, fork, pipe
from tests.round_trips import round_trips

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["psycopg", "psycopg_pipelined"])
def engine(request: pytest.FixtureRequest, preparing_server: EmbeddedServer) -> Iterator[Engine]:
    """Engine of either dialect, with one connection."""
    name = f"test_{uuid4().hex}"
    _execute(preparing_server.url, f"CREATE DATABASE {name} TEMPLATE template0")
    url = make_url(preparing_server.url).set(drivername=f"postgresql+{request.param}", database=name)
    engine = create_engine(url, pool_size=1, max_overflow=0)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()
    for gid in _prepared(engine):
        _execute(engine.url, f"ROLLBACK PREPARED '{gid}'")
    _execute(preparing_server.url, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(url: str | URL, statement: str) -> None:
    """Execute a statement on a connection of its own: a test may cut any other one off."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def _prepared(engine: Engine) -> list[Any]:
    """What is prepared in the engine's database, and not committed."""
    other = create_engine(engine.url)
    with other.connect() as connection:
        found = connection.scalars(text("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")).all()
    other.dispose()
    return list(found)


def _stored(engine: Engine) -> tuple[int, int, int]:
    """Count events, balances and owners, as others see them."""
    other = create_engine(engine.url)
    with other.connect() as connection:
        counted = [
            connection.scalar(text(f"SELECT count(*) FROM {table}")) for table in ("events", "pipelined_balances", "projections")
        ]
    other.dispose()
    return counted[0] or 0, counted[1] or 0, counted[2] or 0


_ALL, _NONE = (2, 1, 1), (0, 0, 0)


def _account(key: str = "a-1") -> Account:
    account = Account(id=key)
    account.apply_event(Opened(owner="ann"))
    account.apply_event(Deposited(amount=5))
    return account


def test_a_commit_has_both_phases(engine: Engine) -> None:
    with round_trips(engine) as sent, Session(engine, twophase=True) as session:
        session.add(account := _account())
        session.commit()
        assert account.version == 2
    phases = [each.split(maxsplit=2)[:2] for each in sent if "PREPARE" in each]
    assert phases == [["PREPARE", "TRANSACTION"], ["COMMIT", "PREPARED"]]
    assert _prepared(engine) == []
    with Session(engine, twophase=True) as session:
        session.get_one(Account, "a-1").deposit(2)
        session.commit()
        assert session.scalars(select(Balance.total)).all() == [7]
        assert session.scalars(select(Owner.owner)).all() == ["ann"]


async def test_an_asynchronous_session_has_both_phases(engine: Engine) -> None:
    asynchronous = create_async_engine(engine.url)
    async with AsyncSession(asynchronous, sync_session_class=Session, twophase=True) as session:
        session.add(_account())
        await session.commit()
    await asynchronous.dispose()
    assert _prepared(engine) == []
    assert _stored(engine) == _ALL


def test_what_is_prepared_is_seen_by_nobody_until_it_is_committed(engine: Engine) -> None:
    with Session(engine, twophase=True) as session:
        session.add(_account())
        session.prepare()
        assert len(_prepared(engine)) == 1
        assert _stored(engine) == _NONE
        session.commit()
    assert _prepared(engine) == []
    assert _stored(engine) == _ALL


def test_what_is_prepared_can_be_rolled_back(engine: Engine) -> None:
    with Session(engine, twophase=True) as session:
        session.add(account := _account())
        session.prepare()
        session.rollback()
        assert len(account.pending_events) == 2
    assert _prepared(engine) == []
    assert _stored(engine) == _NONE
    with Session(engine, twophase=True) as session:
        session.add(account)
        session.commit()
    assert _stored(engine) == _ALL


def test_a_conflict_is_found_in_the_first_phase(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(_account())
        session.commit()
    with Session(engine, twophase=True) as session:
        session.add_all([_account(), Note(id="n-1", text="one")])
        with pytest.raises(ConcurrencyError) as caught:
            session.prepare()
        assert caught.value.actual_version == 2
        session.rollback()
        assert _prepared(engine) == []
        session.get_one(Account, "a-1").deposit()
        session.commit()
    assert _stored(engine) == (3, 1, 1)


def test_another_writer_of_the_stream_waits_for_what_is_prepared(engine: Engine) -> None:
    with Session(engine, twophase=True) as session:
        session.add(_account())
        session.prepare()
        other = create_engine(engine.url, connect_args={"options": "-c lock_timeout=20ms"})
        with Session(other) as second:
            second.add(account := _account())
            with pytest.raises(OperationalError, match="lock timeout"):
                second.commit()
            second.rollback()
            session.commit()
            second.add(account)
            with pytest.raises(ConcurrencyError):
                second.commit()
        other.dispose()
    assert _stored(engine) == _ALL


def _prepare_and_wait(url: str, channel: Any) -> None:
    with Session(create_engine(url), twophase=True) as session:
        session.add(_account())
        session.prepare()
        channel.send("prepared")
        signal.pause()


def _with_its_process(engine: Engine, _server: EmbeddedServer) -> None:
    """Kill the process that has prepared."""
    reading, writing = pipe()
    process = fork(_prepare_and_wait, engine.url.render_as_string(hide_password=False), writing)
    assert reading.recv() == "prepared"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    end(process)


def _prepare_and_lose(engine: Engine, lose: Callable[[int], None]) -> None:
    with Session(engine, twophase=True) as session:
        session.add(_account())
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        session.prepare()
        lose(pid)
        with pytest.raises(OperationalError):
            session.commit()


def _with_its_connection(engine: Engine, _server: EmbeddedServer) -> None:
    """End the connection between the phases."""

    def lose(pid: int) -> None:
        _execute(engine.url, f"SELECT pg_terminate_backend({pid}, 5000)")

    _prepare_and_lose(engine, lose)


def _with_the_server(engine: Engine, server: EmbeddedServer) -> None:
    """Crash the server between the phases, and start it again."""

    def lose(_pid: int) -> None:
        server.crash()
        server.restart()

    _prepare_and_lose(engine, lose)


@pytest.mark.parametrize("finish", ["commit", "rollback"])
@pytest.mark.parametrize("end_all", [_with_its_process, _with_its_connection, _with_the_server])
def test_what_ends_between_the_phases_is_recovered(
    engine: Engine,
    preparing_server: EmbeddedServer,
    end_all: Callable[[Engine, EmbeddedServer], None],
    finish: str,
) -> None:
    end_all(engine, preparing_server)
    engine.dispose()
    assert _stored(engine) == _NONE
    with engine.connect() as connection:
        (found,) = connection.recover_twophase()
        connection.rollback()
        if finish == "commit":
            connection.commit_prepared(found, recover=True)
        else:
            connection.rollback_prepared(found, recover=True)
        assert connection.recover_twophase() == []
    assert _prepared(engine) == []
    assert _stored(engine) == (_ALL if finish == "commit" else _NONE)
    with Session(engine, twophase=True) as session:
        account = session.get(Account, "a-1")
        if account is None:
            session.add(account := _account())
        else:
            account.deposit(0)
        session.commit()
        assert account.balance == 5
