"""An instance that one tenant's session has loaded or written goes into no other tenant's, whichever way it gets there."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, make_transient, make_transient_to_detached

from sa_eventsource import EventSourcedRepository, ReadModelError, TenantChangedError, event_record, tenant_context
from sa_eventsource.session import tenants_of_instances
from tests.clinic import Discharged
from tests.database_roles import TENANT, for_tenant, session_of
from tests.orders import Order
from tests.shared_tables.clinics import Base, Beds, Patient
from tests.shop import AnyOrder


def _count(app: Engine, tenant: str) -> int:
    with session_of(app, tenant) as session:
        return session.scalar(text("SELECT count(*) FROM events")) or 0


def _of_alpha(app: Engine, *, expire_on_commit: bool = False) -> Patient:
    with Session(app, info={TENANT: "alpha"}, expire_on_commit=expire_on_commit) as session:
        patient = session.get_one(Patient, "1")
        session.commit()
    return patient


def test_a_detached_aggregate_is_not_added_to_another_tenants_session(app: Engine) -> None:
    patient = _of_alpha(app)
    with session_of(app, "beta") as session:
        with pytest.raises(TenantChangedError) as refused:
            session.add(patient)
        error = refused.value
        assert (error.aggregate_type, error.aggregate_id, error.before, error.tenant) == ("shared.Patient", "1", "alpha", "beta")
        assert "shared.Patient '1' is of tenant 'alpha', and this session is of tenant 'beta'" in str(error)
        assert "Load it in the session that changes it" in str(error)
        assert patient not in session
        assert session.get_one(Patient, "1").name == "Bob"
    assert _count(app, "beta") == 1


def test_it_goes_back_to_a_session_of_its_tenant(app: Engine) -> None:
    patient = _of_alpha(app)
    patient.apply_event(Discharged())
    with session_of(app, "alpha") as session:
        session.add(patient)
        session.commit()
    assert (_count(app, "alpha"), _count(app, "beta")) == (2, 1)


def test_one_that_was_expired_when_it_was_detached_is_refused_too(app: Engine) -> None:
    patient = _of_alpha(app, expire_on_commit=True)
    with session_of(app, "beta") as session, pytest.raises(TenantChangedError):
        session.add(patient)


def test_one_that_was_written_and_never_loaded_is_refused_too(app: Engine) -> None:
    with Session(app, info={TENANT: "alpha"}, expire_on_commit=False) as session:
        patient = Patient.admit("2", "Cleo", bed=2)
        session.add(patient)
        session.commit()
    with session_of(app, "beta") as session, pytest.raises(TenantChangedError, match="'2'"):
        session.add(patient)


@pytest.mark.parametrize("take", [copy.deepcopy, lambda patient: pickle.loads(pickle.dumps(patient))], ids=["deepcopy", "pickle"])
def test_a_copy_is_refused_too(app: Engine, take: Callable[[Patient], Patient]) -> None:
    patient = take(_of_alpha(app))
    assert patient.name == "Ann"
    with session_of(app, "beta") as session, pytest.raises(TenantChangedError):
        session.add(patient)
    with session_of(app, "alpha") as session:
        session.add(patient)
        patient.apply_event(Discharged())
        session.commit()
    assert (_count(app, "alpha"), _count(app, "beta")) == (2, 1)


def test_one_that_was_made_transient_is_refused_too(app: Engine) -> None:
    patient = _of_alpha(app)
    make_transient(patient)
    patient.apply_event(Discharged())
    with session_of(app, "beta") as session, pytest.raises(TenantChangedError):
        session.add(patient)


def test_what_was_never_stored_is_nobodys(app: Engine) -> None:
    patient = Patient.admit("2", "Cleo", bed=2)
    with session_of(app, "alpha") as session:
        session.add(patient)
        session.flush()
        session.rollback()
    with session_of(app, "alpha") as session:
        session.add_all([patient, Patient.admit("3", "Dee", bed=2)])
        with pytest.raises(ReadModelError):  # it has the same number
            session.commit()
    with session_of(app, "beta") as session:
        session.add(patient)
        session.commit()
    assert (_count(app, "alpha"), _count(app, "beta")) == (1, 2)


@pytest.mark.parametrize("loads", [True, False], ids=["load", "no-load"])
def test_it_is_not_merged(app: Engine, loads: bool) -> None:
    patient = _of_alpha(app)
    with session_of(app, "beta") as session, pytest.raises(TenantChangedError):
        session.merge(patient, load=loads)
    with session_of(app, "alpha") as session:
        assert session.merge(patient, load=loads).name == "Ann"


def test_the_repository_refuses_it(app: Engine) -> None:
    patient = _of_alpha(app)
    patient.apply_event(Discharged())
    with session_of(app, "beta") as session, pytest.raises(TenantChangedError):
        EventSourcedRepository(session, Patient).save(patient)


@pytest.mark.parametrize("way", ["engine", "context"])
def test_however_the_session_is_a_tenants(app: Engine, way: str) -> None:
    patient = _of_alpha(app)
    if way == "engine":
        with Session(for_tenant(app, "beta")) as session, pytest.raises(TenantChangedError):
            session.add(patient)
    else:
        with tenant_context("beta"), Session(app) as session, pytest.raises(TenantChangedError):
            session.add(patient)


def test_a_session_that_is_nobodys_yet_becomes_its_tenants(app: Engine) -> None:
    patient = _of_alpha(app)
    with Session(app) as session:
        session.add(patient)
        patient.apply_event(Discharged())
        with tenant_context("beta"), pytest.raises(TenantChangedError):
            session.commit()
    assert (_count(app, "alpha"), _count(app, "beta")) == (1, 1)


def test_one_made_transient_waits_in_a_session_that_is_nobodys_yet(app: Engine) -> None:
    patient = _of_alpha(app)
    make_transient(patient)
    patient.apply_event(Discharged())
    with Session(app) as session:
        session.add(patient)
        with tenant_context("beta"), pytest.raises(TenantChangedError) as refused:
            session.commit()
        assert (refused.value.aggregate_id, refused.value.before, refused.value.tenant) == ("1", "alpha", "beta")
    assert _count(app, "beta") == 1


def test_a_row_of_a_read_model_or_of_the_log_is_refused_too(app: Engine) -> None:
    record = event_record(Base)
    with session_of(app, "alpha") as session:
        rows = [session.scalars(select(Beds)).one(), session.scalars(select(record)).one()]
        session.expunge_all()
    for row in rows:
        with session_of(app, "beta") as session:
            with pytest.raises(TenantChangedError, match=type(row).__name__):
                session.add(row)
            assert row not in session


def test_an_instance_that_stands_for_what_is_stored_is_nobodys(app: Engine) -> None:
    patient = Patient(id="1")
    make_transient_to_detached(patient)
    with session_of(app, "beta") as session:
        session.add(patient)
        assert patient.name == "Bob"


def test_a_session_whose_info_changes_is_refused_in_the_middle_of_a_transaction(app: Engine) -> None:
    with session_of(app, "alpha") as session:
        patient = session.get_one(Patient, "1")
        session.info[TENANT] = "beta"
        with pytest.raises(TenantChangedError):
            session.get(Patient, "1")  # which the identity map would answer
        with pytest.raises(TenantChangedError):
            session.scalars(select(Patient)).all()
        with pytest.raises(TenantChangedError):
            session.execute(text("SELECT 1"))
        patient.apply_event(Discharged())
        with pytest.raises(TenantChangedError):
            session.commit()
        session.rollback()
        session.info[TENANT] = "alpha"
        assert session.get_one(Patient, "1").version == 1
    assert (_count(app, "alpha"), _count(app, "beta")) == (1, 1)


def test_the_identity_map_does_not_answer_for_another_tenant(app: Engine) -> None:
    with Session(app, info={TENANT: "alpha"}, expire_on_commit=False) as session:
        patient = session.get_one(Patient, "1")
        session.commit()
        assert session.get(Patient, "1") is patient
        session.info[TENANT] = "beta"
        with pytest.raises(TenantChangedError) as refused:
            session.get(Patient, "1")
        assert (refused.value.before, refused.value.tenant) == ("alpha", "beta")


def test_nor_after_the_context_has_changed(app: Engine) -> None:
    with Session(app, expire_on_commit=False) as session:
        with tenant_context("alpha"):
            patient = session.get_one(Patient, "1")
            session.expunge_all()  # and a new identity map
            patient = session.get_one(Patient, "1")
            session.commit()
            assert session.get(Patient, "1") is patient
        with tenant_context("beta"), pytest.raises(TenantChangedError):
            session.get(Patient, "1")
        with pytest.raises(TenantChangedError, match="the tenant is none now"):
            session.get(Patient, "1")


def test_a_context_within_a_transaction_leaves_it_whose_it_is(app: Engine) -> None:
    with tenant_context("alpha"), Session(app) as session:
        patient = session.get_one(Patient, "1")
        with tenant_context("beta"):
            assert session.get(Patient, "1") is patient
            session.refresh(patient)
            assert patient.name == "Ann"


def test_a_session_may_be_used_for_another_tenant_when_it_is_closed(app: Engine) -> None:
    with Session(app, info={TENANT: "alpha"}, expire_on_commit=False) as session:
        patient = session.get_one(Patient, "1")
        session.close()
        session.info[TENANT] = "beta"
        assert session.get_one(Patient, "1").name == "Bob"
        with pytest.raises(TenantChangedError):
            session.add(patient)


async def test_an_asynchronous_session_refuses_it(app: Engine) -> None:
    engine = create_async_engine(app.url)
    async with AsyncSession(engine, info={TENANT: "alpha"}, expire_on_commit=False) as session:
        patient = await session.get_one(Patient, "1")
        await session.commit()
    async with AsyncSession(engine, info={TENANT: "beta"}) as session:
        with pytest.raises(TenantChangedError):
            session.add(patient)
        assert (await session.get_one(Patient, "1")).name == "Bob"
    await engine.dispose()


def test_an_aggregate_that_is_handed_to_a_thread_of_another_tenant_is_refused(app: Engine) -> None:
    patient = _of_alpha(app)

    def leave() -> None:
        with tenant_context("beta"), Session(app) as session:
            session.add(patient)
            patient.apply_event(Discharged())
            session.commit()

    with ThreadPoolExecutor(1) as pool, pytest.raises(TenantChangedError):
        pool.submit(leave).result()
    assert (_count(app, "alpha"), _count(app, "beta")) == (1, 1)


def test_a_connection_that_has_seen_a_refusal_goes_back_as_nobodys(app: Engine) -> None:
    with session_of(app, "alpha") as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        session.get_one(Patient, "1").apply_event(Discharged())
        session.info[TENANT] = "beta"
        with pytest.raises(TenantChangedError):
            session.commit()
    with Session(app) as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) == pid
        assert session.scalar(text("SELECT count(*) FROM events")) == 0


def test_applications_without_tenants_pay_nothing_for_it(sqlite_engine: Engine) -> None:
    Order.metadata.create_all(sqlite_engine)
    called: set[str] = set()

    def save_and_load() -> None:
        with Session(sqlite_engine) as session:
            order = Order.place()
            session.add(order)
            session.commit()
            order.pay()
            session.commit()
            session.refresh(order)
            session.rollback()
            session.scalars(select(Order)).all()
        with Session(sqlite_engine) as session:
            session.add(order)
            session.get_one(Order, order.id).note("again")
            session.commit()

    sys.setprofile(lambda frame, _what, _argument: called.add(frame.f_code.co_filename))
    try:
        save_and_load()
    finally:
        sys.setprofile(None)
    assert sys.modules[AnyOrder.__module__].__file__ in called, "it is seen who is called"
    assert tenants_of_instances.__file__ not in called
