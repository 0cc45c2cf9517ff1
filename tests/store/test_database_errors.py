"""What an error of the database means, by its SQLSTATE or SQLite's name for it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, NotSupportedError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sa_eventsource.store import (
    Meaning,
    code_of,
    is_refusal,
    is_schema_mismatch,
    is_taken_by_another_row,
    may_be_of_one_statement,
    meaning_of,
    message_of,
)
from tests.databases import number_waiting
from tests.threads import in_thread
from tests.waiting import wait_until

AWAY, LATER, VALUES, STATEMENT, END = Meaning

MEANINGS = {
    "08006": AWAY,
    "53300": AWAY,
    "57P01": AWAY,
    "57P03": AWAY,
    "25006": LATER,
    "40001": LATER,
    "40P01": LATER,
    "53100": LATER,
    "53200": LATER,
    "55006": LATER,
    "55P03": LATER,
    "58030": LATER,
    "HV00N": LATER,
    "XX001": LATER,
    "21000": VALUES,
    "22001": VALUES,
    "22P02": VALUES,
    "23502": VALUES,
    "23514": VALUES,
    "25P02": VALUES,
    "25P03": VALUES,
    "40002": VALUES,
    "44000": VALUES,
    "54000": VALUES,
    "57014": VALUES,
    "P0001": VALUES,
    "0A000": STATEMENT,
    "26000": STATEMENT,
    "42501": STATEMENT,
    "42703": STATEMENT,
    "42P01": STATEMENT,
    "42P05": STATEMENT,
    "XX000": STATEMENT,
    "ZZ999": STATEMENT,
    "28P01": END,
    "3D000": END,
    "57P04": END,
}


def raised(action: Callable[[], Any]) -> SQLAlchemyError:
    with pytest.raises(SQLAlchemyError) as found:
        action()
    return found.value


def of_statement(engine: Engine, *statements: str) -> SQLAlchemyError:
    def run() -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    return raised(run)


def test_each_state_as_the_server_raises_it(postgres_engine: Engine) -> None:
    found = {}
    for state in MEANINGS:
        error = of_statement(postgres_engine, f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
        assert code_of(error) == state
        found[state] = meaning_of(error)
    assert found == MEANINGS


@pytest.mark.parametrize(
    ("statements", "state", "meaning"),
    [
        (["SELECT * FROM nowhere"], "42P01", STATEMENT),
        (["SELECT nothing FROM t"], "42703", STATEMENT),
        (["SELECT nowhere.f()"], "3F000", STATEMENT),
        (["INSERT INTO t VALUES (NULL)"], "23502", VALUES),
        (["INSERT INTO t SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) i"], "54000", VALUES),
        (["SET LOCAL statement_timeout = 20", "SELECT pg_sleep(5)"], "57014", VALUES),
        (["SET TRANSACTION READ ONLY", "INSERT INTO t VALUES ('a')"], "25006", LATER),
        (["SET LOCAL ROLE powerless", "SELECT * FROM t"], "42501", STATEMENT),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_really_happens_on_postgresql(postgres_engine: Engine, statements: list[str], state: str, meaning: Meaning) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x text PRIMARY KEY)"))
        connection.execute(text("DO $$ BEGIN CREATE ROLE powerless; EXCEPTION WHEN duplicate_object THEN NULL; END $$"))
    error = of_statement(postgres_engine, *statements)
    assert (code_of(error), meaning_of(error)) == (state, meaning)
    assert is_refusal(error) == (meaning in (VALUES, STATEMENT))
    assert is_schema_mismatch(error) == (meaning is STATEMENT)
    assert "\n" not in message_of(error)
    assert not message_of(error).endswith("^")


@pytest.mark.parametrize("lost", ["EXECUTE _pg3_0", "PREPARE _pg3_0 AS SELECT 1"])
def test_a_prepared_statement_of_the_driver_s_is_everybody_s_matter(postgres_engine: Engine, lost: str) -> None:
    first = "PREPARE _pg3_0 AS SELECT 1" if lost.startswith("PREPARE") else "SELECT 1"
    error = of_statement(postgres_engine, first, lost)
    assert meaning_of(error) is END
    assert not may_be_of_one_statement(error)
    assert "prepare_threshold" in message_of(error)
    of_application = of_statement(postgres_engine, first.replace("_pg3_0", "mine"), lost.replace("_pg3_0", "mine"))
    assert (code_of(of_application), meaning_of(of_application)) == (code_of(error), STATEMENT)
    assert "prepare_threshold" not in message_of(of_application)


def test_a_lock_that_is_not_free_in_time_is_tried_later(postgres_engine: Engine) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x int)"))
    with postgres_engine.begin() as holder:
        holder.execute(text("LOCK TABLE t"))
        error = of_statement(postgres_engine, "SET LOCAL lock_timeout = 20", "SELECT * FROM t")
    assert (code_of(error), meaning_of(error)) == ("55P03", LATER)
    assert not is_refusal(error)


def test_a_deadlock_is_tried_later(postgres_engine: Engine) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE a (x int)"))
        connection.execute(text("CREATE TABLE b (x int)"))
    with postgres_engine.connect() as one, postgres_engine.connect() as other:
        one.execute(text("LOCK TABLE a"))
        other.execute(text("LOCK TABLE b"))
        thread, errors = in_thread(lambda: other.execute(text("LOCK TABLE a")))
        wait_until(lambda: number_waiting(postgres_engine))
        try:
            one.execute(text("LOCK TABLE b"))
        except DBAPIError as error:
            errors.append(error)
            one.rollback()
        thread.join()
    (deadlock,) = errors
    assert isinstance(deadlock, DBAPIError)
    assert (code_of(deadlock), meaning_of(deadlock)) == ("40P01", LATER)


def test_a_connection_that_is_cut_and_a_server_that_is_not_there_are_waited_for(postgres_engine: Engine) -> None:
    with postgres_engine.connect() as connection, postgres_engine.connect() as killer:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        assert meaning_of(raised(lambda: connection.execute(text("SELECT 1")))) is AWAY
        connection.invalidate()
    nobody = create_engine("postgresql+psycopg://127.0.0.1:1/nowhere")
    assert meaning_of(raised(nobody.connect)) is AWAY


def test_a_transaction_that_was_idle_for_too_long_is_not_the_servers_absence(postgres_engine: Engine) -> None:
    def idle() -> None:
        with postgres_engine.connect() as connection:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 20"))
            time.sleep(0.3)
            connection.execute(text("SELECT 1"))

    error = raised(idle)
    assert (code_of(error), meaning_of(error)) == ("25P03", VALUES)


def test_a_full_pool_is_waited_for(postgres_database_url: str) -> None:
    engine = create_engine(postgres_database_url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with engine.connect():
        error = raised(engine.connect)
    assert isinstance(error, PoolTimeoutError)
    assert meaning_of(error) is AWAY
    engine.dispose()


@pytest.mark.parametrize(
    ("statements", "name", "meaning"),
    [
        (["SELECT * FROM nowhere"], "SQLITE_ERROR", STATEMENT),
        (["INSERT INTO t VALUES (NULL)"], "SQLITE_CONSTRAINT_NOTNULL", VALUES),
        (["PRAGMA query_only = on", "INSERT INTO t VALUES ('a')"], "SQLITE_READONLY", LATER),
        (["SELECT length(zeroblob(2000000000))"], "SQLITE_TOOBIG", VALUES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_really_happens_on_sqlite(sqlite_engine: Engine, statements: list[str], name: str, meaning: Meaning) -> None:
    with sqlite_engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x text NOT NULL PRIMARY KEY)"))
    error = of_statement(sqlite_engine, *statements)
    assert (code_of(error), meaning_of(error)) == (name, meaning)


def test_a_locked_database_is_tried_later_and_one_that_is_none_ends_the_program(sqlite_engine: Engine, tmp_path: Any) -> None:
    with sqlite_engine.begin() as holder:
        holder.execute(text("CREATE TABLE t (x text)"))
        other = create_engine(sqlite_engine.url, connect_args={"timeout": 0.01})
        error = of_statement(other, "CREATE TABLE u (x text)")
        assert (code_of(error), meaning_of(error)) == ("SQLITE_BUSY", LATER)
    (tmp_path / "text.db").write_text("this is no database" * 100)
    no_database = of_statement(create_engine(f"sqlite:///{tmp_path / 'text.db'}"), "SELECT * FROM sqlite_master")
    assert (code_of(no_database), meaning_of(no_database)) == ("SQLITE_NOTADB", END)
    nowhere = raised(create_engine(f"sqlite:///{tmp_path / 'no' / 'folder.db'}").connect)
    assert (code_of(nowhere), meaning_of(nowhere)) == ("SQLITE_CANTOPEN", AWAY)


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_a_value_that_another_row_has(request: pytest.FixtureRequest, kind: str) -> None:
    engine = request.getfixturevalue("postgres_engine" if kind == "postgresql" else "sqlite_engine")
    error = of_statement(engine, "CREATE TABLE t (x int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)")
    assert is_taken_by_another_row(error)
    assert meaning_of(error) is VALUES


def test_without_a_code_the_class_decides() -> None:
    assert meaning_of(DBAPIError.instance("", {}, sqlite3.DataError("x"), sqlite3.Error)) is VALUES
    assert meaning_of(DBAPIError.instance("", {}, sqlite3.IntegrityError("x"), sqlite3.Error)) is VALUES
    assert meaning_of(DBAPIError.instance("", {}, sqlite3.OperationalError("x"), sqlite3.Error)) is AWAY
    assert meaning_of(DBAPIError.instance("", {}, sqlite3.InterfaceError("x"), sqlite3.Error)) is AWAY
    assert meaning_of(NotSupportedError("", {}, sqlite3.NotSupportedError("x"))) is STATEMENT
    assert meaning_of(ValueError("x")) is None


def test_the_message_is_what_the_database_said_and_its_detail(postgres_engine: Engine) -> None:
    error = of_statement(
        postgres_engine, "CREATE TABLE t (x int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)"
    )
    assert message_of(error) == (
        'UniqueViolation: duplicate key value violates unique constraint "t_pkey": Key (x)=(1) already exists.'
    )
    assert message_of(of_statement(postgres_engine, "SELECT nothing FROM pg_class")) == (
        'UndefinedColumn: column "nothing" does not exist'
    )
    assert message_of(ValueError("two\nlines")) == "ValueError: two lines"
    assert message_of(ValueError()) == "ValueError"
