"""The fixtures do what the other tests rely on."""

from sqlalchemy import Engine, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.statement_log import record_statements


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
