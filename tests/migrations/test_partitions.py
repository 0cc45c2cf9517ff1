"""Migrations make the partitions of a log, find what is missing of them, and move a log that is there into them and out of them."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Engine, MetaData, Table, inspect, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    EventSourceOptions,
    ReadModel,
    ReadModelManager,
    RepartitionError,
    map_from_event,
)
from sa_eventsource.migrations.repartition import repartition
from sa_eventsource.read_models import append
from tests.committing import commit_events
from tests.migrations.environment import MODELS, Environment
from tests.shop import AnyTill, Sold

PARTITIONED = "__eventsource__ = EventSourceOptions(partitions={})"
OTHER_NAMES = """metadata = MetaData(naming_convention={
        "ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"})
    __eventsource__ = EventSourceOptions(schema="history", events="domain_events", partitions=3)"""
# Alembic says that it cannot compare indexes on expressions on SQLite, and leaves them alone.
pytestmark = [
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
]

ROWS = "SELECT *, tableoid::regclass::text <> 'events' AS is_partitioned FROM events ORDER BY position"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of modules that can be imported from the test's folder."""
    names = [f"models_{uuid.uuid4().hex}" for _ in range(3)]
    monkeypatch.syspath_prepend(tmp_path)
    yield names
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def environment(tmp_path: Path, postgres_engine: Engine, modules: list[str]) -> Environment:
    return Environment(tmp_path, postgres_engine, modules[0], PARTITIONED.format(4))


def declare(environment: Environment, module: str, partitions: int | None) -> None:
    """Go on with models that are the same except for the partitions."""
    folder = environment.versions.parent.parent
    (folder / f"{module}.py").write_text(MODELS.format(body=PARTITIONED.format(partitions), module=module))
    environment.config.set_main_option("metadata", f"{module}:Base.metadata")
    environment.module = module


def append_some(engine: Engine, *, first: int = 0) -> None:
    """Append ten events, each in a transaction of its own."""
    for number in range(first, first + 10):
        with engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at) "
                    "VALUES (gen_random_uuid(), 'P', :id, :version, 'E', '{}', now())"
                ),
                {"id": f"p-{number % 5}", "version": number // 5 + 1},
            )


def rows(engine: Engine) -> tuple[list[Any], set[bool]]:
    """All events, and whether they are in partitions."""
    with engine.connect() as connection:
        found = connection.execute(text(ROWS)).all()
    return [row[:-1] for row in found], {row[-1] for row in found}


def test_the_first_migration_makes_the_partitions_and_nothing_is_missing_then(environment: Environment) -> None:
    script = environment.revise()
    assert "postgresql_partition_by='HASH (aggregate_id)'" in script
    assert script.index("op.create_table('events'") < script.index("op.create_event_partitions('events', 4)")
    assert script.index("op.create_event_partitions('events', 4)") < script.index("op.create_event_immutability('events')")
    environment.upgrade()
    assert {f"events_p{number}" for number in range(4)} <= environment.left_over()
    assert environment.difference() == []
    assert environment.difference(compare_type=True, compare_server_default=True) == []
    assert "pass" in environment.revise("nothing")
    append_some(environment.engine)
    with environment.engine.begin() as connection:
        connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        connection.execute(text("TRUNCATE events"))
    environment.downgrade()
    assert environment.left_over() == set()
    environment.upgrade()
    assert environment.difference() == []


def test_what_create_all_makes_is_what_a_migration_makes(environment: Environment) -> None:
    environment.revise()
    environment.metadata.create_all(environment.engine)
    assert environment.difference(compare_type=True, compare_server_default=True) == []


def test_schema_names_and_naming_convention_are_followed(tmp_path: Path, postgres_engine: Engine, modules: list[str]) -> None:
    environment = Environment(tmp_path, postgres_engine, modules[0], OTHER_NAMES)
    assert "op.create_event_partitions('domain_events', 3, schema='history')" in environment.revise()
    environment.upgrade()
    assert {"domain_events", "domain_events_p0", "domain_events_p2"} <= set(inspect(postgres_engine).get_table_names("history"))
    assert environment.difference(compare_type=True, compare_server_default=True) == []
    assert "pass" in environment.revise("nothing")
    environment.downgrade()
    assert inspect(postgres_engine).get_table_names("history") == []


def test_a_partition_that_is_missing_is_made_again(environment: Environment) -> None:
    environment.revise()
    environment.upgrade()
    with environment.engine.begin() as connection:
        connection.execute(text("DROP TABLE events_p2"))
    script = environment.revise("the partition")
    assert "op.create_event_partitions('events', 4)" in script
    assert "op.create_event_immutability('events')" in script
    environment.upgrade()
    assert environment.difference() == []
    append_some(environment.engine)
    with pytest.raises(Exception, match="immutable"), environment.engine.begin() as connection:
        connection.execute(text("TRUNCATE events_p2"))


def test_a_log_that_is_there_is_moved_into_partitions_and_out_of_them(
    tmp_path: Path, postgres_engine: Engine, modules: list[str]
) -> None:
    environment = Environment(tmp_path, postgres_engine, modules[0], PARTITIONED.format(None))
    environment.revise()
    environment.upgrade()
    append_some(postgres_engine)
    before, _ = rows(postgres_engine)
    for module, partitions in zip(modules[1:], (4, 7), strict=True):
        declare(environment, module, partitions)
        script = environment.revise(f"{partitions} partitions")
        assert f"op.repartition_events('events', {partitions})" in script
        with pytest.raises(CommandError, match="with a connection"):
            command.upgrade(environment.config, "head", sql=True)
        environment.upgrade()
        assert rows(postgres_engine) == (before, {True})
        assert environment.difference(compare_type=True, compare_server_default=True) == []
        assert len([each for each in environment.left_over() if each.startswith("events_p")]) == partitions
    append_some(postgres_engine, first=10)
    after, _ = rows(postgres_engine)
    assert after[:10] == before
    with postgres_engine.connect() as connection:
        assert connection.scalars(text("SELECT position FROM events ORDER BY position")).all() == list(range(1, 21))
    command.downgrade(environment.config, "-2")
    assert rows(postgres_engine) == (after, {False})
    environment.config.set_main_option("metadata", f"{modules[0]}:Base.metadata")
    environment.module = modules[0]
    assert environment.difference(compare_type=True, compare_server_default=True) == []
    append_some(postgres_engine, first=20)
    assert rows(postgres_engine)[0][:20] == after
    with pytest.raises(Exception, match="immutable"), postgres_engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))


def test_the_migration_runs_on_sqlite_and_changes_nothing_there(tmp_path: Path, sqlite_engine: Engine, modules: list[str]) -> None:
    environment = Environment(tmp_path, sqlite_engine, modules[0], PARTITIONED.format(None))
    environment.revise()
    environment.upgrade()
    declare(environment, modules[1], 4)
    assert "pass" in environment.revise("nothing")
    assert environment.difference() == []


class Base(DeclarativeBase):
    """Base of a log without partitions."""

    __eventsource__ = EventSourceOptions(partitions=None)


class Till(AnyTill, Base):
    """What follows from it shows what is skipped, or comes twice."""

    __aggregate_type__ = "partitions.Till"


class Sales(ReadModel, Base):
    """All marks, in their order."""

    __projection_name__ = "partitions.sales"
    id: Mapped[str]
    marks: Mapped[list[str]] = map_from_event(Sold, reduce=append("what"))


def move(engine: Engine, partitions: int | None) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE events DROP CONSTRAINT IF EXISTS events_position_key"))
        repartition(connection, Table("events", MetaData()), partitions)


def test_followers_go_on_where_they_are(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    for number in range(6):
        commit_events(postgres_engine, Till, f"b-{number}", Sold(what="a"), Sold(what="b"))
    manager = ReadModelManager(postgres_engine, Base)
    assert manager.catch_up() == 12
    commit_events(postgres_engine, Till, "b-1", Sold(what="c"))
    move(postgres_engine, 4)
    commit_events(postgres_engine, Till, "b-2", Sold(what="d"))
    assert manager.catch_up() == 2
    with Session(postgres_engine) as session:
        assert {each.id: list(each.marks) for each in session.query(Sales)} == {
            f"b-{number}": ["a", "b", *{1: "c", 2: "d"}.get(number, "")] for number in range(6)
        }


def test_indexes_and_privileges_of_the_application_go_along(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        role = f"role_{connection.scalar(text('SELECT current_database()'))}"
        connection.execute(text(f"CREATE ROLE {role}"))
        connection.execute(text(f"GRANT SELECT, INSERT ON events TO {role}"))
        connection.execute(text("CREATE INDEX own ON events ((event_data ->> 'what')) WHERE version = 1"))
    try:
        for partitions in (4, 2, None):
            move(postgres_engine, partitions)
            assert "own" in {each["name"] for each in inspect(postgres_engine).get_indexes("events")}
            with postgres_engine.begin() as connection:
                connection.execute(text(f"SET LOCAL ROLE {role}"))
                connection.execute(
                    text(
                        "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at) "
                        "VALUES (gen_random_uuid(), 'P', :id, 1, 'E', '{}', now())"
                    ),
                    {"id": f"p-{partitions}"},
                )
        assert len(rows(postgres_engine)[0]) == 3
    finally:
        with postgres_engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))


def test_a_move_that_would_lose_something_is_refused(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"))
        connection.execute(text("CREATE TRIGGER notes AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION note()"))
        connection.execute(text("CREATE PUBLICATION loads FOR TABLE events"))
    with pytest.raises(RepartitionError, match="publication loads, trigger notes") as caught:
        move(postgres_engine, 4)
    assert (caught.value.table, caught.value.lost) == ("events", ("publication loads", "trigger notes"))
    assert rows(postgres_engine) == ([], set())
