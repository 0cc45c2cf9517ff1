"""Roles get their rights, again and again, and what they lack or have beyond them is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.schema import CreateSchema

from sa_eventsource import (
    AggregateRoot,
    DeclarationError,
    DomainEvent,
    EventSourceOptions,
    Roles,
    applies,
    create_roles,
    role_faults,
    verify,
)
from tests.cli.commands import call, succeed
from tests.roles.clinic import OWN, ROLES, Base, connected_as, drop_roles, let_log_in

CLINIC = "tests.roles.clinic:Base"


def _faults(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [str(each) for each in role_faults(connection, Base)]


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
    found = _faults(clinic)
    assert sorted(found) == [
        f"{ROLES.app}: it lacks INSERT on events. Run create_roles(connection, Base), or a migration",
        f"{ROLES.app}: it lacks UPDATE (created_at) on subject_keys. Run create_roles(connection, Base), or a migration",
        f"{ROLES.app}: it may DELETE on events, and is not to. REVOKE it",
        f"{reader}: it may SELECT on names, and is not to. REVOKE it",
    ]
    verification = verify(clinic, Base)
    assert not verification.is_sound
    assert {each.message for each in verification.findings if not each.is_warning} == {
        "it may DELETE on events, and is not to. REVOKE it",
        "it may SELECT on names, and is not to. REVOKE it",
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


def test_roles_that_are_not_there_are_said_to_be_missing(postgres_engine: Engine) -> None:
    assert _faults(postgres_engine) == [
        f"{name}: there is no such role. Run create_roles(connection, Base), or the migrations" for name in ROLES.names()
    ]


def test_the_command_shows_faults_and_mends_them(postgres_engine: Engine) -> None:
    result = call("roles", CLINIC, "--json", engine=postgres_engine)
    assert result.exit_code == 1
    assert [each["is_lack"] for each in json.loads(result.stdout)] == [True] * 4
    assert call("roles", CLINIC, engine=postgres_engine).stdout.endswith("4 things are wrong\n")
    try:
        assert succeed("roles", CLINIC, "--grant", engine=postgres_engine).stdout == "the roles are as declared\n"
        assert json.loads(succeed("roles", CLINIC, "--json", engine=postgres_engine).stdout) == []
    finally:
        drop_roles(postgres_engine, *ROLES.names())


def test_what_the_command_prints_is_what_creates_the_roles(postgres_engine: Engine) -> None:
    printed = call("roles", CLINIC, "--print").stdout
    assert f"GRANT SELECT, INSERT ON TABLE events TO {ROLES.worker};" in printed
    assert f"GRANT SELECT ON TABLE events TO {ROLES.reader};" in printed
    try:
        with postgres_engine.begin() as connection:
            assert connection.connection.driver_connection is not None
            connection.connection.driver_connection.execute(printed)
        assert _faults(postgres_engine) == []
    finally:
        drop_roles(postgres_engine, *ROLES.names())


def test_a_base_without_roles_is_told_how_to_declare_them() -> None:
    assert "has no roles. On the declarative base, write" in call("roles", "tests.orders:Base", "--print").stderr


def test_on_sqlite_there_are_no_roles(sqlite_engine: Engine) -> None:
    with sqlite_engine.begin() as connection:
        create_roles(connection, Base)
    assert _faults(sqlite_engine) == []
    assert verify(sqlite_engine, Base).is_sound


async def test_they_are_created_over_an_asynchronous_connection(postgres_engine: Engine) -> None:
    engine = create_async_engine(postgres_engine.url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(create_roles, Base)
        assert _faults(postgres_engine) == []
    finally:
        await engine.dispose()
        drop_roles(postgres_engine, *ROLES.names())


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


PARTITIONED = Roles(app=f"p_app_{OWN}", worker=f"p_worker_{OWN}", reader=f"p_reader_{OWN}", privacy_officer=f"p_officer_{OWN}")


class PartitionedBase(DeclarativeBase):
    __eventsource__ = EventSourceOptions(schema="the log's", partitions=2, roles=PARTITIONED)


class Opened(DomainEvent):
    __event_type__ = "roles.Opened"


class Account(AggregateRoot, PartitionedBase):
    __aggregate_type__ = "roles.Account"

    is_open: bool = False

    @applies(Opened)
    def _opened(self, _event: Opened) -> None:
        self.is_open = True


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
        account = Account(id=uuid4().hex)
        account.apply_event(Opened())
        session.add(account)
        session.commit()
    with partitioned.begin() as connection:
        assert role_faults(connection, PartitionedBase) == []
        app = PARTITIONED.app
        connection.execute(text(f'REVOKE USAGE ON SCHEMA "the log\'s" FROM {app}'))
        connection.execute(text(f'REVOKE USAGE ON SEQUENCE "the log\'s".events_position_seq FROM {app}'))
        faults = {str(each).split(". ")[0] for each in role_faults(connection, PartitionedBase)}
    assert f"{app}: it lacks USAGE of its schema, USAGE of sequence events_position_seq on events" in faults
