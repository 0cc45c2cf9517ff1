"""One worker follows the log for all tenants, each by itself; a tenant is rebuilt, verified and followed alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from sa_eventsource import (
    AsyncWorker,
    EventReplayer,
    NoTenantError,
    ReadModelManager,
    RetryPolicy,
    TenantBypassError,
    Worker,
    WorkerRoleError,
    schedule,
    tenant_context,
    verify,
)
from tests.clinic import Discharged
from tests.database_roles import for_tenant, session_of
from tests.shared_tables.clinics import Admit, Base, Discharges, Names, Patient, PerBed
from tests.waiting import wait_until


def counted(engine: Engine, tenant: str) -> dict[int, int]:
    """Give what a tenant's rows of ``PerBed`` say."""
    with session_of(engine, tenant) as session:
        return {each.bed: each.patients for each in session.scalars(select(PerBed))}


def statuses_in(session: Session) -> dict[str, str]:
    """Give the status of each follower, as a tenant sees it."""
    rows = session.execute(text("SELECT projection_name, status FROM projection_positions"))
    return {row.projection_name: row.status for row in rows}


def left(engine: Engine, tenant: str) -> None:
    """Have patient "1" of a tenant go home."""
    with session_of(engine, tenant) as session:
        session.get_one(Patient, "1").apply_event(Discharged())
        session.commit()


@pytest.fixture
def number_two_breaks(owner: Engine) -> Iterator[None]:
    """No tenant but alpha can have a name in clear, and so no row of a model can be written for it."""
    with owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE names ADD CONSTRAINT only_alpha CHECK (tenant_id = 'alpha')")
    yield
    with owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE names DROP CONSTRAINT only_alpha")


def test_one_worker_takes_the_events_of_all(app: Engine, worker: Engine) -> None:
    with session_of(app, "beta") as session:
        session.add(Patient.admit("2", "Cleo", bed=2))
        session.commit()
    left(app, "alpha")
    assert Worker(worker, Base).run_once() > 0
    assert (counted(app, "alpha"), counted(app, "beta")) == ({1: 1}, {1: 1, 2: 1})
    for tenant, names, discharges in (("alpha", ["Ann"], ["1"]), ("beta", ["Bob", "Cleo"], [])):
        with session_of(app, tenant) as session:
            assert sorted(session.scalars(select(Names.name))) == names
            assert session.scalars(select(Discharges.id)).all() == discharges
        found = verify(for_tenant(worker, tenant), Base)
        assert found.is_sound, found.findings
        assert found.rows["shared.per_bed"] == len(counted(app, tenant))


def test_it_goes_on_with_tenants_that_are_new(app: Engine, worker: Engine) -> None:
    stop, running = threading.Event(), Worker(worker, Base)
    thread = threading.Thread(target=running.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: counted(app, "beta") == {1: 1})
        for number in range(2, 5):
            with session_of(app, f"new-{number}") as session:
                session.add(Patient.admit("1", "Eve", bed=number))
                session.commit()
        left(app, "beta")
        wait_until(lambda: all(counted(app, f"new-{number}") == {number: 1} for number in range(2, 5)))
        with session_of(app, "alpha") as session:
            session.add(Patient.admit("3", "Fay", bed=5))
            session.commit()
        wait_until(lambda: counted(app, "alpha") == {1: 1, 5: 1})
    finally:
        stop.set()
        thread.join()


@pytest.mark.usefixtures("number_two_breaks")
def test_what_one_tenant_cannot_take_holds_no_other_up(app: Engine, worker: Engine, caplog: pytest.LogCaptureFixture) -> None:
    running = Worker(worker, Base, retries=RetryPolicy(attempts=1))
    running.run_once()
    running.run_once()
    with session_of(app, "alpha") as session:
        assert session.scalars(select(Names.name)).all() == ["Ann"]
        statuses = statuses_in(session)
        assert statuses["shared.names"] == "running"
    with session_of(app, "beta") as session:
        assert session.scalars(select(Names.name)).all() == []
        statuses = statuses_in(session)
        assert (statuses["shared.names"], statuses["shared.per_bed"]) == ("stopped", "running")
    assert counted(app, "beta") == {1: 1}
    assert list(running.hindered) == ["beta: shared.names"]
    (said,) = [each.getMessage() for each in caplog.records if "shared.names" in each.getMessage()]
    assert said.startswith("beta: shared.names: ")


def test_a_tenant_is_rebuilt_alone(app: Engine, worker: Engine) -> None:
    Worker(worker, Base).run_once()
    with worker.begin() as connection:
        connection.execute(text("SELECT set_config('sa_eventsource.tenant', '*', true)"))
        connection.execute(text("UPDATE names SET name = 'damaged'"))
    assert EventReplayer(for_tenant(worker, "alpha"), Base).rebuild(Names) == 1
    for tenant, name in (("alpha", "Ann"), ("beta", "damaged")):
        with session_of(app, tenant) as session:
            assert session.scalars(select(Names.name)).all() == [name]


def test_scheduled_commands_of_all_tenants_are_run_as_their_own(app: Engine, worker: Engine) -> None:
    command_id = UUID(int=9)  # the same for both
    for tenant in ("alpha", "beta"):
        with session_of(app, tenant) as session:
            schedule(session, Admit(patient_id="late", name=f"of {tenant}", bed=6), base=Base, command_id=command_id)
            schedule(session, Admit(patient_id="later", name="nobody", bed=7), after=timedelta(days=1), base=Base)
            session.commit()
    Worker(worker, Base).run_once()
    for tenant in ("alpha", "beta"):
        with session_of(app, tenant) as session:
            assert session.get_one(Patient, "late").name == f"of {tenant}"
            assert session.get(Patient, "later") is None
            rows = session.execute(text("SELECT status, count(*) FROM commands GROUP BY 1 ORDER BY 1")).all()
            assert rows == [("done", 1), ("scheduled", 1)]


async def test_an_asynchronous_worker_does_the_same(app: Engine, worker: Engine) -> None:
    with session_of(app, "beta") as session:
        schedule(session, Admit(patient_id="late", name="Ida", bed=6), base=Base, command_id=uuid4())
        session.commit()
    engine = create_async_engine(worker.url)
    async with AsyncWorker(async_sessionmaker(engine), Base):
        await _until(lambda: counted(app, "alpha") == {1: 1} and counted(app, "beta") == {1: 1, 6: 1})
    await engine.dispose()


async def _until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition)


@pytest.mark.parametrize("way", ["engine", "context"])
def test_given_a_tenant_a_worker_works_for_that_one(app: Engine, worker: Engine, way: str) -> None:
    if way == "engine":
        Worker(for_tenant(worker, "alpha"), Base).run_once()
    else:
        with tenant_context("alpha"):
            ReadModelManager(worker, Base).catch_up()
    assert (counted(app, "alpha"), counted(app, "beta")) == ({1: 1}, {})


def test_a_role_that_would_find_nobody_is_refused(app: Engine, owner: Engine) -> None:
    with pytest.raises(WorkerRoleError) as refused:
        Worker(app, Base).run_once()
    assert refused.value.role == app.url.username
    with pytest.raises(TenantBypassError):
        Worker(owner, Base).run_once()


def test_a_manager_works_for_one_tenant(worker: Engine) -> None:
    with pytest.raises(NoTenantError):
        ReadModelManager(worker, Base).catch_up()
    with Session(worker) as session, pytest.raises(NoTenantError):
        session.add(Patient.admit("5", "Gil", bed=5))
        session.commit()
