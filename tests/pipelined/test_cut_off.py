"""Cut off in the middle: by the server, by hand, by an interrupt, by the network, by the end of the process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

import psycopg
import pytest
import sqlalchemy
from packaging.version import Version
from sqlalchemy import URL, Engine, create_engine, distinct, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sa_eventsource import EventAlreadyAppendedError, EventRecord, ReadModelError
from sa_eventsource.pipelined import dialect, driver, exchange
from sa_eventsource.store import held_statements
from tests.bank import Deposited, Opened
from tests.databases import HERE
from tests.interrupting import is_interrupted
from tests.pipelined.accounts import Account, Balance, Owner
from tests.processes import end, fork
from tests.threads import in_thread
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _account(key: str = "a-1") -> Account:
    account = Account(id=key)
    account.apply_event(Opened(owner="ann"), event_id=uuid5(NAMESPACE_OID, f"{key} opened"), occurred_at=MOMENT)
    account.apply_event(Deposited(amount=5), event_id=uuid5(NAMESPACE_OID, f"{key} deposited"), occurred_at=MOMENT)
    return account


def _stored(engine: Engine) -> tuple[int, int, int]:
    """Count events, balances and owners."""
    with engine.connect() as connection:
        counted = [
            connection.scalar(text(f"SELECT count(*) FROM {table}")) for table in ("events", "pipelined_balances", "projections")
        ]
        return counted[0] or 0, counted[1] or 0, counted[2] or 0


_ALL = (2, 1, 1)
_NONE = (0, 0, 0)


@contextmanager
def _locked(engine: Engine, table: str) -> Iterator[psycopg.Connection[Any]]:
    """Keep others from writing to a table: the events are written by then, and a COMMIT is on its way behind."""
    dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn) as connection:
        connection.execute(f"LOCK TABLE {table} IN SHARE MODE".encode())
        yield connection


def _blocked(connection: psycopg.Connection[Any]) -> list[Any]:
    waits = f"SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'projections'::regclass AND database = ({HERE})"
    return connection.execute(waits.encode()).fetchall()


@pytest.mark.parametrize("end_by", ["pg_terminate_backend", "pg_cancel_backend"])
def test_the_server_cuts_it_off(pipelined: Engine, end_by: str) -> None:
    account = _account()

    def commit() -> None:
        with Session(pipelined) as session:
            session.add(account)
            session.commit()

    with _locked(pipelined, "projections") as connection:
        thread, errors = in_thread(commit)
        wait_until(lambda: _blocked(connection))
        connection.execute(f"SELECT {end_by}(%s)".encode(), _blocked(connection)[0])
        thread.join(60)
    was_lost = end_by == "pg_terminate_backend"
    if not was_lost:  # of a single model's statement, as far as anybody can tell
        assert isinstance(errors[0], ReadModelError)
    error: Any = errors[0] if was_lost else errors[0].__cause__
    assert isinstance(error.orig, psycopg.errors.AdminShutdown) == was_lost  # what the server has said
    assert error.connection_invalidated == was_lost
    assert any("nobody knows whether they are stored" in note for note in getattr(error, "__notes__", ())) == was_lost
    assert "pipelined_owners" in error.statement
    assert _stored(pipelined) == _NONE
    with Session(pipelined) as session:
        session.add(account)
        session.commit()
    assert _stored(pipelined) == _ALL


def test_an_interrupt_cuts_it_off(pipelined: Engine) -> None:
    account = _account()
    with _locked(pipelined, "projections") as connection:

        def interrupt() -> None:
            wait_until(lambda: _blocked(connection))
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with Session(pipelined) as session:
            session.add(account)
            with pytest.raises(KeyboardInterrupt):
                session.commit()
            session.rollback()
        thread.join(60)
    assert _stored(pipelined) == _NONE
    with Session(pipelined) as session:
        session.add(account)
        session.commit()
    assert _stored(pipelined) == _ALL


async def test_a_cancelled_task_cuts_it_off(pipelined: Engine) -> None:
    engine = create_async_engine(pipelined.url, pool_size=1, max_overflow=0)
    account = _account()

    async def commit() -> None:
        async with AsyncSession(engine) as session:
            session.add(account)
            await session.commit()

    with _locked(pipelined, "projections") as connection:
        task = asyncio.create_task(commit())
        await asyncio.to_thread(wait_until, lambda: _blocked(connection))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert _stored(pipelined) == _NONE
    async with AsyncSession(engine) as session:
        session.add(account)
        await session.commit()
    assert _stored(pipelined) == _ALL
    await engine.dispose()


class _Network:
    """A proxy that lets what a client sends through, and may lose what it is answered."""

    def __init__(self, url: URL) -> None:
        dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(dsn) as connection:
            self._server = connection.info.host, connection.info.port
        self.is_losing = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        query = {name: value for name, value in url.query.items() if name != "host"}
        self.url = url.set(host="127.0.0.1", port=self._listening.getsockname()[1], query=query)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self._server[0].startswith("/"):
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(f"{self._server[0]}/.s.PGSQL.{self._server[1]}")
                else:
                    server = socket.create_connection(self._server)
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            forwarding = threading.Thread(target=self._forward, args=(client, server), daemon=True)
            forwarding.start()
            self._answer(server, client)
            forwarding.join()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if self.is_losing.is_set():
                    break
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let nobody in any more."""
        self._listening.close()


def test_the_network_loses_the_answer(pipelined: Engine) -> None:
    network = _Network(pipelined.url)
    engine = create_engine(network.url, pool_size=1, max_overflow=0)
    with Session(engine) as session:
        session.add(_account("a-0"))
        session.commit()
        network.is_losing.set()
        session.add(_account())
        with pytest.raises(OperationalError) as caught:
            session.commit()
        assert caught.value.connection_invalidated
        assert any("nobody knows whether they are stored" in note for note in caught.value.__notes__)
        session.rollback()
        network.is_losing.clear()
        wait_until(lambda: _stored(pipelined) == (4, 2, 2))
        session.add(_account())
        with pytest.raises(EventAlreadyAppendedError):
            session.commit()
    engine.dispose()
    network.close()


def _commit_one(url: str) -> None:
    with Session(create_engine(url)) as session:
        session.add(_account())
        session.commit()


def test_the_process_is_killed(pipelined: Engine) -> None:
    """What it has sent goes on: all of it, as its COMMIT was sent, too."""
    with _locked(pipelined, "projections") as connection:
        process = fork(_commit_one, pipelined.url.render_as_string(hide_password=False))
        wait_until(lambda: _blocked(connection))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        end(process)
    wait_until(lambda: _stored(pipelined) == _ALL)


_FILES = {each.__file__ for each in (dialect, driver, exchange, held_statements)}


@pytest.mark.skipif(
    Version(sqlalchemy.__version__) < Version("2.0.55"),
    reason="an older SQLAlchemy never gives a connection to anyone again that is interrupted while the pool resets it",
)
def test_an_interrupt_anywhere_leaves_all_or_nothing(pipelined: Engine) -> None:
    """And the next one a connection that holds nothing."""

    def commit(number: int) -> bool:
        with Session(pipelined) as session:
            session.add(_account(f"a-{number}"))
            return is_interrupted(session, number, lambda frame: frame.f_code.co_filename in _FILES)

    number = 1
    goes_on = True
    while goes_on:
        goes_on = commit(number)
        with Session(pipelined) as session:
            driver: Any = session.connection().connection.driver_connection
            assert not (driver.is_holding or driver.held or driver.owner)
            assert _is_whole(session)
            session.add(_account(f"b-{number}"))
            session.commit()
        number += 1
    assert number > 20
    with Session(pipelined) as session:
        assert _is_whole(session)


_KEYS = select(
    *(select(func.array_agg(distinct(each))).scalar_subquery() for each in (EventRecord.aggregate_id, Balance.id, Owner.id))
)


def _is_whole(session: Session) -> bool:
    """In one statement: the server may commit what an interrupt left on its way between two of them."""
    events, balances, owners = list(session.execute(_KEYS).one())
    return bool(events == balances == owners)
