"""What an application asks of SQLAlchemy's own dialect for psycopg, it gets here as well."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError, ResourceClosedError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sa_eventsource import ConcurrencyError
from sa_eventsource.observation import Observation, observe
from sa_eventsource.store.held_statements import HeldStatements, hold_statements
from tests.pipelined.accounts import Account
from tests.poolers import pooled
from tests.round_trips import round_trips
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

_TOO_MANY = 65536
"""Parameters: one more than libpq sends."""


@pytest.fixture(params=["psycopg", "psycopg_pipelined"])
def engine(request: pytest.FixtureRequest, pipelined: Engine) -> Iterator[Engine]:
    """Engine of either dialect, with two connections."""
    engine = create_engine(pipelined.url.set(drivername=f"postgresql+{request.param}"), pool_size=2, max_overflow=0)
    yield engine
    engine.dispose()


_SEVERAL = "INSERT INTO pipelined_notes VALUES ('a', ';'); INSERT INTO pipelined_notes VALUES ('b', ';')"


def _as_text(connection: Connection) -> None:
    connection.execute(text(_SEVERAL))


def _for_the_driver(connection: Connection) -> None:
    connection.exec_driver_sql(_SEVERAL)


def _with_a_parameter_that_is_not_used(connection: Connection) -> None:
    connection.exec_driver_sql(_SEVERAL, {"unused": 1})


def _by_a_cursor(connection: Connection) -> None:
    connection.connection.cursor().execute(_SEVERAL, ())


@pytest.mark.parametrize("send", [_as_text, _for_the_driver, _with_a_parameter_that_is_not_used, _by_a_cursor])
@pytest.mark.parametrize("has_begun", [False, True], ids=["first", "later"])
def test_several_statements_in_one_text_are_executed(engine: Engine, send: Callable[[Connection], None], has_begun: bool) -> None:
    with engine.begin() as connection:
        if has_begun:
            connection.execute(text("SELECT 1"))
        send(connection)
        assert connection.scalars(text("SELECT id FROM pipelined_notes ORDER BY id")).all() == ["a", "b"]


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT 1;", "SELECT 1 ;\n"])
def test_one_statement_without_parameters_goes_with_begin(pipelined: Engine, statement: str) -> None:
    with round_trips(pipelined) as sent, pipelined.connect() as connection:
        assert connection.scalar(text(statement)) == 1
        connection.rollback()
    assert len(sent) == 2


class _OwnCursor(psycopg.Cursor[Any]):
    pass


class _OwnAsyncCursor(psycopg.AsyncCursor[Any]):
    pass


@pytest.mark.parametrize("cursors", [psycopg.ClientCursor, _OwnCursor], ids=["of psycopg", "of the application"])
def test_a_conflict_is_one_with_cursors_of_another_kind(engine: Engine, cursors: Any) -> None:
    other = create_engine(engine.url, connect_args={"cursor_factory": cursors})
    with Session(other) as session:
        session.add(Account.open("a-1"))
        session.commit()
        account = session.get_one(Account, "a-1")
        with Session(other) as elsewhere:
            elsewhere.get_one(Account, "a-1").deposit()
            elsewhere.commit()
        account.deposit()
        with pytest.raises(ConcurrencyError):
            session.commit()
    other.dispose()


async def test_a_conflict_is_one_with_asynchronous_cursors_of_another_kind(pipelined: Engine) -> None:
    engine = create_async_engine(pipelined.url, connect_args={"cursor_factory": _OwnAsyncCursor})
    async with AsyncSession(engine) as session:
        session.add(Account.open("a-1"))
        await session.commit()
    async with AsyncSession(engine) as session:
        session.add(Account.open("a-1"))
        with pytest.raises(ConcurrencyError):
            await session.commit()
    await engine.dispose()


def test_a_commit_within_a_pipeline_of_the_driver_is_refused_and_leaves_nothing_behind(engine: Engine) -> None:
    """SQLAlchemy reads answers at once, which do not come there."""
    with Session(engine) as session:
        driver: Any = session.connection().connection.driver_connection
        with driver.pipeline():
            session.add(Account.open("a-1"))
            with pytest.raises(ResourceClosedError):
                session.commit()
        session.rollback()
        assert session.connection().connection.driver_connection is driver
        assert session.scalar(text("SELECT count(*) FROM events")) == 0


def test_a_commit_within_a_transaction_block_of_the_driver_is_refused_and_leaves_nothing_behind(engine: Engine) -> None:
    with Session(engine) as session:
        driver: Any = session.connection().connection.driver_connection
        with driver.transaction(force_rollback=True):
            session.add(Account.open("a-1"))
            with pytest.raises(ProgrammingError, match="forbidden within a Transaction"):
                session.commit()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM events")) == 0


@pytest.mark.parametrize("has_begun", [False, True], ids=["first", "later"])
def test_the_server_says_why_it_has_cut_a_connection_off(engine: Engine, has_begun: bool) -> None:
    with engine.connect() as connection:
        if has_begun:
            connection.execute(text("SELECT 1"))
        with pytest.raises(OperationalError) as caught:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert isinstance(caught.value.orig, psycopg.errors.AdminShutdown)
        assert caught.value.connection_invalidated


def test_the_server_says_why_it_has_cut_off_what_waits(engine: Engine) -> None:
    with engine.connect() as connection, engine.connect() as other:
        driver: Any = connection.connection.driver_connection
        thread = threading.Thread(target=_end_when_active, args=(other, driver.info.backend_pid))
        thread.start()
        with pytest.raises(OperationalError) as caught:
            connection.execute(text("SELECT pg_sleep(60)"))
        thread.join(60)
        assert isinstance(caught.value.orig, psycopg.errors.AdminShutdown)
        assert caught.value.connection_invalidated


def test_the_server_says_why_it_has_cut_a_connection_off_through_a_pooler(engine: Engine) -> None:
    """PgBouncer has more to say behind that."""
    with pooled(engine.url.render_as_string(hide_password=False), pool_size=1) as url:
        through = create_engine(url.set(drivername=engine.url.drivername), connect_args={"prepare_threshold": None})
        with through.connect() as connection, engine.connect() as other:
            thread = threading.Thread(target=_end_when_active, args=(other, None))
            thread.start()
            with pytest.raises(OperationalError) as caught:
                connection.execute(text("SELECT pg_sleep(60)"))
            thread.join(60)
        assert isinstance(caught.value.orig, psycopg.errors.AdminShutdown)
        assert caught.value.connection_invalidated
        through.dispose()


def _end_when_active(connection: Connection, pid: int | None) -> None:
    of = "datname = current_database()" if pid is None else f"pid = {pid}"
    asked = text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {of} AND wait_event = 'PgSleep'")
    with connection.execution_options(isolation_level="AUTOCOMMIT"):
        wait_until(lambda: connection.execute(asked).all())


class _Seen:
    """An observer that remembers how appends have ended."""

    def __init__(self) -> None:
        self.ended: list[str | None] = []

    @contextmanager
    def __call__(self, observation: Observation) -> Iterator[None]:
        if observation.operation != "append":
            yield
            return
        try:
            yield
        except Exception as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append(None)


def _by_the_server(connection: Connection) -> None:
    pid = connection.scalar(text("SELECT pg_backend_pid()"))
    connection.rollback()
    with connection.engine.connect() as other:
        other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def _by_the_application(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    driver.pgconn.finish()


@pytest.mark.parametrize("cut_off", [_by_the_server, _by_the_application])
def test_a_commit_without_a_connection_names_the_statement_that_could_not_be_sent(
    engine: Engine, cut_off: Callable[[Connection], None]
) -> None:
    with engine.connect() as connection, Session(connection) as session:
        cut_off(connection)
        session.add(Account.open("a-1"))
        with pytest.raises(OperationalError) as caught:
            session.commit()
        assert caught.value.connection_invalidated
        assert caught.value.statement is not None
        assert "INTO events" in caught.value.statement


def test_observers_are_told_of_an_append_that_is_refused(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Account.open("a-1"))
        session.commit()
    seen = _Seen()
    stop = observe(seen)
    try:
        with Session(engine) as session:
            session.add(Account.open("a-1"))
            with pytest.raises(ConcurrencyError):
                session.commit()
    finally:
        stop()
    assert seen.ended == ["AppendRefusedError"]


def _too_many(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT 1 WHERE 1 IN ({','.join(['%s'] * _TOO_MANY)})", tuple(range(_TOO_MANY)))


@pytest.mark.parametrize("has_begun", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("threshold", [None, 0], ids=["not prepared", "prepared"])
def test_what_cannot_be_sent_leaves_the_connection_usable(engine: Engine, has_begun: bool, threshold: int | None) -> None:
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.prepare_threshold = threshold
        if has_begun:
            connection.execute(text("SELECT 1"))
        with pytest.raises(OperationalError, match="number of parameters") as caught:
            _too_many(connection)
        assert not caught.value.connection_invalidated
        assert connection.scalar(text("SELECT 1")) == 1
        connection.rollback()
        assert connection.connection.driver_connection is driver
        assert connection.scalar(text("SELECT 2")) == 2


def _held(connection: Connection) -> HeldStatements:
    held = hold_statements(connection)
    assert held is not None
    return held


def _hold(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> None:
    connection.exec_driver_sql(statement, parameters, execution_options={"sa_eventsource_may_be_held": True})


_INSERT = "INSERT INTO pipelined_notes VALUES (%s, 'text')"


def test_what_cannot_be_sent_keeps_what_is_behind_it_from_being_sent(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        held = _held(connection)
        with pytest.raises(OperationalError, match="number of parameters"), held:
            _hold(connection, _INSERT, ("a",))
            _hold(connection, f"SELECT 1 WHERE '1' IN ({','.join(['%s'] * _TOO_MANY)})", ("1",) * _TOO_MANY)
            _hold(connection, _INSERT, ("b",))
            held.settle(commits=True)
        assert not held.failed_to_commit
        assert not connection.invalidated
        driver: Any = connection.connection.driver_connection
        assert driver.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        connection.rollback()
        assert connection.scalar(text("SELECT count(*) FROM pipelined_notes")) == 0


def test_what_fails_on_the_server_counts_before_what_cannot_be_sent(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        held = _held(connection)
        with pytest.raises(IntegrityError), held:
            _hold(connection, _INSERT, ("a",))
            _hold(connection, _INSERT, ("a",))
            _too_many(connection)
        connection.rollback()
        assert connection.scalar(text("SELECT 1")) == 1


def test_a_begin_that_fails_is_not_taken_for_the_commit(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver._begin_statement = b"BEGIN ISOLATION LEVEL UNKNOWN"
        held = _held(connection)
        with pytest.raises(DBAPIError, match="syntax error"), held:
            _hold(connection, _INSERT, ("a",))
            held.settle(commits=True)
        assert not held.failed_to_commit
        connection.invalidate()


def test_a_commit_that_fails_is_told_from_what_goes_before_it(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        held = _held(connection)
        with suppress(IntegrityError), held:
            _hold(connection, "INSERT INTO pipelined_remarks VALUES (%s, 'nowhere')", (1,))
            held.settle(commits=True)
        assert held.failed_to_commit
        connection.rollback()
