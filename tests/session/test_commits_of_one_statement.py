"""A commit that has nothing but events to write: one statement, one round trip; in all other cases a transaction as usual.

On SQLAlchemy's own dialect for psycopg; the pipelined one has tests of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sa_eventsource import ConcurrencyError, EventAlreadyAppendedError
from sa_eventsource.observation import Observation, observe
from sa_eventsource.store.statements_alone import execute_alone
from tests.databases import WAITING_FOR_EVENTS, number_waiting
from tests.interrupting import is_interrupted
from tests.orders import Customer, Order
from tests.pipelined import accounts
from tests.round_trips import round_trips, traced
from tests.session.helpers import note_elsewhere, place_order, stored_types
from tests.threads import in_thread
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def one_connection(postgres: Engine) -> Iterator[Engine]:
    """Engine with one connection, to which nobody listens."""
    engine = create_engine(postgres.url.set(drivername="postgresql+psycopg"), pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


def _is_driver_in_autocommit(engine: Engine) -> bool:
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        return bool(driver.autocommit)


def test_a_new_aggregate_takes_one_round_trip(one_connection: Engine) -> None:
    place_order(one_connection)
    with round_trips(one_connection) as sent, Session(one_connection) as session:
        session.add(Order.place())
        session.commit()
    assert len(sent) == 1
    assert stored_types(one_connection) == ["OrderPlaced"] * 2


def test_a_change_of_what_a_transaction_before_has_loaded_takes_one_round_trip(one_connection: Engine) -> None:
    with Session(one_connection, expire_on_commit=False) as session:
        order = Order.place()
        session.add(order)
        session.commit()
        with round_trips(one_connection) as sent, session.begin():
            order.pay()
        assert order.version == 2
    assert len(sent) == 1
    assert stored_types(one_connection) == ["OrderPlaced", "OrderPaid"]


def test_several_aggregates_with_several_events_take_one_round_trip(one_connection: Engine) -> None:
    order_id = place_order(one_connection)
    with Session(one_connection, expire_on_commit=False) as session:
        order = session.get_one(Order, order_id)
        session.commit()
        with round_trips(one_connection) as sent:
            order.note("a")
            order.note("b")
            for _ in range(2):
                session.add(another := Order.place())
                another.pay()
            session.commit()
    assert len(sent) == 1
    assert sorted(stored_types(one_connection)) == ["NoteAdded"] * 2 + ["OrderPaid"] * 2 + ["OrderPlaced"] * 3


async def test_an_asynchronous_session_too(postgres: Engine) -> None:
    engine = create_async_engine(postgres.url, pool_size=1, max_overflow=0)
    with traced(await _driver(engine)) as sent:
        async with AsyncSession(engine) as session:
            session.add(Order.place())
            await session.commit()
    await engine.dispose()
    assert len(sent) == 1
    assert stored_types(postgres) == ["OrderPlaced"]


async def _driver(engine: Any) -> Any:
    async with engine.connect() as connection:
        return (await connection.get_raw_connection()).driver_connection


def _with_an_entity(session: Session) -> None:
    session.add(Customer(id="c-1", email="ann@example.com"))


def _behind_a_statement(session: Session) -> None:
    session.execute(text("SELECT 1"))


def _in_an_isolation_level(session: Session) -> None:
    session.connection(execution_options={"isolation_level": "SERIALIZABLE"})


def _with_a_hook_before_the_commit(session: Session) -> None:
    event.listen(session, "before_commit", lambda _session: None)


def _with_a_hook_of_the_flush(session: Session) -> None:
    event.listen(session, "after_flush", lambda *_: None)


def _with_a_hook_of_the_transaction(session: Session) -> None:
    event.listen(
        session, "after_begin", lambda _session, _transaction, connection: connection.execute(text("SET LOCAL work_mem='8MB'"))
    )


def _flushed_before(session: Session) -> None:
    session.flush()


def _in_a_savepoint(session: Session) -> None:
    session.begin_nested()


@pytest.mark.parametrize(
    "also",
    [
        _with_an_entity,
        _behind_a_statement,
        _in_an_isolation_level,
        _with_a_hook_before_the_commit,
        _with_a_hook_of_the_flush,
        _with_a_hook_of_the_transaction,
        _flushed_before,
        _in_a_savepoint,
    ],
)
def test_whatever_else_there_is_comes_in_one_transaction(one_connection: Engine, also: Callable[[Session], None]) -> None:
    with round_trips(one_connection) as sent, Session(one_connection) as session:
        session.add(Order.place())
        also(session)
        session.commit()
    assert sum(each.startswith("BEGIN") for each in sent) == 1
    assert sent[-1] == "COMMIT"


def test_a_listener_to_the_engine_may_send_statements_of_its_own(postgres: Engine) -> None:
    engine = create_engine(postgres.url, pool_size=1, max_overflow=0)

    @event.listens_for(engine, "commit")
    def audit(connection: Any) -> None:
        connection.exec_driver_sql("DO $$ BEGIN RAISE division_by_zero; END $$")

    with Session(engine) as session:
        session.add(Order.place())
        with pytest.raises(Exception, match="division_by_zero"):
            session.commit()
    engine.dispose()
    assert stored_types(postgres) == []


@pytest.mark.parametrize("mode", ["conditional_savepoint", "rollback_only", "create_savepoint"])
def test_a_transaction_of_somebody_else_is_not_committed(one_connection: Engine, mode: Any) -> None:
    with one_connection.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode=mode) as session:
            session.add(Order.place())
            session.commit()
        outer.rollback()
    assert stored_types(one_connection) == []


def test_a_connection_that_the_session_begins_on_is_committed(one_connection: Engine) -> None:
    with one_connection.connect() as connection, Session(connection) as session:
        session.add(Order.place())
        session.commit()
        assert not connection.in_transaction()
    assert stored_types(one_connection) == ["OrderPlaced"]


@pytest.fixture
def bank(postgres_engine: Engine) -> Engine:
    """The tables of the pipelined dialect's accounts, some of which have strong models, in place of those of the folder."""
    with postgres_engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    accounts.Base.metadata.create_all(postgres_engine)
    return postgres_engine


def test_a_strong_models_row_comes_in_the_transaction_of_its_event(bank: Engine) -> None:
    with Session(bank) as session:
        account = accounts.Account.open("a-1")
        account.deposit(1000)
        session.add(account)
        with pytest.raises(Exception, match="not_too_much"):
            session.commit()
        session.rollback()
        assert session.scalar(text("SELECT count(*) FROM events")) == 0
        account = accounts.Account.open("a-1")
        account.deposit(999)
        session.add(account)
        session.commit()
        assert session.scalars(select(accounts.Balance.total)).all() == [999]


def test_a_snapshot_comes_in_the_transaction_of_its_event(bank: Engine) -> None:
    with Session(bank, expire_on_commit=False) as session:
        vault = accounts.Vault.open("v-1")
        vault.deposit()
        session.add(vault)
        session.commit()
        with bank.begin() as connection:
            connection.execute(text("ALTER TABLE snapshots ADD CHECK (version > 3)"))
        vault.deposit()
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert session.scalar(text("SELECT count(*) FROM events")) == 2


def test_the_loser_of_a_race_is_told_as_ever(one_connection: Engine) -> None:
    order_id = place_order(one_connection)
    with Session(one_connection, expire_on_commit=False) as session:
        order = session.get_one(Order, order_id)
        session.commit()
        note_elsewhere(one_connection, order_id)
        order.pay()
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        assert (caught.value.expected_version, caught.value.actual_version) == (1, 2)
        session.rollback()
    with Session(one_connection) as session:
        session.add(Order.place(order_id=order_id))
        with pytest.raises(ConcurrencyError):
            session.commit()
    assert not _is_driver_in_autocommit(one_connection)
    assert stored_types(one_connection) == ["OrderPlaced", "NoteAdded"]


def test_of_several_aggregates_none_is_written_where_one_has_lost_a_race(one_connection: Engine) -> None:
    order_id = place_order(one_connection)
    with Session(one_connection, expire_on_commit=False) as session:
        order = session.get_one(Order, order_id)
        session.commit()
        note_elsewhere(one_connection, order_id)
        new = Order.place()
        new.note("with it")
        session.add(new)
        order.pay()
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        assert (caught.value.aggregate_id, caught.value.expected_version, caught.value.actual_version) == (order_id, 1, 2)
        session.rollback()
        assert stored_types(one_connection) == ["OrderPlaced", "NoteAdded"]
        session.add(new)
        session.commit()
    assert not _is_driver_in_autocommit(one_connection)
    assert stored_types(one_connection) == ["OrderPlaced", "NoteAdded", "OrderPlaced", "NoteAdded"]


def test_an_error_of_a_trigger_is_told_as_it_is(one_connection: Engine) -> None:
    with one_connection.begin() as connection:
        connection.execute(text("ALTER TABLE events ADD CHECK (event_type <> 'shop.NoteAdded')"))
    with Session(one_connection) as session:
        session.add(order := Order.place())
        order.note("not allowed")
        with pytest.raises(IntegrityError, match="check constraint"):
            session.commit()
    assert stored_types(one_connection) == []


@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
def test_what_is_cut_off_leaves_the_next_one_a_transaction(postgres: Engine, one_connection: Engine, end: str) -> None:
    def commit() -> None:
        with Session(one_connection) as session:
            session.add(order)
            session.commit()

    order = Order.place()
    with postgres.connect() as connection:
        connection.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
        thread, errors = in_thread(commit)
        wait_until(lambda: number_waiting(postgres))
        connection.execute(text(f"SELECT {end}(pid) {WAITING_FOR_EVENTS}"))
        thread.join(60)
    (error,) = errors
    assert isinstance(error, OperationalError)
    was_lost = end == "pg_terminate_backend"
    assert error.connection_invalidated == was_lost
    assert any("nobody knows whether they are stored" in note for note in getattr(error, "__notes__", ())) == was_lost
    assert not _is_driver_in_autocommit(one_connection)
    with Session(one_connection) as session:
        session.add(order)
        session.commit()
    assert stored_types(postgres) == ["OrderPlaced"]


def test_a_commit_whose_answer_was_lost_can_be_repeated(postgres: Engine) -> None:
    """What the note says: the events are stored, and the aggregate, committed again, says so."""

    class LosesTheAnswer(psycopg.Connection[Any]):
        is_armed = False

        def set_autocommit(self, value: bool) -> None:
            if not value and self.is_armed:
                type(self).is_armed = False
                raise KeyboardInterrupt
            super().set_autocommit(value)

    url = postgres.url.set(drivername="postgresql").render_as_string(hide_password=False)
    engine = create_engine("postgresql+psycopg://", creator=lambda: LosesTheAnswer.connect(url), pool_size=1, max_overflow=0)
    order = Order.place()
    with Session(engine) as session:
        session.add(order)
        LosesTheAnswer.is_armed = True
        with pytest.raises(KeyboardInterrupt):
            session.commit()
    assert not _is_driver_in_autocommit(engine)  # another connection: nobody gets that one again
    with Session(engine) as session:
        session.add(order)
        with pytest.raises(EventAlreadyAppendedError):
            session.commit()
    engine.dispose()
    assert stored_types(postgres) == ["OrderPlaced"]


async def test_a_task_that_is_cancelled_meanwhile_leaves_the_next_one_a_transaction(postgres: Engine) -> None:
    engine = create_async_engine(postgres.url, pool_size=1, max_overflow=0)

    async def commit() -> None:
        async with AsyncSession(engine) as session:
            session.add(Order.place())
            await session.commit()

    with postgres.connect() as connection:
        connection.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
        task = asyncio.create_task(commit())
        await asyncio.to_thread(wait_until, lambda: number_waiting(postgres))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not (await _driver(engine)).autocommit
    await commit()
    await engine.dispose()
    assert stored_types(postgres) == ["OrderPlaced"]


def test_an_object_that_a_hook_adds_as_the_transaction_begins_is_committed_with_the_events_or_neither(
    one_connection: Engine,
) -> None:
    place_order(one_connection)
    with Session(one_connection) as session:
        session.add(Customer(id="c-1", email="ann@example.com"))
        session.commit()
    for _ in range(2):
        with Session(one_connection) as session:
            event.listen(session, "after_begin", lambda session, *_: session.add(Customer(id="c-1", email="ann@example.com")))
            session.add(order := Order.place())
            order.pay()
            with pytest.raises(IntegrityError):
                session.commit()
    assert stored_types(one_connection) == ["OrderPlaced"]


def test_a_hook_beneath_the_engine_may_send_statements_of_its_own(one_connection: Engine) -> None:
    @event.listens_for(one_connection, "do_execute")
    def with_a_setting(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        cursor.execute("SET LOCAL one_statement.writer = 'ann'")
        cursor.execute(statement, parameters)
        return True

    with one_connection.begin() as connection:
        connection.execute(text("ALTER TABLE events ADD CHECK (current_setting('one_statement.writer') = 'ann')"))
    with Session(one_connection) as session:
        session.add(Order.place())
        session.commit()
    assert stored_types(one_connection) == ["OrderPlaced"]


def test_a_hook_that_connects_is_in_nobodys_way(postgres: Engine) -> None:
    engine = create_engine(postgres.url, pool_size=1, max_overflow=0)
    event.listen(engine, "do_connect", lambda *_: None)
    with round_trips(engine) as sent, Session(engine) as session:
        session.add(Order.place())
        session.commit()
    engine.dispose()
    assert len(sent) == 1


def test_a_hook_that_translates_errors_does_not_see_a_lost_race_as_one(one_connection: Engine) -> None:
    class Translated(Exception):
        """The application's own."""

    @event.listens_for(one_connection, "handle_error")
    def translate(context: Any) -> None:
        raise Translated from context.original_exception

    order_id = place_order(one_connection)
    with Session(one_connection, expire_on_commit=False) as session:
        order = session.get_one(Order, order_id)
        session.commit()
        note_elsewhere(one_connection, order_id)
        order.pay()
        order.note("too late")
        with pytest.raises(ConcurrencyError):
            session.commit()


def test_a_session_class_may_do_more_in_its_flush(one_connection: Engine) -> None:
    class Audited(Session):
        def flush(self, *arguments: Any, **named: Any) -> None:
            super().flush(*arguments, **named)
            self.connection().execute(text("SELECT 1 / 0"))

    with Audited(one_connection) as session:
        session.add(Order.place())
        with pytest.raises(DBAPIError, match="division by zero"):
            session.commit()
    assert stored_types(one_connection) == []


def test_an_interrupt_around_the_statement_leaves_the_next_one_a_transaction(one_connection: Engine) -> None:
    def commit(number: int) -> bool:
        with Session(one_connection) as session:
            session.add(Order.place())
            return is_interrupted(session, number, lambda frame: frame.f_back is not None and frame.f_back.f_code is of_statement)

    of_statement = execute_alone.__code__
    number = 1
    while commit(number):
        assert not _is_driver_in_autocommit(one_connection), number
        number += 1
    assert number > len(["autocommit", "execute", "autocommit"])


class _Failing:
    """An observer that fails when the operation has ended, or before it."""

    def __init__(self, when: str) -> None:
        self._when = when

    def __call__(self, observation: Observation) -> _Failing:
        self.operation = observation.operation
        return self

    def __enter__(self) -> None:
        if self._when == "before" and self.operation == "append":
            raise ZeroDivisionError

    def __exit__(self, *_error: object) -> None:
        if self._when == "behind" and self.operation == "append":
            raise ZeroDivisionError


def test_an_observer_that_fails_behind_the_commit_undoes_nothing(one_connection: Engine, caplog: pytest.LogCaptureFixture) -> None:
    place_order(one_connection)
    forget = observe(_Failing("behind"))
    try:
        with Session(one_connection) as session:
            order = Order.place()
            session.add(order)
            session.commit()
            assert order in session
            assert not order.pending_events
            order.pay()  # in a transaction, as it is loaded again: there, what the observer raises undoes the append
            with pytest.raises(ZeroDivisionError):
                session.commit()
            session.rollback()
            assert (order.version, len(order.pending_events)) == (1, 0)
    finally:
        forget()
    assert stored_types(one_connection) == ["OrderPlaced"] * 2
    assert [(each.name, each.getMessage()) for each in caplog.records] == [
        ("sa_eventsource.observation", "an observer failed after a commit, which stays")
    ]
    assert caplog.records[0].exc_info is not None
    assert not _is_driver_in_autocommit(one_connection)


def test_an_observer_that_fails_before_it_has_nothing_written(one_connection: Engine) -> None:
    place_order(one_connection)
    forget = observe(_Failing("before"))
    try:
        with Session(one_connection) as session:
            order = Order.place()
            session.add(order)
            with pytest.raises(ZeroDivisionError):
                session.commit()
            session.rollback()
            assert [type(each).__name__ for each in order.pending_events] == ["OrderPlaced"]
    finally:
        forget()
    assert stored_types(one_connection) == ["OrderPlaced"]
