"""A connection that the application keeps is, in each of its transactions, whose the session says that uses it then."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import JoinTransactionMode

from sa_eventsource import ConcurrencyError, NoTenantError, TenantChangedError, event_record, export_events, tenant_context
from tests.clinic import Discharged
from tests.database_roles import TENANT, session_of
from tests.shared_tables.clinics import Base, Patient


def test_each_session_on_a_connection_is_of_the_context_in_force(app: Engine) -> None:
    with app.connect() as connection:
        for tenant, name in (("alpha", "Ann"), ("beta", "Bob"), ("alpha", "Ann")):
            with tenant_context(tenant), Session(connection) as session:
                assert session.get_one(Patient, "1").name == name
        with Session(connection) as session, pytest.raises(NoTenantError):
            session.get(Patient, "1")


def test_a_session_that_says_whose_it_is_does_not_say_so_for_the_next_one(app: Engine) -> None:
    with app.connect() as connection:
        with Session(connection, info={TENANT: "alpha"}) as session:
            assert session.get_one(Patient, "1").name == "Ann"
        with tenant_context("beta"), Session(connection) as session:
            assert session.get_one(Patient, "1").name == "Bob"


def test_a_session_on_a_connection_does_not_go_from_one_tenant_to_another_with_what_it_has_loaded(app: Engine) -> None:
    with app.connect() as connection, Session(connection) as session:
        with tenant_context("alpha"):
            patient = session.get_one(Patient, "1")
            session.commit()
        with tenant_context("beta"):
            with pytest.raises(TenantChangedError):
                _ = patient.name
            session.rollback()
            session.expunge_all()
            assert session.get_one(Patient, "1").name == "Bob"


def test_a_tenant_that_the_connection_was_given_holds_for_all(app: Engine) -> None:
    with app.connect().execution_options(**{TENANT: "alpha"}) as connection:
        with tenant_context("beta"), Session(connection) as session:
            assert session.get_one(Patient, "1").name == "Ann"
        with Session(connection, info={TENANT: "beta"}) as session:
            assert session.get_one(Patient, "1").name == "Bob"
        with Session(connection) as session:
            assert session.get_one(Patient, "1").name == "Ann"


def test_a_lost_race_is_explained_as_the_tenant_whose_it_was(app: Engine) -> None:
    with app.connect() as connection:
        with Session(connection, info={TENANT: "alpha"}) as session:
            session.get_one(Patient, "1").apply_event(Discharged())
            session.commit()
        with Session(connection) as session:
            with tenant_context("beta"):
                patient = session.get_one(Patient, "1")
            with session_of(app, "beta") as other:
                other.get_one(Patient, "1").apply_event(Discharged())
                other.commit()
            patient.apply_event(Discharged())
            with pytest.raises(ConcurrencyError) as caught:
                session.commit()
    assert (caught.value.expected_version, caught.value.actual_version) == (1, 2)


def test_an_export_from_a_connection_is_of_the_context_in_force(app: Engine) -> None:
    exported: list[str] = []
    with app.connect() as connection:
        for tenant in ("alpha", "beta"):
            with tenant_context(tenant):
                exported += export_events(connection, event_record(Base).__table__)
            connection.rollback()
    assert len({json.loads(line)["event_id"] for line in exported if "event_id" in line}) == len(["Ann's", "Bob's"])


def test_of_two_sessions_in_one_transaction_none_is_taken_to_the_tenant_of_the_other(app: Engine) -> None:
    with app.connect() as connection, connection.begin():
        with Session(connection, info={TENANT: "alpha"}) as first:
            patient = first.get_one(Patient, "1")
            with Session(connection, info={TENANT: "alpha"}) as third:
                assert third.get_one(Patient, "1").name == "Ann"
            with Session(connection, info={TENANT: "beta"}) as second, pytest.raises(TenantChangedError, match="alpha"):
                second.get(Patient, "1")
            first.expire_all()
            assert patient.name == "Ann"
        with Session(connection, info={TENANT: "beta"}) as second:
            assert second.get_one(Patient, "1").name == "Bob"


def test_a_session_without_a_tenant_joins_the_one_whose_the_transaction_is(app: Engine) -> None:
    with app.connect() as connection, connection.begin(), Session(connection, info={TENANT: "alpha"}) as first:
        patient = first.get_one(Patient, "1")
        with Session(connection) as second:
            assert second.get_one(Patient, "1").name == "Ann"
        patient.apply_event(Discharged())
        first.flush()
        with Session(connection) as second:
            assert second.get_one(Patient, "1").version == 2


@pytest.mark.parametrize("mode", ["create_savepoint", "rollback_only"])
@pytest.mark.parametrize("ending", ["commit", "close"])
def test_a_transaction_that_is_kept_is_nobodys_again_when_a_session_within_it_ends(
    app: Engine, mode: JoinTransactionMode, ending: str
) -> None:
    with app.connect() as connection, connection.begin():
        for tenant, name in (("alpha", "Ann"), ("beta", "Bob")):
            with Session(connection, join_transaction_mode=mode, info={TENANT: tenant}) as session:
                assert session.get_one(Patient, "1").name == name
                getattr(session, ending)()
            assert connection.scalar(text("SELECT count(*) FROM events")) == 0
        with Session(connection, join_transaction_mode=mode) as session, pytest.raises(NoTenantError):
            session.get(Patient, "1")


def test_it_is_whose_it_was_before_where_that_was_said(app: Engine) -> None:
    with app.connect() as connection, connection.begin(), tenant_context("alpha"):
        with Session(connection, join_transaction_mode="create_savepoint") as outer:
            assert outer.get_one(Patient, "1").name == "Ann"
            outer.commit()
        mine = list(export_events(connection, event_record(Base).__table__))
        with Session(connection, join_transaction_mode="create_savepoint", info={TENANT: "beta"}) as inner:
            assert inner.get_one(Patient, "1").name == "Bob"
            inner.rollback()
        assert connection.scalars(text("SELECT tenant_id FROM events")).all() == ["alpha"]
        assert list(export_events(connection, event_record(Base).__table__))[1:] == mine[1:]


def test_a_session_that_ends_in_a_transaction_that_has_failed_keeps_its_error(app: Engine) -> None:
    with app.connect() as connection, connection.begin() as transaction:
        with (
            pytest.raises(ProgrammingError, match="no_such_table"),
            Session(connection, join_transaction_mode="rollback_only", info={TENANT: "alpha"}) as session,
        ):
            session.execute(text("SELECT * FROM no_such_table"))
        transaction.rollback()
    with app.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM events")) == 0


def test_a_session_that_rolls_a_savepoint_of_the_application_back_ends_as_ever(app: Engine) -> None:
    with app.connect() as connection, connection.begin():
        with (
            connection.begin_nested(),
            Session(connection, join_transaction_mode="rollback_only", info={TENANT: "alpha"}) as session,
        ):
            assert session.get_one(Patient, "1").name == "Ann"
            session.rollback()
        assert connection.scalar(text("SELECT count(*) FROM events")) == 0


def test_a_session_whose_connection_is_lost_ends_as_ever(app: Engine) -> None:
    with (
        pytest.raises(OperationalError, match="terminating"),
        app.connect() as connection,
        connection.begin(),
        Session(connection, join_transaction_mode="create_savepoint", info={TENANT: "alpha"}) as session,
    ):
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
