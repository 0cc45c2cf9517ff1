"""Tables and triggers lie where ``schema_translate_map`` says, whatever the names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, MetaData, create_engine, inspect, text
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateSchema

import sa_eventsource.migrations  # noqa: F401 - teaches Alembic the operations
from sa_eventsource import EventSourceOptions, event_record
from sa_eventsource.mapping import tables_on
from sa_eventsource.mapping.trigger_faults import trigger_faults
from tests.bank import AnyAccount, Deposited
from tests.committing import commit_events

ODD_NAMES = ["plain", "Upper", "with space", 'double"quote', "it's", "100%", "%(name)s", "semi;colon", "päron", "select"]


# SQLAlchemy 2.0 takes such a table's name for the name of a parameter, where it makes up an alias of it.
ODD_TABLES = [name for name in ODD_NAMES if name != "%(name)s"]


def base_with(options: EventSourceOptions | None = None, schema: str | None = None) -> Any:
    """Declare a base with an account on it."""

    class Base(DeclarativeBase):
        metadata = MetaData(schema=schema)
        if options is not None:
            __eventsource__ = options

    class Account(AnyAccount, Base):
        """What the log is of."""

    Base.account = Account
    return Base


def deposit(engine: Engine, base: Any) -> None:
    """Add an account with one event."""
    commit_events(engine, base.account, "a-1", Deposited(amount=1))


def is_guarded(connection: Connection, base: Any) -> bool:
    """Check whether an UPDATE of the log fails, and its triggers are as they must be."""
    events = event_record(base).__table__
    refused = False
    with connection.begin_nested() as savepoint:
        try:
            connection.execute(events.update().values(version=9))
        except Exception as error:
            refused = "events are immutable" in str(error)
        savepoint.rollback()
    return refused and not trigger_faults(connection, events)


def functions(connection: Connection) -> set[tuple[str, str]]:
    """List the schemas and names of the functions that the database has."""
    found = connection.execute(
        text("SELECT nspname, proname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE proname LIKE '%immutable'")
    )
    return {(schema, name) for schema, name in found}


@pytest.mark.parametrize("tenant", ODD_NAMES)
def test_the_trigger_is_in_the_tenants_schema(postgres_engine: Engine, tenant: str) -> None:
    base = base_with()
    with postgres_engine.begin() as connection:
        connection.execute(CreateSchema(tenant))
    ours = postgres_engine.execution_options(schema_translate_map={None: tenant})
    base.metadata.create_all(ours)
    deposit(ours, base)
    with ours.begin() as connection:
        assert is_guarded(connection, base)
        assert functions(connection) == {(tenant, "events_immutable")}
    base.metadata.create_all(ours)  # again: nothing to do
    base.metadata.drop_all(ours)
    with postgres_engine.begin() as connection:
        assert functions(connection) == set()
        assert inspect(connection).get_table_names(schema=tenant) == []


@pytest.mark.parametrize("name", ODD_TABLES)
def test_a_log_may_have_any_name_and_any_schema(postgres_engine: Engine, name: str) -> None:
    base = base_with(EventSourceOptions(schema=name, events=name))
    with postgres_engine.begin() as connection:
        connection.execute(CreateSchema(name))
    base.metadata.create_all(postgres_engine)
    deposit(postgres_engine, base)
    with postgres_engine.begin() as connection:
        assert is_guarded(connection, base)
    base.metadata.drop_all(postgres_engine)
    with postgres_engine.begin() as connection:
        assert functions(connection) == set()


@pytest.mark.parametrize("name", ODD_TABLES)
def test_a_log_may_have_any_name_on_sqlite(sqlite_engine: Engine, name: str) -> None:
    base = base_with(EventSourceOptions(events=name))
    base.metadata.create_all(sqlite_engine)
    deposit(sqlite_engine, base)
    with sqlite_engine.begin() as connection:
        assert is_guarded(connection, base)


def test_two_tenants_and_the_default_schema_are_apart(postgres_engine: Engine) -> None:
    base = base_with()
    engines = [postgres_engine]
    for tenant in ("first", "second"):
        with postgres_engine.begin() as connection:
            connection.execute(CreateSchema(tenant))
        engines.append(postgres_engine.execution_options(schema_translate_map={None: tenant}))
    for engine in engines:
        base.metadata.create_all(engine)
        deposit(engine, base)
    with postgres_engine.begin() as connection:
        assert {schema for schema, _ in functions(connection)} == {"public", "first", "second"}
    base.metadata.drop_all(engines[1])
    for engine in (engines[0], engines[2]):
        with engine.begin() as connection:
            assert is_guarded(connection, base)
    with postgres_engine.begin() as connection:
        assert {schema for schema, _ in functions(connection)} == {"public", "second"}


def test_a_tenants_missing_trigger_is_not_mistaken_for_anothers(postgres_engine: Engine) -> None:
    base = base_with()
    with postgres_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    ours = postgres_engine.execution_options(schema_translate_map={None: "tenant"})
    for engine in (postgres_engine, ours):
        base.metadata.create_all(engine)
    events = tables_on(base.metadata).events
    with ours.begin() as connection:
        connection.execute(text("DROP TRIGGER sa_eventsource_immutable ON tenant.events"))
        assert [each for each in trigger_faults(connection, events) if " on the partition " not in each] == [
            "trigger sa_eventsource_immutable, which refuses UPDATE and DELETE, is missing"
        ]
    with postgres_engine.begin() as connection:
        assert trigger_faults(connection, events) == []


def test_a_metadata_with_a_schema_is_translated_as_well(postgres_engine: Engine) -> None:
    base = base_with(schema="shared")
    with postgres_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    for target, where in (("tenant", "tenant"), (None, "public")):
        ours = postgres_engine.execution_options(schema_translate_map={"shared": target})
        base.metadata.create_all(ours)
        deposit(ours, base)
        with ours.begin() as connection:
            assert is_guarded(connection, base)
            assert (where, "events_immutable") in functions(connection)
        base.metadata.drop_all(ours)


def test_a_log_in_a_temporary_schema_is_guarded_as_long_as_it_lasts(postgres_engine: Engine) -> None:
    base = base_with()
    engine = create_engine(postgres_engine.url, poolclass=StaticPool)
    ours = engine.execution_options(schema_translate_map={None: "pg_temp"})
    base.metadata.create_all(ours)
    deposit(ours, base)
    with ours.begin() as connection:
        assert is_guarded(connection, base)
    engine.dispose()


def test_the_search_path_tells_tenants_apart_too(postgres_engine: Engine) -> None:
    base = base_with()
    with postgres_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    base.metadata.create_all(postgres_engine)
    url = postgres_engine.url.update_query_dict({"options": "-c search_path=tenant"})
    ours = create_engine(url)
    base.metadata.create_all(ours)
    deposit(ours, base)
    with ours.begin() as connection:
        assert is_guarded(connection, base)
        connection.execute(text("ALTER TABLE tenant.events DISABLE TRIGGER ALL"))
        assert trigger_faults(connection, tables_on(base.metadata).events) != []
    with postgres_engine.begin() as connection:
        assert trigger_faults(connection, tables_on(base.metadata).events) == []
    ours.dispose()


def test_a_migration_follows_the_map_of_its_connection(postgres_engine: Engine) -> None:
    base = base_with()
    with postgres_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
    ours = postgres_engine.execution_options(schema_translate_map={None: "tenant"})
    for engine in (postgres_engine, ours):
        base.metadata.create_all(engine)
        deposit(engine, base)
    with ours.begin() as connection:
        operations: Any = Operations(MigrationContext.configure(connection))
        operations.drop_event_immutability("events")
        assert not is_guarded(connection, base)
        assert functions(connection) == {("public", "events_immutable")}
        operations.create_event_immutability("events")
        assert is_guarded(connection, base)
    with postgres_engine.begin() as connection:
        assert is_guarded(connection, base)


@pytest.mark.parametrize("tenant", ["tenant", "Upper", "with space", 'double"quote'])
def test_tenants_on_sqlite_are_attached_databases(tmp_path: Path, tenant: str) -> None:
    base = base_with()
    engine = create_engine(f"sqlite:///{tmp_path / 'main.db'}", poolclass=StaticPool)
    with engine.begin() as connection:
        quoted = connection.dialect.identifier_preparer.quote(tenant)
        connection.exec_driver_sql(f"ATTACH DATABASE ? AS {quoted}", (str(tmp_path / "tenant.db"),))
    ours = engine.execution_options(schema_translate_map={None: tenant})
    for each in (ours, engine):
        base.metadata.create_all(each)
        deposit(each, base)
        with each.begin() as connection:
            assert is_guarded(connection, base)
    base.metadata.drop_all(ours)
    with engine.begin() as connection:
        assert is_guarded(connection, base)
    engine.dispose()
