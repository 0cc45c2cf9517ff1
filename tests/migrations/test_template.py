"""A new project: from ``alembic init`` with the template to tables that match the models, and back."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import pytest_alembic
from alembic import command
from pytest_alembic.tests import (
    test_model_definitions_match_ddl as definitions_match_ddl,
)
from pytest_alembic.tests import (
    test_single_head_revision as single_head,
)
from pytest_alembic.tests import (
    test_up_down_consistency as up_down,
)
from pytest_alembic.tests import (
    test_upgrade as upgrades,
)
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from tests.migrations.environment import MODELS, Environment
from tests.processes import finish

# Alembic says that it cannot compare indexes on expressions on SQLite, and leaves them alone.
pytestmark = [
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
]

OTHER_NAMES = """metadata = MetaData(naming_convention={
        "ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"})
    __eventsource__ = EventSourceOptions(schema="history", events="domain_events", snapshots="states")"""


@pytest.fixture
def environment(tmp_path: Path, engine: Engine, module: str) -> Environment:
    return Environment(tmp_path, engine, module)


def test_the_first_migration_creates_everything_and_nothing_is_missing_then(environment: Environment) -> None:
    script = environment.revise()
    assert "op.create_event_immutability('events')" in script
    assert script.index("op.drop_event_immutability") < script.index("op.drop_table('events')")
    environment.upgrade()
    assert {"events", "projections", "snapshots", "projection_positions", "parked_events", "customers"} <= environment.left_over()
    assert environment.difference() == []
    # On SQLite, Alembic takes an identity column for a default that is missing.
    defaults = environment.engine.dialect.name == "postgresql"
    assert environment.difference(compare_type=True, compare_server_default=defaults) == []
    assert "pass" in environment.revise("nothing")


def test_a_downgrade_leaves_nothing(environment: Environment) -> None:
    environment.revise()
    environment.upgrade()
    environment.downgrade()
    assert environment.left_over() == set()
    environment.upgrade()
    assert environment.difference() == []


def test_the_tests_of_pytest_alembic_pass(environment: Environment) -> None:
    environment.revise()
    for check in (single_head, upgrades, up_down, definitions_match_ddl):
        with pytest_alembic.runner(pytest_alembic.Config(alembic_config=environment.config), environment.engine) as runner:
            check(runner)
        environment.downgrade()


def test_migrated_events_cannot_be_changed(environment: Environment) -> None:
    environment.revise()
    environment.upgrade()
    insert = text(
        "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at, position) "
        "VALUES ('01a20000000070008000000000000001', 'A', '1', 1, 'E', '{}', '2024-01-01 00:00:00+00', 1)"
    )
    with environment.engine.begin() as connection:
        connection.execute(insert)
    statements = ["UPDATE events SET version = 2", "DELETE FROM events"]
    if environment.engine.dialect.name == "postgresql":
        statements.append("TRUNCATE events")
    for statement in statements:
        with pytest.raises(DBAPIError, match="immutable"), environment.engine.begin() as connection:
            connection.execute(text(statement))


def test_the_switch_opens_the_events_for_one_transaction(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, postgres_engine, module)
    environment.revise()
    environment.upgrade()
    with postgres_engine.begin() as connection:
        connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        connection.execute(text("TRUNCATE events"))
    with pytest.raises(DBAPIError, match="immutable"), postgres_engine.begin() as connection:
        connection.execute(text("TRUNCATE events"))


def test_a_missing_trigger_is_found(environment: Environment) -> None:
    environment.revise()
    environment.upgrade()
    with environment.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP TRIGGER sa_eventsource_immutable ON events"))
        else:
            connection.execute(text("DROP TRIGGER sa_eventsource_immutable_events_update"))
    assert "op.create_event_immutability('events')" in environment.revise("trigger")
    environment.upgrade()
    assert environment.difference() == []


def test_fields_that_count_and_collect_join_a_table_that_has_rows(environment: Environment) -> None:
    declared = {
        "labels": 'Mapped[list[str]] = map_from_event(ParcelWeighed, reduce=append("label"))',
        "weight": "Mapped[Decimal] = map_from_event(ParcelWeighed, reduce=sum_())",
        "number": "Mapped[int] = map_from_event(ParcelWeighed, reduce=count())",
        "grams": "Mapped[int] = map_from_event({{ParcelWeighed: increment(2)}}, column=mapped_column(Integer, nullable=False))",
    }
    before = (
        MODELS
        + """

class Totals(ReadModel, Base):
    __tablename__ = "totals"
    customer: Mapped[int] = map_from_event(ParcelWeighed, key=True)
    share: Mapped[float] = map_from_event(ParcelWeighed)
"""
    )
    environment.write(before)
    environment.revise()
    environment.upgrade()
    columns = "(customer, version, created_at, updated_at)"
    with environment.engine.begin() as connection:
        connection.execute(text(f"INSERT INTO totals {columns} VALUES (1, 1, '2024-01-01 00:00:00+00', '2024-01-01 00:00:00+00')"))
    environment.write(before + "".join(f"    {name}: {each}\n" for name, each in declared.items()))
    environment.revise("more fields")
    environment.upgrade()
    with environment.engine.begin() as connection:
        labels, *numbers = connection.execute(text("SELECT labels, weight, number, grams FROM totals")).one()
    assert labels in ([], "[]")
    assert numbers == [0, 0, 0]
    assert "pass" in environment.revise("nothing")


def test_schema_names_and_naming_convention_are_followed(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, postgres_engine, module, OTHER_NAMES)
    script = environment.revise()
    assert "op.create_event_immutability('domain_events', schema='history')" in script
    environment.upgrade()
    inspector = inspect(postgres_engine)
    names = set(inspector.get_table_names("history"))
    assert {each for each in names if not re.search(r"_p\d$", each)} == {
        "domain_events",
        "states",
        "projections",
        "projection_positions",
        "parked_events",
    }
    assert inspector.get_pk_constraint("domain_events", "history")["name"] == "pk_domain_events"
    assert environment.difference(compare_type=True, compare_server_default=True) == []
    assert "pass" in environment.revise("nothing")
    environment.downgrade()
    assert inspect(postgres_engine).get_table_names("history") == []


def test_a_migration_made_on_one_database_runs_on_the_other(
    tmp_path: Path, postgres_engine: Engine, sqlite_engine: Engine, module: str
) -> None:
    environment = Environment(tmp_path, postgres_engine, module)
    environment.revise()
    environment.config.set_main_option("sqlalchemy.url", sqlite_engine.url.render_as_string())
    environment.upgrade()
    environment.engine = sqlite_engine
    assert environment.difference() == []
    environment.downgrade()
    assert environment.left_over() == set()


def test_migrations_can_be_written_as_sql(
    tmp_path: Path, postgres_engine: Engine, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = Environment(tmp_path, postgres_engine, module)
    environment.revise()
    capsys.readouterr()
    command.upgrade(environment.config, "head", sql=True)
    printed = capsys.readouterr().out
    assert "CREATE TABLE events" in printed
    assert "CREATE OR REPLACE TRIGGER sa_eventsource_immutable" in printed


def test_a_command_prints_where_the_template_is() -> None:
    printed = finish([sys.executable, "-m", "sa_eventsource.migrations"])
    assert printed.returncode == 0, printed.stderr
    folder = Path(printed.stdout.strip())
    assert {each.name for each in folder.iterdir()} >= {"env.py", "script.py.mako", "alembic.ini.mako"}
