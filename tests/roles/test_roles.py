"""Roles get their rights, again and again, and what they lack or have beyond them is found."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.schema import CreateSchema

from sa_eventsource import (
    DeclarationError,
    EventSourceOptions,
    Roles,
    create_roles,
    role_faults,
    verify,
)
from sa_eventsource.mapping import APPENDED
from tests.cli.commands import call, succeed
from tests.clinic import AnyPatient
from tests.database_roles import OWN, ROLES, connected_as, drop_roles, let_log_in, own_roles
from tests.databases import DatabasePool
from tests.privacy.keys import MASTER_KEYS
from tests.roles.hospital import Base

APPENDED_COLUMNS = ", ".join(APPENDED)
NEW = "tests.roles.test_roles:NewBase"


NEW_ROLES = own_roles("new")


class NewBase(DeclarativeBase):
    """Its roles are not there before a test creates them."""

    __eventsource__ = EventSourceOptions(roles=NEW_ROLES, master_keys=MASTER_KEYS, commands="commands", anonymisations="anonymised")


class NewPatient(AnyPatient, NewBase):
    __aggregate_type__ = "roles.NewPatient"


@pytest.fixture
def new(postgres_databases: DatabasePool) -> Iterator[Engine]:
    """Tables without roles; those that are created go again."""
    with postgres_databases.database(NewBase.metadata) as url:
        engine = create_engine(url)
        yield engine
        drop_roles(engine, *NEW_ROLES.names())
        engine.dispose()


def _faults(engine: Engine, base: type[DeclarativeBase] = Base) -> list[str]:
    with engine.connect() as connection:
        return [str(each) for each in role_faults(connection, base)]


def test_rights_are_as_declared_however_often_they_are_granted(clinic: Engine) -> None:
    assert _faults(clinic) == []
    with clinic.begin() as connection:
        create_roles(connection, Base)
    assert _faults(clinic) == []


def test_what_a_role_lacks_is_a_warning_and_what_it_has_beyond_is_wrong(clinic: Engine) -> None:
    app, reader = clinic.dialect.identifier_preparer.quote_identifier(ROLES.app), ROLES.reader
    with clinic.begin() as connection:
        connection.exec_driver_sql(f"REVOKE INSERT ON events FROM {app}")
        connection.exec_driver_sql(f"REVOKE UPDATE (created_at) ON subject_keys FROM {app}")
        connection.exec_driver_sql(f"GRANT DELETE ON events TO {app}")
        connection.exec_driver_sql(f"GRANT SELECT (name) ON names TO {reader}")
        connection.exec_driver_sql(f"GRANT INSERT (position, recorded_at) ON events TO {ROLES.worker}")
    found = _faults(clinic)
    assert sorted(found) == [
        f"{ROLES.app}: it lacks INSERT ({APPENDED_COLUMNS}) on events. Run create_roles(connection, Base), or a migration",
        f"{ROLES.app}: it lacks UPDATE (created_at) on subject_keys. Run create_roles(connection, Base), or a migration",
        f"{ROLES.app}: it may DELETE on events, and is not to. REVOKE it",
        f"{reader}: it may SELECT on names, and is not to. REVOKE it",
        f"{ROLES.worker}: it may INSERT (position, recorded_at) on events, and is not to. REVOKE it",
    ]
    verification = verify(clinic, Base)
    assert not verification.is_sound
    assert {each.message for each in verification.findings if not each.is_warning} == {
        "it may DELETE on events, and is not to. REVOKE it",
        "it may SELECT on names, and is not to. REVOKE it",
        "it may INSERT (position, recorded_at) on events, and is not to. REVOKE it",
    }
    with clinic.begin() as connection:
        create_roles(connection, Base)
    assert _faults(clinic) == []


def test_rights_that_everybody_has_or_that_come_with_another_role_are_found(clinic: Engine) -> None:
    other = f"other_{OWN}"
    with clinic.begin() as connection:
        connection.exec_driver_sql("GRANT TRUNCATE ON events TO PUBLIC")
        connection.exec_driver_sql(f"CREATE ROLE {other}")
        connection.exec_driver_sql(f"GRANT UPDATE ON events TO {other}")
        connection.exec_driver_sql(f"GRANT {other} TO {ROLES.worker}")
    try:
        found = _faults(clinic)
    finally:
        drop_roles(clinic, other)
    assert f"{ROLES.reader}: it may TRUNCATE on events, and is not to. REVOKE it" in found
    assert f"{ROLES.worker}: it may TRUNCATE, UPDATE on events, and is not to. REVOKE it" in found


def test_an_owner_and_a_superuser_among_the_roles_are_found(clinic: Engine) -> None:
    with clinic.begin() as connection:
        connection.exec_driver_sql(f"ALTER ROLE {ROLES.worker} SUPERUSER")
        connection.exec_driver_sql(f"ALTER TABLE events OWNER TO {ROLES.reader}")
    try:
        found = _faults(clinic)
    finally:
        with clinic.begin() as connection:
            connection.exec_driver_sql(f"ALTER ROLE {ROLES.worker} NOSUPERUSER")
            connection.exec_driver_sql("ALTER TABLE events OWNER TO CURRENT_USER")
    assert found == [
        f"{ROLES.worker}: it is a superuser, whom no right stops. ALTER ROLE ... NOSUPERUSER",
        f"{ROLES.reader}: it is, or may become, the owner of the events, who may drop their triggers. Have another role own them",
    ]


def test_roles_that_are_not_there_are_said_to_be_missing(new: Engine) -> None:
    assert _faults(new, NewBase) == [
        f"{name}: there is no such role. Run create_roles(connection, Base), or the migrations" for name in NEW_ROLES.names()
    ]


def test_the_command_shows_faults_and_mends_them(new: Engine) -> None:
    result = call("roles", NEW, "--json", engine=new)
    assert result.exit_code == 1
    assert [each["is_lack"] for each in json.loads(result.stdout)] == [True] * 4
    assert call("roles", NEW, engine=new).stdout.endswith("4 things are wrong\n")
    assert succeed("roles", NEW, "--grant", engine=new).stdout == "the roles are as declared\n"
    assert json.loads(succeed("roles", NEW, "--json", engine=new).stdout) == []


def test_what_the_command_prints_is_what_creates_the_roles(new: Engine) -> None:
    printed = call("roles", NEW, "--print").stdout
    assert f"GRANT SELECT, INSERT ({APPENDED_COLUMNS}) ON TABLE events TO {NEW_ROLES.worker};" in printed
    assert f"GRANT SELECT ON TABLE events TO {NEW_ROLES.reader};" in printed
    with new.begin() as connection:
        assert connection.connection.driver_connection is not None
        connection.connection.driver_connection.execute(printed)
    assert _faults(new, NewBase) == []


def test_a_base_without_roles_is_told_how_to_declare_them() -> None:
    assert "has no roles. On the declarative base, write" in call("roles", "tests.orders:Base", "--print").stderr


def test_on_sqlite_there_are_no_roles(sqlite_engine: Engine) -> None:
    with sqlite_engine.begin() as connection:
        create_roles(connection, Base)
    assert _faults(sqlite_engine) == []
    assert verify(sqlite_engine, Base).is_sound


async def test_they_are_created_over_an_asynchronous_connection(new: Engine) -> None:
    engine = create_async_engine(new.url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(create_roles, NewBase)
    finally:
        await engine.dispose()
    assert _faults(new, NewBase) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"app": ""}, "Roles(app=''): the name of a role is a text of 1 to 63 bytes"),
        ({"reader": "é" * 32}, "the name of a role is a text of 1 to 63 bytes"),
        ({"app": "one", "worker": "one"}, "these are four roles; give each a name of its own"),
    ],
)
def test_names_that_cannot_be_are_refused(names: dict[str, str], message: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        Roles(**names)
    assert message in str(refused.value)


PARTITIONED = own_roles("p")


class PartitionedBase(DeclarativeBase):
    __eventsource__ = EventSourceOptions(schema="the log's", partitions=2, roles=PARTITIONED, master_keys=MASTER_KEYS)


class PartitionedPatient(AnyPatient, PartitionedBase):
    __aggregate_type__ = "roles.PartitionedPatient"


@pytest.fixture
def partitioned(postgres_engine: Engine) -> Iterator[Engine]:
    engine = create_engine(postgres_engine.url)
    with engine.begin() as connection:
        connection.execute(CreateSchema("the log's"))
    PartitionedBase.metadata.create_all(engine)
    yield engine
    drop_roles(engine, *PARTITIONED.names())
    engine.dispose()


def test_schema_and_sequence_come_with_the_rights(partitioned: Engine) -> None:
    with partitioned.begin() as connection:
        create_roles(connection, PartitionedBase)
        let_log_in(connection, PARTITIONED.app)
    with connected_as(partitioned, PARTITIONED.app) as engine, Session(engine) as session:
        session.add(PartitionedPatient.admit("p-1", "Ann"))
        session.commit()
    with partitioned.begin() as connection:
        assert role_faults(connection, PartitionedBase) == []
        app = PARTITIONED.app
        connection.execute(text(f'REVOKE USAGE ON SCHEMA "the log\'s" FROM {app}'))
        connection.execute(text(f'REVOKE USAGE ON SEQUENCE "the log\'s".events_position_seq FROM {app}'))
        faults = {str(each).split(". ")[0] for each in role_faults(connection, PartitionedBase)}
    assert f"{app}: it lacks USAGE of its schema, USAGE of sequence events_position_seq on events" in faults
