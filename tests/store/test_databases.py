"""The doors to the databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import CompileError, OperationalError

from sa_eventsource.mapping import tables_on
from sa_eventsource.store import database_of
from tests.orders import Base

POSITIONS = tables_on(Base.metadata).projection_positions


def test_a_database_without_a_door_is_named() -> None:
    with pytest.raises(CompileError, match="in PostgreSQL or SQLite, not in mysql"):
        database_of(mysql.dialect())


def test_the_writer_of_sqlite_keeps_others_from_writing_before_it_has_written(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'log.db'}", connect_args={"timeout": 0})
    Base.metadata.create_all(engine)
    with engine.connect() as one, engine.connect() as other:
        database_of(engine.dialect).become_writer(one, POSITIONS)
        with pytest.raises(OperationalError, match="locked"):
            other.execute(POSITIONS.insert().values(projection_name="other"))
        one.rollback()
        other.execute(POSITIONS.insert().values(projection_name="other"))
    engine.dispose()


def test_one_state_on_sqlite_is_a_transaction_that_has_begun(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'log.db'}")
    with engine.connect() as connection:
        database = database_of(engine.dialect)
        assert not database.sees_one_state(connection)
        database.begin(connection)
        assert database.sees_one_state(connection)
        database.begin(connection)  # again: nothing is to be done
    engine.dispose()


def test_one_state_is_a_matter_of_the_isolation_level(postgres_engine: Engine) -> None:
    database = database_of(postgres_engine.dialect)
    with postgres_engine.connect() as connection:
        assert not database.sees_one_state(connection)
    with postgres_engine.connect().execution_options(**database.one_state) as connection:
        assert database.sees_one_state(connection)
