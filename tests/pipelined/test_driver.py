"""The dialect by itself: whatever an application sends behaves as on SQLAlchemy's own one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, insert, select, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

from sa_eventsource.pipelined import MAY_BE_HELD, held_by
from sa_eventsource.pipelined.driver import PipelinedConnection, _is_known_single
from tests.pipelined.accounts import Note
from tests.processes import finish
from tests.round_trips import round_trips

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

_INSERT = "INSERT INTO pipelined_notes VALUES (%s, 'text')"
_HELD = {MAY_BE_HELD: True}


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _hold(connection: Connection, *keys: str) -> Any:
    """Hold an INSERT for each key."""
    driver = _driver(connection)
    driver.is_holding = True
    for key in keys:
        connection.exec_driver_sql(_INSERT, (key,), execution_options=_HELD)
    driver.is_holding = False
    return driver


def _notes(connection: Connection) -> list[str]:
    return list(connection.scalars(text("SELECT id FROM pipelined_notes ORDER BY id")))


def test_it_is_psycopgs_dialect(pipelined: Engine) -> None:
    assert isinstance(pipelined.dialect, PGDialect_psycopg)
    assert (pipelined.dialect.name, pipelined.dialect.driver, pipelined.name) == ("postgresql", "psycopg", "postgresql")
    with pipelined.connect() as connection:
        assert isinstance(_driver(connection), PipelinedConnection)


def test_nothing_is_held_without_being_told(pipelined: Engine) -> None:
    with pipelined.begin() as connection:
        result = connection.exec_driver_sql(_INSERT, ("n-1",), execution_options=_HELD)
        assert result.rowcount == 1
        assert _driver(connection).held == []


def test_what_is_held_goes_with_the_next_statement(pipelined: Engine) -> None:
    with round_trips(pipelined) as sent, pipelined.connect() as connection:
        _hold(connection, "a", "b")
        assert _notes(connection) == ["a", "b"]
        connection.commit()
    assert len(sent) == 2
    with pipelined.connect() as connection:
        assert _notes(connection) == ["a", "b"]


def test_what_is_held_goes_with_the_commit(pipelined: Engine) -> None:
    with round_trips(pipelined) as sent, pipelined.connect() as connection:
        _hold(connection, "a", "b")
        connection.commit()
    assert len(sent) == 1
    with pipelined.connect() as connection:
        assert _notes(connection) == ["a", "b"]


def test_a_rollback_drops_what_is_held(pipelined: Engine) -> None:
    with round_trips(pipelined) as sent, pipelined.connect() as connection:
        _hold(connection, "a", "b")
        connection.rollback()
        assert _notes(connection) == []
    assert len(sent) == 2


def test_a_connection_that_is_given_back_has_nothing_held(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        _hold(connection, "a")
    with pipelined.connect() as connection:
        assert _driver(connection).held == []
        assert _notes(connection) == []


def test_only_the_first_failure_counts_and_names_its_statement(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        driver = _hold(connection, "a", "a", "a", "b")
        with pytest.raises(IntegrityError) as caught:
            connection.execute(text("SELECT 1"))
        assert held_by(driver) is driver
        failed: Any = vars(caught.value.orig)["sa_eventsource_failed_statement"]
        assert (failed.text, failed.parameters) == (_INSERT, ("a",))
        with pytest.raises(DBAPIError, match="current transaction is aborted"):
            connection.execute(text("SELECT 1"))
        connection.rollback()
        assert _notes(connection) == []


def test_a_failure_at_the_commit_commits_nothing(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        _hold(connection, "a", "b", "a")
        with pytest.raises(IntegrityError):
            connection.commit()
        connection.rollback()
        assert _notes(connection) == []


def test_statements_are_prepared_as_ever_also_where_one_fails(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        for number in range(20):
            _hold(connection, f"a-{number}", f"b-{number}")
            if number % 3 == 0:
                connection.begin_nested()
                _hold(connection, f"a-{number}")
                with pytest.raises(IntegrityError):
                    connection.execute(text("SELECT :number"), {"number": number})
                connection.get_nested_transaction().rollback()  # type: ignore[union-attr]
            assert connection.scalar(text("SELECT :number"), {"number": number}) == number
        connection.commit()
        assert len(_notes(connection)) == 40  # what was held was sent before the savepoint


def _raw_cursor(connection: Connection) -> Any:
    return _driver(connection).execute("SELECT id FROM pipelined_notes").fetchall()


def _raw_pipeline(connection: Connection) -> Any:
    driver = _driver(connection)
    driver.settle()
    with driver.pipeline():
        return driver.execute("SELECT id FROM pipelined_notes").fetchall()


def _server_side_cursor(connection: Connection) -> Any:
    with _driver(connection).cursor("named") as cursor:
        return cursor.execute("SELECT id FROM pipelined_notes").fetchall()


def _streamed(connection: Connection) -> Any:
    return connection.execution_options(stream_results=True).execute(text("SELECT id FROM pipelined_notes")).all()


def _copy_out(connection: Connection) -> Any:
    with _driver(connection).cursor().copy("COPY pipelined_notes TO STDOUT") as copy:
        return list(copy.rows())


def _copy_in(connection: Connection) -> Any:
    with _driver(connection).cursor().copy("COPY pipelined_remarks (id) FROM STDIN") as copy:
        copy.write_row((1,))
    return _raw_cursor(connection)


def _many(connection: Connection) -> Any:
    connection.execute(text("INSERT INTO pipelined_remarks (id) VALUES (:id)"), [{"id": 1}, {"id": 2}])
    return _raw_cursor(connection)


def _many_returning(connection: Connection) -> Any:
    connection.execute(insert(Note).returning(Note.id), [{"id": "b", "text": ""}, {"id": "c", "text": ""}]).all()
    return _raw_cursor(connection)[:1]


def _several_in_one(connection: Connection) -> Any:
    connection.exec_driver_sql("SET LOCAL work_mem = '8MB'; SELECT 1")
    return _raw_cursor(connection)


def _savepoint(connection: Connection) -> Any:
    with connection.begin_nested():
        return _raw_cursor(connection)


def _other_cursors(connection: Connection) -> Any:
    return psycopg.ClientCursor(_driver(connection)).execute("SELECT id FROM pipelined_notes").fetchall()


@pytest.mark.parametrize(
    "read",
    [
        _raw_cursor,
        _raw_pipeline,
        _server_side_cursor,
        _streamed,
        _copy_out,
        _copy_in,
        _many,
        _many_returning,
        _several_in_one,
        _savepoint,
        _other_cursors,
    ],
)
@pytest.mark.parametrize("has_begun", [False, True], ids=["first", "later"])
def test_whatever_is_sent_finds_what_was_held(pipelined: Engine, read: Callable[[Connection], Any], has_begun: bool) -> None:
    with pipelined.connect() as connection:
        if has_begun:
            connection.execute(text("SELECT 1"))
        _hold(connection, "a")
        assert [row[0] for row in read(connection)] == ["a"]
        assert _driver(connection).info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        connection.rollback()
        assert _notes(connection) == []


def test_the_options_of_a_transaction_come_with_its_begin(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        connection.execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=True, postgresql_deferrable=True)
        asked = "SELECT current_setting(:one), current_setting(:other), current_setting(:third)"
        names = {"one": "transaction_isolation", "other": "transaction_read_only", "third": "transaction_deferrable"}
        assert tuple(connection.execute(text(asked), names).one()) == ("serializable", "on", "on")
    with pipelined.connect() as connection:
        assert connection.get_isolation_level() == "READ COMMITTED"
        assert connection.default_isolation_level == "READ COMMITTED"


def test_autocommit_is_as_ever(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(_INSERT, ("a",))
        connection.rollback()
        assert _notes(connection) == ["a"]
        connection.exec_driver_sql("VACUUM pipelined_notes")


def test_a_first_statement_that_fails_leaves_a_failed_transaction(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        with pytest.raises(ProgrammingError) as caught:
            connection.execute(text("SELECT nothing FROM nowhere WHERE 1 = :one"), {"one": 1})
        assert "nowhere" in str(caught.value.statement)
        assert caught.value.params == {"one": 1}
        with pytest.raises(DBAPIError, match="current transaction is aborted"):
            connection.execute(text("SELECT 1"))
        connection.rollback()
        assert connection.scalar(text("SELECT 1")) == 1


def test_values_that_cannot_be_sent_are_refused_before_anything_is(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        with pytest.raises(ProgrammingError, match="cannot adapt"):
            connection.exec_driver_sql("SELECT %s", (object(),))
        assert connection.scalar(text("SELECT 1")) == 1


def test_long_statements_are_not_kept(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        kept = _is_known_single.cache_info().misses
        assert connection.exec_driver_sql(f"SELECT '{'x' * 5000}'").scalar_one() == "x" * 5000
        assert _is_known_single.cache_info().misses == kept
        connection.rollback()
        assert connection.exec_driver_sql(f"SELECT '{kept}'").scalar_one() == str(kept)
        assert _is_known_single.cache_info().misses == kept + 1


def test_a_copy_by_a_mere_statement_is_refused_as_ever(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        with pytest.raises(ProgrammingError, match=r"use copy\(\) instead"):
            connection.exec_driver_sql("COPY pipelined_notes TO STDOUT")
        connection.invalidate()
    with pipelined.connect() as connection:
        assert _notes(connection) == []


def test_a_ping_before_use_finds_a_connection_that_was_cut(pipelined: Engine) -> None:
    engine = create_engine(pipelined.url, pool_size=1, max_overflow=0, pool_pre_ping=True)
    with engine.connect() as connection:
        first = connection.scalar(text("SELECT pg_backend_pid()"))
    with pipelined.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": first})
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != first
    engine.dispose()


def test_a_connection_that_was_cut_is_given_up(pipelined: Engine) -> None:
    with pipelined.connect() as connection:
        with pytest.raises(DBAPIError) as caught:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert caught.value.connection_invalidated
        assert "pg_terminate_backend" in str(caught.value.statement)
    with pipelined.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_listeners_to_errors_see_what_they_see_elsewhere(pipelined: Engine) -> None:
    seen: list[Any] = []
    event.listen(pipelined, "handle_error", lambda context: seen.append((context.statement, type(context.original_exception))))
    with pipelined.connect() as connection, pytest.raises(ProgrammingError):
        connection.execute(text("SELECT nothing FROM nowhere"))
    assert seen == [("SELECT nothing FROM nowhere", psycopg.errors.UndefinedTable)]


def test_a_connection_that_the_application_opens_is_not_told_to_hold(pipelined: Engine) -> None:
    dsn = pipelined.url.set(drivername="postgresql").render_as_string(hide_password=False)
    engine = create_engine("postgresql+psycopg_pipelined://", creator=lambda: psycopg.connect(dsn))
    with engine.connect() as connection:
        assert held_by(_driver(connection)) is None
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def _insert(connection: Connection, key: str) -> None:
    connection.exec_driver_sql(_INSERT, (key,), execution_options=_HELD)


async def test_asynchronous_connections_hold_too(pipelined: Engine) -> None:
    engine = create_async_engine(pipelined.url)
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        driver.is_holding = True
        await connection.run_sync(_insert, "a")
        await connection.execute(text("INSERT INTO pipelined_remarks (id) VALUES (:id)"), [{"id": 1}, {"id": 2}])
        await connection.run_sync(_insert, "b")
        await driver.settle()
        await connection.run_sync(_insert, "c")
        async with connection.stream(select(Note.id).order_by(Note.id)) as rows:
            assert [row[0] async for row in rows] == ["a", "b", "c"]
        await connection.run_sync(_insert, "a")
        with pytest.raises(IntegrityError):
            await connection.commit()
        await connection.rollback()
        assert (await connection.scalars(select(Note.id))).all() == []
    await engine.dispose()


def test_psycopg_is_not_imported_before_there_is_an_engine() -> None:
    program = (
        "import sys, sa_eventsource; assert 'psycopg' not in sys.modules and 'sa_eventsource.pipelined.dialect' not in sys.modules"
    )
    assert finish([sys.executable, "-c", program]).returncode == 0
