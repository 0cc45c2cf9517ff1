"""Autogeneration notices triggers that are missing, disabled or changed, and puts them right."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Engine, text

from tests.migrations.environment import Environment
from tests.parameters import slow_after
from tests.trigger_damage import POSTGRESQL, SQLITE, damage, refusals

pytestmark = [
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
]

INSERT = text(
    "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at, position) "
    "VALUES ('01a20000000070008000000000000001', 'A', '1', 1, 'E', '{}', '2024-01-01 00:00:00+00', 1)"
)


def _is_put_right(environment: Environment, name: str) -> None:
    environment.revise()
    environment.upgrade()
    assert environment.difference() == []
    with environment.engine.begin() as connection:
        connection.execute(INSERT)
        assert all(refusals(connection).values())
    damage(environment.engine, name)
    with environment.engine.begin() as connection:
        assert not all(refusals(connection).values())
    assert environment.difference() == [("create_event_immutability", "events", None)]
    script = environment.revise("put right")
    assert "op.create_event_immutability('events')" in script
    assert "drop_event_immutability" not in script
    environment.upgrade()
    assert environment.difference() == []
    command.downgrade(environment.config, "-1")
    with environment.engine.begin() as connection:
        assert all(refusals(connection).values())


@pytest.mark.parametrize("name", slow_after(3, POSTGRESQL))
def test_damage_on_postgresql_is_found_and_put_right(tmp_path: Path, postgres_engine: Engine, module: str, name: str) -> None:
    _is_put_right(Environment(tmp_path, postgres_engine, module), name)


@pytest.mark.parametrize("name", slow_after(1, SQLITE))
def test_damage_on_sqlite_is_found_and_put_right(tmp_path: Path, sqlite_engine: Engine, module: str, name: str) -> None:
    _is_put_right(Environment(tmp_path, sqlite_engine, module), name)


def test_triggers_that_are_always_at_work_are_no_difference(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, postgres_engine, module)
    environment.revise()
    environment.upgrade()
    with postgres_engine.begin() as connection:
        connection.execute(text("ALTER TABLE events ENABLE ALWAYS TRIGGER sa_eventsource_immutable"))
    assert environment.difference() == []


def test_a_check_lists_what_is_pending(tmp_path: Path, engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, engine, module)
    with pytest.raises(CommandError, match="'create_event_immutability', 'events', None"):
        command.check(environment.config)


def test_a_script_of_sql_makes_the_triggers(
    tmp_path: Path, postgres_engine: Engine, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = Environment(tmp_path, postgres_engine, module)
    environment.revise()
    capsys.readouterr()
    command.upgrade(environment.config, "head", sql=True)
    script = capsys.readouterr().out
    with postgres_engine.connect() as connection:
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
        connection.connection.driver_connection.execute(script)  # type: ignore[union-attr]
        connection.connection.commit()
    assert environment.difference() == []
