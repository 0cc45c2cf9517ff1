"""Each role tries each action, and may do what its work needs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session

from sa_eventsource import (
    EventReplayer,
    EventSourcedRepository,
    EventStore,
    ReadModelError,
    ReadModelManager,
    event_record,
    forget,
    personal_data,
    schedule,
    verify,
    wait_for,
)
from sa_eventsource.commands import Commands
from tests.database_roles import ROLES, connected_as
from tests.parameters import plainly
from tests.roles.hospital import Admit, Base, Beds, Names, Patient, Wards, inbox

SWITCH = "SET LOCAL sa_eventsource.allow_event_changes = 'on'"


def _sql(*statements: str) -> Callable[[Engine], None]:
    def run(engine: Engine) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    return run


def _chosen(column: str, value: str) -> Callable[[Engine], None]:
    columns = f"event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at, {column}"
    values = f"gen_random_uuid(), 'Patient', 'p-9', 1, 'Forged', '{{}}', now(), {value}"
    return _sql(f"INSERT INTO events ({columns}) VALUES ({values})")


def _in_session(work: Callable[[Session], Any]) -> Callable[[Engine], None]:
    def run(engine: Engine) -> None:
        with Session(engine) as session:
            work(session)
            session.commit()

    return run


def _read_masked(engine: Engine) -> None:
    with Session(engine.execution_options(personal_data="masked")) as session:
        assert session.get_one(Patient, "p-1").name == "(forgotten)"
        assert len(EventStore(session, Base).events.all()) == 2
        assert session.scalars(select(Wards.ward)).all() == ["A"]
        assert session.scalars(select(Beds.ward)).all() == ["A", "A"]


def _read_clear(session: Session) -> None:
    assert EventSourcedRepository(session, Patient).load_at_version("p-1", 1).name == "Ann"


def _read_snapshot(session: Session) -> None:
    assert session.get_one(Patient, "p-1").name == "Ann"


def _handle(engine: Engine) -> None:
    Commands(engine, Base).handle(Admit(patient_id=uuid4().hex), command_id=uuid4())


def _follow(engine: Engine) -> None:
    ReadModelManager(engine, Base).catch_up()


def _prune(session: Session) -> None:
    inbox.prune(session, older_than=timedelta(0))


def _wait(session: Session) -> None:
    record = event_record(Base)
    wait_for(session, Wards, after=session.scalars(select(record.event_id).where(record.aggregate_id == "p-1")).one())


EVERYBODY = {"app", "worker", "reader", "privacy_officer"}
WRITERS = {"app", "worker"}

ACTIONS: dict[str, tuple[Callable[[Engine], object], set[str]]] = {
    "read events and models with placeholders": (_read_masked, EVERYBODY),
    "read personal data": (_in_session(_read_clear), {"app", "worker", "privacy_officer"}),
    "read a sealed snapshot": (_in_session(_read_snapshot), {"app", "worker", "privacy_officer"}),
    "read a model in clear": (
        _in_session(lambda session: session.scalars(select(Names)).all()),
        {"app", "worker", "privacy_officer"},
    ),
    "ask for the status": (lambda engine: ReadModelManager(engine, Base).status(), EVERYBODY),
    "wait for a model": (_in_session(_wait), EVERYBODY),
    "list what is stored about someone": (
        _in_session(lambda session: personal_data(session, "p-1", base=Base)),
        {"app", "worker", "privacy_officer"},
    ),
    "append": (_in_session(lambda session: session.add(Patient.admit(uuid4().hex, "Bob"))), WRITERS),
    "handle a command with an id": (_handle, WRITERS),
    "schedule a command": (_in_session(lambda session: schedule(session, Admit(patient_id=uuid4().hex), base=Base)), WRITERS),
    "note a message": (_in_session(lambda session: inbox(session, uuid4())), WRITERS),
    "prune the inbox": (_in_session(_prune), {"worker"}),
    "follow the log": (_follow, {"worker"}),
    "rebuild an eventual model": (lambda engine: EventReplayer(engine, Base).rebuild(Wards), {"worker"}),
    "forget someone": (_in_session(lambda session: forget(session, "p-1", reason="asked", base=Base)), {"privacy_officer"}),
    "see who was forgotten": (_sql("SELECT subject FROM forgotten_subjects"), {"privacy_officer"}),
    "read the keys": (_sql("SELECT wrapped_key FROM subject_keys"), {"app", "worker", "privacy_officer"}),
    "destroy a key": (_sql("UPDATE subject_keys SET wrapped_key = NULL, forgotten_at = now()"), {"privacy_officer"}),
    "delete a key": (_sql("DELETE FROM subject_keys"), set()),
    "write a strong model by hand": (_sql("UPDATE beds SET ward = 'B'"), WRITERS),
    "write an eventual model by hand": (_sql("UPDATE projections SET version = 9"), {"worker"}),
    "move a checkpoint": (_sql("UPDATE projection_positions SET last_processed_position = 0"), {"worker", "privacy_officer"}),
    "drop what is parked": (_sql("DELETE FROM parked_events"), {"worker"}),
    "choose the position of an event": (_chosen("position", "9000000000000000"), set()),
    "choose the transaction of an event": (_chosen("transaction_id", "'3'"), set()),
    "choose when an event is recorded": (_chosen("recorded_at", "'2001-01-01'"), set()),
    "update events": (_sql("UPDATE events SET event_type = 'other'"), set()),
    "delete events": (_sql("DELETE FROM events"), set()),
    "truncate events": (_sql("TRUNCATE events"), set()),
    "delete events behind the switch": (_sql(SWITCH, "DELETE FROM events"), set()),
    "truncate events behind the switch": (_sql(SWITCH, "TRUNCATE events"), set()),
    # What is left for who anonymises events: the officer alone, behind the switch.
    "update events behind the switch": (_sql(SWITCH, "UPDATE events SET metadata = NULL"), {"privacy_officer"}),
    "drop the trigger": (_sql("DROP TRIGGER sa_eventsource_immutable ON events"), set()),
    "disable the trigger": (_sql("ALTER TABLE events DISABLE TRIGGER ALL"), set()),
    "have no trigger fire": (_sql("SET LOCAL session_replication_role = replica"), set()),
    "replace the trigger's function": (
        _sql("CREATE OR REPLACE FUNCTION events_immutable() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$"),
        set(),
    ),
    "add a trigger": (
        _sql("CREATE TRIGGER other BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION events_immutable()"),
        set(),
    ),
    "drop the table": (_sql("DROP TABLE events"), set()),
    "become the owner": (
        _sql("DO $$ BEGIN EXECUTE 'SET ROLE ' || (SELECT relowner::regrole FROM pg_class WHERE relname = 'events'); END $$"),
        set(),
    ),
}


@pytest.mark.parametrize("action", ACTIONS, ids=plainly)
def test_each_role_tries_each_action(clinic: Engine, action: str) -> None:
    run, allowed = ACTIONS[action]
    for role in sorted(EVERYBODY, key=lambda each: each in allowed):  # the others first: they are to change nothing
        with connected_as(clinic, getattr(ROLES, role)) as engine:
            if role in allowed:
                run(engine)
                continue
            with pytest.raises((DBAPIError, ReadModelError)) as refused:
                run(engine)
        assert _code(refused.value) == (RESTRICTED if (action, role) in BY_TRIGGER else NO_PRIVILEGE), role


NO_PRIVILEGE = "42501"
RESTRICTED = "23001"
BY_TRIGGER = {("update events", "privacy_officer")}
"""Who has the privilege, and is refused by the trigger."""


def _code(error: BaseException) -> str | None:
    while not isinstance(error, DBAPIError):
        assert error.__cause__ is not None, error
        error = error.__cause__
    code: str | None = getattr(error.orig, "sqlstate", None)
    return code


def test_a_worker_locks_the_log_for_a_strong_model_where_postgresql_has_a_privilege_for_it(
    clinic: Engine, server_version: int
) -> None:
    with connected_as(clinic, ROLES.worker) as engine:
        if server_version >= 17:
            assert EventReplayer(engine, Base).rebuild(Beds) == 2
        else:
            with pytest.raises(ProgrammingError, match="permission denied for table events"):
                EventReplayer(engine, Base).rebuild(Beds)


def test_after_all_that_the_log_is_sound(clinic: Engine) -> None:
    for role in (ROLES.app, ROLES.worker):
        with connected_as(clinic, role) as engine:
            _handle(engine)
    with connected_as(clinic, ROLES.worker) as engine:
        _follow(engine)
        assert verify(engine, Base).findings == ()
