"""Tables that are there, with events and what follows from them, become shared tables: what they hold is one tenant's."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

import sa_eventsource.migrations  # noqa: F401 - its operations
from sa_eventsource import (
    EventSourceOptions,
    ReadModel,
    ReadModelManager,
    TenantIdError,
    Worker,
    create_roles,
    map_from_event,
    verify,
)
from tests.clinic import Admitted, AnyPatient
from tests.database_roles import PLAIN_ROLES, engine_as, for_tenant, let_log_in, session_of
from tests.privacy.keys import MASTER_KEYS


def _declare(**options: Any) -> Any:
    class Base(DeclarativeBase):
        __eventsource__ = EventSourceOptions(
            roles=PLAIN_ROLES, commands="commands", master_keys=MASTER_KEYS, anonymisations="anonymisations", **options
        )

    class Patient(AnyPatient, Base):
        __aggregate_type__ = "adding_tenants.Patient"

    class Beds(ReadModel, Base):
        __tablename__ = "beds"
        __projection_name__ = "adding_tenants.beds"
        __consistency__ = "strong"

        id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
        bed: Mapped[int] = map_from_event(Admitted, unique=True)

    class Patients(ReadModel, Base):
        __projection_name__ = "adding_tenants.patients"

        id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
        bed: Mapped[int] = map_from_event(Admitted, unique=True)

    Base.Patient, Base.Beds, Base.Patients = Patient, Beds, Patients
    return Base


Alone, Shared = _declare(), _declare(tenants=True)


def _admit(base: Any, session: Session, patient_id: str, bed: int) -> None:
    patient = session.get(base.Patient, patient_id) or base.Patient(id=patient_id)
    patient.apply_event(Admitted(name="Ann", person_id=patient_id, ward=f"ward {bed}", bed=bed))
    session.add(patient)
    session.commit()


@pytest.fixture
def tables() -> MetaData | None:
    return None


@pytest.fixture
def owner(postgres_engine: Engine) -> Engine:
    Alone.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        for number in range(1, 4):
            _admit(Alone, session, f"p-{number}", number)
    ReadModelManager(postgres_engine, Alone).catch_up()
    with postgres_engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        for table in Shared.metadata.sorted_tables:
            op.add_tenant(table.name, "al'pha", PLAIN_ROLES.worker)  # type: ignore[attr-defined]
        create_roles(connection, Shared)
        let_log_in(connection, *PLAIN_ROLES.names())
    return postgres_engine


def test_what_is_there_is_one_tenants_and_others_can_share_the_tables(owner: Engine) -> None:
    app, worker = engine_as(owner, PLAIN_ROLES.app), engine_as(owner, PLAIN_ROLES.worker)
    with session_of(app, "beta") as session:
        _admit(Shared, session, "p-1", 1)  # with an id and a unique value that the other one has
        assert session.get_one(Shared.Patient, "p-1").version == 1
    with session_of(app, "al'pha") as session:
        assert session.get_one(Shared.Patient, "p-1").ward == "ward 1"
        _admit(Shared, session, "p-1", 7)
        assert session.get_one(Shared.Patient, "p-1").version == 2
        assert session.scalar(text("SELECT count(*) FROM events")) == 4
        assert session.scalar(text("SELECT count(*) FROM snapshots")) == 3
    Worker(worker, Shared).run_once()
    for tenant, rows in (("al'pha", 3), ("beta", 1)):
        assert verify(for_tenant(worker, tenant), Shared).findings == ()
        with session_of(app, tenant) as session:
            assert session.query(Shared.Patients).count() == session.query(Shared.Beds).count() == rows
    app.dispose()
    worker.dispose()


_CATALOGUE = text("""
    SELECT c.relname, coalesce(pg_get_constraintdef(o.oid), pg_get_indexdef(i.indexrelid))
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid LEFT JOIN pg_constraint AS o ON o.conindid = i.indexrelid
    WHERE c.relnamespace = current_schema()::regnamespace ORDER BY 1, 2
""")
_COLUMNS = text("""
    SELECT table_name, column_default, is_nullable, data_type, character_maximum_length
    FROM information_schema.columns WHERE column_name = 'tenant_id' ORDER BY 1
""")


def _found(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for query in (_CATALOGUE, _COLUMNS) for row in connection.execute(query)]


def test_the_tables_are_those_that_a_new_application_has(owner: Engine) -> None:
    migrated = _found(owner)
    with owner.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    Shared.metadata.create_all(owner)
    assert migrated == _found(owner)


@pytest.mark.parametrize("tenant", ["", "*", "x" * 256])
def test_what_is_no_tenant_is_refused(postgres_engine: Engine, tenant: str) -> None:
    with postgres_engine.connect() as connection, pytest.raises(TenantIdError):
        Operations(MigrationContext.configure(connection)).add_tenant("events", tenant, "worker")  # type: ignore[attr-defined]
