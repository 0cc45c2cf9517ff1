"""The fixtures do what the other tests rely on."""

import psycopg
import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table, create_engine, inspect, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.databases import DatabasePool
from tests.statement_log import record_statements

_CATALOGUE = """
SELECT n.nspname, pg_get_userbyid(n.nspowner), n.nspacl::text, current_setting('statement_timeout'),
       (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid)
FROM pg_namespace n WHERE NOT starts_with(n.nspname, 'pg_') ORDER BY 1
"""


def test_a_database_is_empty_and_takes_tables(engine: Engine) -> None:
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a integer)"))
    assert inspect(engine).get_table_names() == ["t"]


async def test_an_async_engine_takes_statements_and_savepoints(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection, connection.begin_nested():
        assert await connection.scalar(text("SELECT 1")) == 1


def test_statements_and_ends_of_transactions_are_recorded(engine: Engine) -> None:
    with record_statements(engine) as log, engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.begin_nested().rollback()
        connection.commit()
    relevant = [entry for entry in log if not entry.startswith(("SAVEPOINT ", "ROLLBACK TO SAVEPOINT ", "BEGIN "))]
    assert [entry for entry in relevant if entry != "BEGIN"] == ["SELECT 1", "SAVEPOINT", "ROLLBACK TO SAVEPOINT", "COMMIT"]


def _run(url: str, *statements: str) -> list[tuple[object, ...]]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        results = [connection.execute(text(statement)) for statement in statements]
        rows = [tuple(row) for row in results[-1]] if results[-1].returns_rows else []
    engine.dispose()
    return rows


def test_a_database_lent_again_is_as_new(postgres_url: str) -> None:
    pool = DatabasePool(postgres_url)
    with pool.database() as url:
        new = _run(url, _CATALOGUE)
        name = make_url(url).database
        forgotten = psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
        forgotten.execute("CREATE TABLE held (a int)")
        _run(
            url,
            "CREATE TABLE t (a int)",
            "CREATE SCHEMA billing CREATE TABLE t (a int)",
            "CREATE TYPE colour AS ENUM ('red')",
            f"ALTER DATABASE {name} SET statement_timeout = '7s'",
        )
    with pool.database() as again:
        assert again == url
        assert _run(again, _CATALOGUE) == new
    with pytest.raises(psycopg.OperationalError):
        forgotten.execute("SELECT 1")
    forgotten.close()
    pool.close()


_TABLES = MetaData()
_PARENT = Table("parents", _TABLES, Column("id", Integer, primary_key=True), Column("name", String, index=True))
_CHILD = Table("children", _TABLES, Column("id", Integer, ForeignKey("parents.id"), primary_key=True, autoincrement=False))
_ROWS = ("INSERT INTO parents (name) VALUES ('a')", "INSERT INTO children VALUES (1)")


def test_a_database_with_tables_is_lent_again_without_rows(postgres_url: str) -> None:
    pool = DatabasePool(postgres_url)
    with pool.database(_TABLES) as url:
        _run(url, *_ROWS)
    with pool.database(_TABLES) as again:
        assert again == url
        assert _run(again, "SELECT count(*) FROM parents") == [(0,)]
        assert _run(again, *_ROWS, "SELECT id FROM parents") == [(1,)]
    with pool.database() as empty:
        assert empty != url
    pool.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DROP INDEX ix_parents_name",
        "ALTER TABLE parents ALTER name SET NOT NULL",
        "ALTER TABLE parents DISABLE TRIGGER ALL",
        "ALTER SEQUENCE parents_id_seq INCREMENT 2",
        "GRANT SELECT ON parents TO PUBLIC",
        "CREATE SCHEMA billing",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    ],
)
def test_whose_tables_a_test_has_altered_is_not_lent_as_one_with_these_tables(postgres_url: str, statement: str) -> None:
    pool = DatabasePool(postgres_url)
    with pool.database(_TABLES) as url:
        _run(url, statement)
    with pool.database() as emptied:
        assert _run(emptied, _CATALOGUE)[1][4] == 0
        with pool.database(_TABLES) as other:
            assert other != url
    pool.close()


def test_a_metadata_that_has_got_a_table_gets_a_database_with_it(postgres_url: str) -> None:
    pool, tables = DatabasePool(postgres_url), MetaData()
    Table("one", tables, Column("id", Integer, primary_key=True))
    with pool.database(tables):
        pass
    Table("two", tables, Column("id", Integer, primary_key=True))
    with pool.database(tables) as url:
        assert _run(url, "SELECT count(*) FROM two") == [(0,)]
    pool.close()


def test_a_database_that_cannot_be_emptied_is_not_lent_again(postgres_url: str) -> None:
    pool = DatabasePool(postgres_url)
    with pool.database() as url:
        _run(url, "CREATE PUBLICATION everything FOR ALL TABLES")
    with pool.database() as other:
        assert other != url
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    pool.close()


def test_two_databases_are_apart(postgres_databases: DatabasePool, postgres_database_url: str) -> None:
    with postgres_databases.database() as other:
        _run(other, "CREATE TABLE t (a int)")
        assert _run(postgres_database_url, "SELECT to_regclass('t')") == [(None,)]
