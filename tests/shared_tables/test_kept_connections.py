"""A connection that the application keeps is, in each of its transactions, whose the session says that uses it then."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource import ConcurrencyError, NoTenantError, TenantChangedError, event_record, export_events, tenant_context
from tests.shared_tables.hotel import TENANT, Base, Room, RoomLeft, session_of


def test_each_session_on_a_connection_is_of_the_context_in_force(app: Engine) -> None:
    with app.connect() as connection:
        for tenant, guest in (("alpha", "Ann"), ("beta", "Bob"), ("alpha", "Ann")):
            with tenant_context(tenant), Session(connection) as session:
                assert session.get_one(Room, "1").guest == guest
        with Session(connection) as session, pytest.raises(NoTenantError):
            session.get(Room, "1")


def test_a_session_that_says_whose_it_is_does_not_say_so_for_the_next_one(app: Engine) -> None:
    with app.connect() as connection:
        with Session(connection, info={TENANT: "alpha"}) as session:
            assert session.get_one(Room, "1").guest == "Ann"
        with tenant_context("beta"), Session(connection) as session:
            assert session.get_one(Room, "1").guest == "Bob"


def test_a_session_on_a_connection_does_not_go_from_one_tenant_to_another_with_what_it_has_loaded(app: Engine) -> None:
    with app.connect() as connection, Session(connection) as session:
        with tenant_context("alpha"):
            room = session.get_one(Room, "1")
            session.commit()
        with tenant_context("beta"):
            with pytest.raises(TenantChangedError):
                _ = room.guest
            session.rollback()
            session.expunge_all()
            assert session.get_one(Room, "1").guest == "Bob"


def test_a_tenant_that_the_connection_was_given_holds_for_all(app: Engine) -> None:
    with app.connect().execution_options(**{TENANT: "alpha"}) as connection:
        with tenant_context("beta"), Session(connection) as session:
            assert session.get_one(Room, "1").guest == "Ann"
        with Session(connection, info={TENANT: "beta"}) as session:
            assert session.get_one(Room, "1").guest == "Bob"
        with Session(connection) as session:
            assert session.get_one(Room, "1").guest == "Ann"


def test_a_lost_race_is_explained_as_the_tenant_whose_it_was(app: Engine) -> None:
    with app.connect() as connection:
        with Session(connection, info={TENANT: "alpha"}) as session:
            session.get_one(Room, "1").apply_event(RoomLeft())
            session.commit()
        with Session(connection) as session:
            with tenant_context("beta"):
                room = session.get_one(Room, "1")
            with session_of(app, "beta") as other:
                other.get_one(Room, "1").apply_event(RoomLeft())
                other.commit()
            room.apply_event(RoomLeft())
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
            room = first.get_one(Room, "1")
            with Session(connection, info={TENANT: "alpha"}) as third:
                assert third.get_one(Room, "1").guest == "Ann"
            with Session(connection, info={TENANT: "beta"}) as second, pytest.raises(TenantChangedError, match="alpha"):
                second.get(Room, "1")
            first.expire_all()
            assert room.guest == "Ann"
        with Session(connection, info={TENANT: "beta"}) as second:
            assert second.get_one(Room, "1").guest == "Bob"


def test_a_session_without_a_tenant_joins_the_one_whose_the_transaction_is(app: Engine) -> None:
    with app.connect() as connection, connection.begin(), Session(connection, info={TENANT: "alpha"}) as first:
        room = first.get_one(Room, "1")
        with Session(connection) as second:
            assert second.get_one(Room, "1").guest == "Ann"
        room.apply_event(RoomLeft())
        first.flush()
        with Session(connection) as second:
            assert second.get_one(Room, "1").version == 2
