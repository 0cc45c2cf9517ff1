"""Two tenants have the same ids, and see what is their own; whose a transaction is, is said once and holds to its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AutocommitError,
    ConcurrencyError,
    DeclarationError,
    EventSourcedRepository,
    EventSourceOptions,
    EventStore,
    NoTenantError,
    Roles,
    TenantBypassError,
    TenantChangedError,
    TenantIdError,
    lock_aggregate,
    tenant_context,
    verify,
)
from sa_eventsource.commands import Commands
from tests.clinic import Discharged
from tests.database_roles import TENANT, for_tenant, session_of
from tests.shared_tables.clinics import Admit, Base, Beds, Patient, inbox

TENANTS = (("alpha", "Ann"), ("beta", "Bob"))
Statements = Callable[[Engine], AbstractContextManager[list[str]]]


def test_two_tenants_have_an_aggregate_of_one_id(app: Engine) -> None:
    for tenant, name in TENANTS:
        with session_of(app, tenant) as session:
            patient = session.get_one(Patient, "1")
            assert (patient.name, patient.version) == (name, 1)
            assert [each.id for each in session.scalars(select(Patient))] == ["1"]
            assert [each.bed for each in session.scalars(select(Beds))] == [1]
            assert EventStore(session, Base).events.count() == 1
            assert len(EventSourcedRepository(session, Patient).history("1").all()) == 1


def test_streams_snapshots_and_versions_are_each_tenants_own(app: Engine) -> None:
    with session_of(app, "alpha") as session:
        session.get_one(Patient, "1").apply_event(Discharged())  # the second event, and so a snapshot
        session.commit()
    with session_of(app, "beta") as session:
        patient = session.get_one(Patient, "1")
        assert (patient.name, patient.version) == ("Bob", 1)
        patient.apply_event(Discharged())
        session.commit()
    for tenant, _ in TENANTS:
        with session_of(app, tenant) as session:
            assert session.scalar(text("SELECT count(*) FROM snapshots")) == 1
            assert (session.get_one(Patient, "1").name, session.get_one(Patient, "1").version) == (None, 2)


def test_a_conflict_is_one_with_a_transaction_of_the_same_tenant(app: Engine) -> None:
    with session_of(app, "alpha") as first, session_of(app, "alpha") as second, session_of(app, "beta") as other:
        for session in (first, second, other):
            session.get_one(Patient, "1").apply_event(Discharged())
        first.commit()
        other.commit()
        with pytest.raises(ConcurrencyError, match="'1'"):
            second.commit()


def test_what_is_unique_is_unique_for_a_tenant(app: Engine) -> None:
    with session_of(app, "alpha") as session:
        session.add(Patient.admit("2", "Cleo", bed=1))
        with pytest.raises(Exception, match="beds"):
            session.commit()
    with session_of(app, "beta") as session:
        session.add(Patient.admit("2", "Cleo", bed=2))
        session.commit()


def test_a_command_and_a_message_are_handled_once_for_a_tenant(app: Engine) -> None:
    command_id = UUID(int=7)
    for tenant, _ in TENANTS:
        commands = Commands(for_tenant(app, tenant), Base)
        handled = [commands.handle(Admit(patient_id="3", name="Dee", bed=3), command_id=command_id) for _ in range(2)]
        assert [each.is_repetition for each in handled] == [False, True]
        with session_of(app, tenant) as session:
            assert [inbox(session, "m-1"), inbox(session, "m-1")] == [True, False]
            session.commit()


def test_a_lock_of_an_aggregate_is_its_tenants(app: Engine) -> None:
    with session_of(app, "alpha") as first, session_of(app, "beta") as second:
        lock_aggregate(first, Patient, "1")
        second.execute(text("SET LOCAL lock_timeout = '2s'"))
        lock_aggregate(second, Patient, "1")


@pytest.mark.parametrize("way", ["session", "engine", "context"])
def test_ways_to_name_a_tenant(app: Engine, way: str) -> None:
    match way:
        case "session":
            with session_of(app, "beta") as session:
                assert session.get_one(Patient, "1").name == "Bob"
        case "engine":
            with Session(for_tenant(app, "beta")) as session:
                assert session.get_one(Patient, "1").name == "Bob"
        case _:
            with tenant_context("beta"), Session(app) as session:
                assert session.get_one(Patient, "1").name == "Bob"


def test_a_session_takes_precedence_over_an_engine_and_that_over_a_context(app: Engine) -> None:
    with tenant_context("beta"):
        with Session(for_tenant(app, "alpha")) as session:
            assert session.get_one(Patient, "1").name == "Ann"
        with session_of(for_tenant(app, "beta"), "alpha") as session:
            assert session.get_one(Patient, "1").name == "Ann"


async def test_an_asynchronous_session_is_a_tenants(app: Engine) -> None:
    engine = create_async_engine(app.url)
    async with AsyncSession(engine, info={TENANT: "beta"}) as session:
        patient = await session.get_one(Patient, "1")
        assert patient.name == "Bob"
    await engine.dispose()


def test_a_savepoint_that_is_undone_leaves_the_tenant(app: Engine) -> None:
    with session_of(app, "alpha") as session:
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            raise ZeroDivisionError
        assert session.scalar(text("SELECT current_setting('sa_eventsource.tenant')")) == "alpha"
        assert session.get_one(Patient, "1").name == "Ann"


def test_it_is_said_by_one_statement_in_each_transaction(app: Engine, statements: Statements) -> None:
    with session_of(app, "alpha") as session, statements(app) as log:
        session.get_one(Patient, "1").apply_event(Discharged())
        session.commit()
        session.add(Patient.admit("4", "Eve", bed=4))
        session.commit()
    said = [each for each in log if "set_config('sa_eventsource.tenant'" in each]
    assert len(said) == 2
    assert log.count("BEGIN") == 2 or sum("BEGIN" in each for each in log) == 2


def test_without_a_tenant_nothing_is_said(owner: Engine, statements: Statements) -> None:
    with statements(owner) as log, Session(owner) as session:
        session.execute(text("SELECT 1"))
    assert not any("set_config" in each for each in log)


def test_without_a_tenant_nothing_is_appended_and_nothing_is_there(app: Engine) -> None:
    with Session(app) as session:
        assert session.scalars(select(Patient)).all() == []
        assert session.scalar(text("SELECT count(*) FROM events")) == 0
        session.add(Patient.admit("2", "Cleo"))
        with pytest.raises(NoTenantError) as refused:
            session.commit()
    assert refused.value.table == "events"
    assert "tenants share 'events', and this transaction is no tenant's" in str(refused.value)


def test_verify_is_not_green_over_what_it_cannot_see(app: Engine, worker: Engine) -> None:
    with pytest.raises(NoTenantError):
        verify(worker, Base)
    assert verify(for_tenant(worker, "alpha"), Base).is_sound


def test_a_session_is_not_taken_to_another_tenant(app: Engine) -> None:
    with session_of(app, "alpha") as session:
        patient = session.get_one(Patient, "1")  # held, so that the session has it
        session.commit()
        session.info[TENANT] = "beta"
        with pytest.raises(TenantChangedError) as refused:
            session.get(Patient, "1")
        assert (refused.value.before, refused.value.tenant) == ("alpha", "beta")
        session.close()
        found = session.get_one(Patient, "1")
        assert found is not patient
        assert found.name == "Bob"


def test_nor_is_one_whose_context_has_ended(app: Engine) -> None:
    with Session(app) as session:
        with tenant_context("alpha"):
            patient = session.get_one(Patient, "1")
            session.rollback()
        with pytest.raises(TenantChangedError, match="the tenant is none now"):
            session.get(Patient, "1")
        assert patient in session


def test_autocommit_is_refused(app: Engine) -> None:
    engine = app.execution_options(isolation_level="AUTOCOMMIT")
    with session_of(engine, "alpha") as session, pytest.raises(AutocommitError):
        session.get(Patient, "1")


def test_a_superuser_is_refused(owner: Engine) -> None:
    with session_of(owner, "alpha") as session, pytest.raises(TenantBypassError) as refused:
        session.get(Patient, "1")
    assert refused.value.tenant == "alpha"
    assert "is a superuser or has BYPASSRLS" in str(refused.value)


@pytest.mark.parametrize("tenant", ["*", "x" * 256, "a\0b", 7])
def test_what_is_no_name_of_a_tenant_is_refused(app: Engine, tenant: object) -> None:
    with pytest.raises(TenantIdError), tenant_context(tenant):  # type: ignore[arg-type]
        pass
    if tenant != "*":
        with Session(app, info={TENANT: tenant}) as session, pytest.raises(TenantIdError):
            session.get(Patient, "1")


def test_on_sqlite_it_is_refused(sqlite_engine: Engine) -> None:
    with pytest.raises(DeclarationError, match="PostgreSQL has and sqlite has not"):
        Base.metadata.create_all(sqlite_engine)
    with session_of(sqlite_engine, "alpha") as session, pytest.raises(DeclarationError, match="on PostgreSQL only, not on sqlite"):
        session.execute(text("SELECT 1"))


def test_tenants_need_roles() -> None:
    with pytest.raises(DeclarationError, match="needs roles=Roles"):
        EventSourceOptions(tenants=True)
    with pytest.raises(DeclarationError, match="no tenant's proof would be its own"):
        EventSourceOptions(tenants=True, roles=Roles(), proofs=True)


def test_tables_without_the_option_are_as_they_were() -> None:
    class Plain(DeclarativeBase):
        __eventsource__ = EventSourceOptions(roles=Roles(), commands="commands")

    assert Plain.metadata.tables
    for table in Plain.metadata.tables.values():
        assert "tenant_id" not in table.c


def test_events_of_another_tenant_are_not_known_by_their_id(app: Engine) -> None:
    event_id = uuid4()
    for tenant, _ in TENANTS:
        with session_of(app, tenant) as session:
            patient = Patient(id="9")
            patient.apply_event(Discharged(), event_id=event_id)
            session.add(patient)
            session.commit()


def test_the_setting_of_one_transaction_is_not_that_of_the_next(app: Engine) -> None:
    with app.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        assert connection.scalar(text("SELECT count(*) FROM events")) == 0
        with pytest.raises(DBAPIError):
            connection.execute(text("INSERT INTO beds (id, bed, version, created_at, updated_at) VALUES ('x', 9, 1, now(), now())"))
    with session_of(app, "alpha") as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) == pid, "it is the same connection, from the pool"
        assert session.scalar(text("SELECT count(*) FROM events")) == 1
    with app.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) == pid
        assert connection.scalar(text("SELECT count(*) FROM events")) == 0
