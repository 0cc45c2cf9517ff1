"""The command line works for the tenant that it is told, and for all where that is what a command is for."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from sa_eventsource import EventStore
from tests.cli.commands import call, fail, succeed
from tests.shared_tables.hotel import Base, Guests, Room, session_of

BASE = "tests.shared_tables.hotel:Base"


def test_run_works_for_all_and_other_commands_for_one(app: Engine, worker: Engine) -> None:
    succeed("run", BASE, "--once", engine=worker)
    for tenant, guest in (("alpha", "Ann"), ("beta", "Bob")):
        with session_of(app, tenant) as session:
            assert session.scalars(select(Guests.guest)).all() == [guest]
        shown = succeed("--tenant", tenant, "show", BASE, "shared.Room", "1", "--json", engine=worker).stdout
        assert json.loads(shown)["state"]["guest"] == guest
        assert len(succeed("--tenant", tenant, "events", BASE, "--json", engine=worker).stdout.splitlines()) == 1
        assert succeed("--tenant", tenant, "verify", BASE, engine=worker).stdout.endswith("nothing is wrong\n")
        assert "shared.guests" in succeed("--tenant", tenant, "status", BASE, engine=worker).stdout
        assert len(succeed("--tenant", tenant, "export", BASE, engine=worker).stdout.splitlines()) == 2
    succeed("--tenant", "alpha", "rebuild", BASE, "shared.guests", engine=worker)


def test_an_export_of_one_tenant_is_imported_for_another(app: Engine, worker: Engine) -> None:
    exported = succeed("--tenant", "beta", "export", BASE, engine=worker).stdout
    succeed("--tenant", "gamma", "import", BASE, "-", engine=worker, stdin=exported)
    with session_of(app, "gamma") as session:
        assert EventStore(session, Base).events.count() == 1


@pytest.mark.parametrize("command", ["verify", "events", "status", "export", "adopt"])
def test_without_a_tenant_a_command_for_one_says_how_to_name_it(worker: Engine, command: str) -> None:
    said = fail(command, BASE, engine=worker, status=2)
    assert said == "tenants share the log 'events'; name one: sa-eventsource --tenant NAME ..."


def test_a_tenant_where_there_are_none_is_refused(postgres_engine: Engine) -> None:
    said = fail("--tenant", "alpha", "verify", "tests.orders:Base", engine=postgres_engine, status=2)
    assert said == "--tenant alpha: tenants do not share the log 'events'"


def test_the_environment_names_a_tenant_too(worker: Engine) -> None:
    result = call("events", BASE, "--json", engine=worker, SA_EVENTSOURCE_TENANT="beta")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)


def test_a_context_of_one_command_does_not_stay(app: Engine, worker: Engine) -> None:
    succeed("--tenant", "alpha", "status", BASE, engine=worker)
    with Session(app) as session:
        assert session.scalars(select(Room)).all() == []
