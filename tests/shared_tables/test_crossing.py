"""Beta tries to reach what is alpha's, in every way that the application has: it finds nothing, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from sa_eventsource import (
    CommitTokenError,
    EventSourcedRepository,
    EventStore,
    NoTenantError,
    ReadModelManager,
    commit_token,
    event_record,
    export_events,
    forget,
    import_events,
    personal_data,
    schedule,
    wait_for,
)
from sa_eventsource.commands import Commands
from tests import poolers
from tests.anonymising import anonymise_all
from tests.clinic import Admitted
from tests.database_roles import PLAIN_ROLES, engine_as, for_tenant, session_of
from tests.parameters import plainly
from tests.shared_tables.clinics import Admit, Base, Beds, Names, Patient, PerBed

RECORD = event_record(Base)
SECRET = "Alphonse"


@pytest.fixture
def alpha_has_more(app: Engine, worker: Engine) -> UUID:
    """Alpha has a patient of its own, in all tables; an id of one of its events."""
    ReadModelManager(for_tenant(worker, "beta"), Base).catch_up()
    with session_of(app, "alpha") as session:
        session.add(Patient.admit("secret", SECRET, person_id="g-1", bed=77))
        schedule(session, Admit(patient_id="later", name=SECRET), base=Base, command_id=UUID(int=1))
        session.commit()
        token = commit_token(session)
    ReadModelManager(for_tenant(worker, "alpha"), Base).catch_up()
    assert token is not None
    return token


FINDS_NOTHING: dict[str, Callable[[Session], Any]] = {
    "get": lambda session: session.get(Patient, "secret"),
    "select": lambda session: session.scalars(select(Patient).where(Patient.id == "secret")).all(),
    "repository": lambda session: EventSourcedRepository(session, Patient).history("secret").all(),
    "events": lambda session: [each for each in EventStore(session, Base).events.all() if each.aggregate_id == "secret"],
    "records": lambda session: session.scalars(select(RECORD).where(RECORD.aggregate_id == "secret")).all(),
    "strong model": lambda session: session.get(Beds, "secret"),
    "eventual model": lambda session: session.get(PerBed, 77),
    "model in clear": lambda session: session.scalars(select(Names).where(Names.name == SECRET)).all(),
    "sum over a model": lambda session: session.scalar(select(func.sum(Beds.bed))) != 1,
    "raw events": lambda session: session.execute(text("SELECT * FROM events WHERE aggregate_id = 'secret'")).all(),
    "raw events by tenant": lambda session: session.execute(text("SELECT * FROM events WHERE tenant_id = 'alpha'")).all(),
    "raw keys": lambda session: session.execute(text("SELECT * FROM subject_keys WHERE tenant_id = 'alpha'")).all(),
    "raw commands": lambda session: session.execute(text("SELECT * FROM commands")).all(),
    "raw checkpoints": lambda session: session.execute(text("SELECT * FROM projection_positions WHERE tenant_id <> 'beta'")).all(),
    "raw rows": lambda session: session.execute(text("SELECT * FROM projections WHERE data->>'bed' = '77'")).all(),
    "a join": lambda session: session.execute(
        text("SELECT * FROM beds JOIN events ON aggregate_id = beds.id WHERE bed = 77")
    ).all(),
    "update": lambda session: session.execute(text("UPDATE beds SET bed = 5 WHERE id = 'secret'")).rowcount,  # type: ignore[attr-defined]
    "delete": lambda session: session.execute(text("DELETE FROM beds WHERE id = 'secret'")).rowcount,  # type: ignore[attr-defined]
    "lock": lambda session: session.execute(text("SELECT * FROM beds WHERE id = 'secret' FOR UPDATE")).all(),
    "what is stored about someone": lambda session: "secret" in json.dumps(personal_data(session, "g-1", base=Base)),
}


@pytest.mark.usefixtures("alpha_has_more")
@pytest.mark.parametrize("way", FINDS_NOTHING, ids=plainly)
def test_nothing_is_found(app: Engine, way: str) -> None:
    with session_of(app, "beta") as session:
        assert not FINDS_NOTHING[way](session)
        session.commit()
    with session_of(app, "alpha") as session:
        assert session.get_one(Patient, "secret").name == SECRET
        assert session.get_one(Beds, "secret").bed == 77


@pytest.mark.usefixtures("alpha_has_more")
def test_the_same_ways_find_what_is_ones_own(app: Engine) -> None:
    with session_of(app, "alpha") as session:
        blind = [way for way, find in FINDS_NOTHING.items() if not find(session) and way != "raw checkpoints"]
    assert blind == ["lock"], "the row is deleted before"


NOT_ALLOWED = r"row-level security|must be owner|permission denied"
REFUSED = {
    "insert an event": "INSERT INTO events (tenant_id, event_id, aggregate_type, aggregate_id, version, event_type, event_data, "
    "occurred_at) VALUES ('alpha', gen_random_uuid(), 'shared.Patient', '1', 2, 'clinic.Discharged', '{}', now())",
    "insert a row": "INSERT INTO beds SELECT 'x', 9, 1, now(), now(), NULL, 'alpha'",
    "give a row away": "UPDATE beds SET tenant_id = 'alpha'",
    "take all tenants' place": "INSERT INTO beds SELECT 'x', 9, 1, now(), now(), NULL, '*'",
    "drop the policy": "DROP POLICY sa_eventsource_tenant ON events",
    "disable row security": "ALTER TABLE events DISABLE ROW LEVEL SECURITY",
    "become the worker": f"SET ROLE {PLAIN_ROLES.worker}",
}


@pytest.mark.parametrize("way", REFUSED, ids=plainly)
def test_what_would_write_to_another_tenant_is_refused(app: Engine, way: str) -> None:
    with (
        session_of(app, "beta") as session,
        pytest.raises(ProgrammingError, match=NOT_ALLOWED),
    ):
        session.execute(text(REFUSED[way]))


def test_the_application_does_not_see_all_tenants_as_the_worker_does(app: Engine, worker: Engine) -> None:
    for engine, number in ((app, 0), (worker, 2)):
        with engine.begin() as connection:
            connection.execute(text("SELECT set_config('sa_eventsource.tenant', '*', true)"))
            assert connection.scalar(text("SELECT count(*) FROM events")) == number


def test_a_commit_of_another_tenant_is_not_waited_for(app: Engine, alpha_has_more: UUID) -> None:
    with session_of(app, "beta") as session, pytest.raises(CommitTokenError):
        wait_for(session, PerBed, after=alpha_has_more, timeout=0.2)
    with session_of(app, "alpha") as session:
        wait_for(session, PerBed, after=alpha_has_more)


@pytest.mark.usefixtures("alpha_has_more")
def test_a_command_of_another_tenant_is_unknown(app: Engine) -> None:
    handled = Commands(for_tenant(app, "beta"), Base).handle(Admit(patient_id="mine", name="Bo", bed=8), command_id=UUID(int=1))
    assert not handled.is_repetition


@pytest.mark.usefixtures("alpha_has_more")
def test_an_export_holds_one_tenant_and_an_import_makes_it_another_ones_own(app: Engine) -> None:
    with session_of(app, "beta") as session:
        lines = list(export_events(session.connection(), RECORD.__table__))
    assert len(lines) == 2, "a header, and an event"
    assert "secret" not in lines[1]
    with Session(app) as session, pytest.raises(NoTenantError):
        import_events(session.connection(), RECORD.__table__, lines)
    with session_of(app, "gamma") as session:
        import_events(session.connection(), RECORD.__table__, lines)
        session.commit()
        assert EventStore(session, Base).events.count() == 1
    for tenant, number in (("alpha", 2), ("beta", 1)):
        with session_of(app, tenant) as session:
            assert EventStore(session, Base).events.count() == number


@pytest.mark.usefixtures("alpha_has_more")
def test_one_tenant_forgets_someone_whom_another_knows_too(owner: Engine, app: Engine) -> None:
    officer = engine_as(owner, PLAIN_ROLES.privacy_officer)
    with session_of(officer, "beta") as session:
        forget(session, "g-1", reason="asked", base=Base)
        session.commit()
    officer.dispose()
    for tenant, name in (("alpha", "Ann"), ("beta", "(forgotten)")):
        with session_of(app, tenant) as session:
            assert session.get_one(Patient, "1").name == name
            assert session.scalars(select(Names.name).where(Names.id == "1")).one() == name


@pytest.mark.usefixtures("alpha_has_more")
def test_one_tenant_is_anonymised_alone(owner: Engine, app: Engine) -> None:
    officer = engine_as(owner, PLAIN_ROLES.privacy_officer)
    with session_of(officer, "beta") as session:
        anonymise_all(session, EventStore(session, Base).events.of_type(Admitted), "bed", 500)
    officer.dispose()
    for tenant, numbers in (("alpha", [1, 77]), ("beta", [500])):
        with session_of(app, tenant) as session:
            assert sorted(session.scalars(select(Beds.bed))) == numbers
            assert sorted(each.event.bed for each in EventStore(session, Base).events.of_type(Admitted)) == numbers


def test_behind_a_pooler_no_connection_takes_a_tenant_to_the_next(owner: Engine, app: Engine) -> None:
    with poolers.pooled(app.url.render_as_string(hide_password=False), pool_size=1) as url:
        engine = create_engine(url, connect_args={"prepare_threshold": None})
        for _ in range(3):
            for tenant, name in (("alpha", "Ann"), ("beta", "Bob")):
                with session_of(engine, tenant) as session:
                    assert session.get_one(Patient, "1").name == name
                with engine.connect() as connection:
                    assert connection.scalar(text("SELECT count(*) FROM events")) == 0
        engine.dispose()
