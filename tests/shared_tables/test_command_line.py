"""The command line works for the tenant that it is told, and for all where that is what a command is for."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from sa_eventsource import EventStore, schedule
from tests.cli.commands import call, fail, succeed, url_of
from tests.database_roles import PLAIN_ROLES, TENANT, session_of
from tests.shared_tables.clinics import Admit, Base, Names, Patient

BASE = "tests.shared_tables.clinics:Base"


def test_run_works_for_all_and_other_commands_for_one(app: Engine, worker: Engine) -> None:
    succeed("run", BASE, "--once", engine=worker)
    for tenant, name in (("alpha", "Ann"), ("beta", "Bob")):
        with session_of(app, tenant) as session:
            assert session.scalars(select(Names.name)).all() == [name]
        shown = succeed("--tenant", tenant, "show", BASE, "shared.Patient", "1", "--json", engine=worker).stdout
        assert json.loads(shown)["state"]["name"] == name
        assert len(succeed("--tenant", tenant, "events", BASE, "--json", engine=worker).stdout.splitlines()) == 1
        assert succeed("--tenant", tenant, "verify", BASE, engine=worker).stdout.endswith("nothing is wrong\n")
        assert "shared.names" in succeed("--tenant", tenant, "status", BASE, engine=worker).stdout
        assert len(succeed("--tenant", tenant, "export", BASE, engine=worker).stdout.splitlines()) == 2
    succeed("--tenant", "alpha", "rebuild", BASE, "shared.names", engine=worker)


def test_an_export_of_one_tenant_is_imported_for_another(app: Engine, worker: Engine) -> None:
    exported = succeed("--tenant", "beta", "export", BASE, engine=worker).stdout
    succeed("--tenant", "gamma", "import", BASE, "-", engine=worker, stdin=exported)
    with session_of(app, "gamma") as session:
        assert EventStore(session, Base).events.count() == 1


@pytest.mark.parametrize("command", ["verify", "events", "export", "adopt"])
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
        assert session.scalars(select(Patient)).all() == []


def test_the_status_of_all_tenants_is_shown_to_the_worker(app: Engine, worker: Engine) -> None:
    succeed("--tenant", "alpha", "run", BASE, "--once", engine=worker)
    with Session(app, info={TENANT: "gamma"}) as session:  # one that has a command, and no events
        schedule(session, Admit(patient_id="7", name="Gil"), after=timedelta(days=1), base=Base)
        session.commit()
    document = json.loads(succeed("status", BASE, "--json", engine=worker).stdout)
    assert list(document["tenants"]) == ["alpha", "beta", "gamma"]
    position = {
        tenant: {each["name"]: each["position"] for each in found["consumers"]} for tenant, found in document["tenants"].items()
    }
    assert position["alpha"]["shared.names"] > 0 == position["beta"]["shared.names"]
    assert document["tenants"]["gamma"]["commands"]["scheduled"] == 1
    assert document["problems"] == []
    printed = succeed("status", BASE, engine=worker).stdout
    assert [line for line in printed.splitlines() if line.startswith("tenant ")] == ["tenant alpha", "tenant beta", "tenant gamma"]


def test_a_problem_of_one_tenant_is_one_of_all(app: Engine, worker: Engine) -> None:
    succeed("--tenant", "alpha", "run", BASE, "--once", engine=worker)
    result = call("status", BASE, "--json", "--max-lag", "0", engine=worker)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["problems"]
    assert all(each.startswith("beta: shared.") and "1 event" in each for each in document["problems"])
    assert document["tenants"]["alpha"]["problems"] == []
    assert fail("status", BASE, "--watch", "1", engine=worker, status=2).startswith("--watch shows one tenant")


def test_the_status_of_all_tenants_is_refused_to_who_does_not_see_them(app: Engine) -> None:
    said = fail("status", BASE, engine=app, status=1)
    assert said.startswith(f"role '{PLAIN_ROLES.app}' may not see the tenants of this log")


def _scan(engine: Engine, tmp_path: Path, *before: str, status: int) -> dict[str, Any]:
    file = str(tmp_path / "none.json")
    result = call(*before, "schema", "check", BASE, "--file", file, "--json", "--log", url_of(engine))
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.stdout)["log"]
    return found


def test_the_logs_of_all_tenants_are_scanned_or_that_of_one(owner: Engine, app: Engine, worker: Engine, tmp_path: Path) -> None:
    assert _scan(worker, tmp_path, status=0)["read"] == 2
    assert _scan(app, tmp_path, "--tenant", "beta", status=0)["read"] == 1
    with owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE events DISABLE TRIGGER USER")
        connection.exec_driver_sql("UPDATE events SET event_type = 'shared.Unheard' WHERE tenant_id = 'beta'")
        connection.exec_driver_sql("ALTER TABLE events ENABLE TRIGGER USER")
    found = _scan(worker, tmp_path, status=1)
    (unheard,) = found["findings"]
    assert (found["read"], found["snapshots"], unheard["count"], unheard["first"]["tenant"]) == (2, 2, 1, "beta")
    assert _scan(worker, tmp_path, "--tenant", "alpha", status=0)["findings"] == []


def test_the_logs_of_all_tenants_are_scanned_by_who_sees_them(app: Engine) -> None:
    said = fail("schema", "check", BASE, "--log", url_of(app), engine=app, status=1)
    assert said.startswith(f"role '{PLAIN_ROLES.app}' may not see the tenants of this log")
