"""The reader looks into a log with personal data by the command line, sees placeholders, and is told so once."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from sa_eventsource import schedule
from sa_eventsource.commands import waiting_commands
from tests.cli.commands import call, fail, succeed, url_of
from tests.database_roles import ROLES, connected_as
from tests.roles.hospital import Admit, Base, Patient

BASE = "tests.roles.hospital:Base"
SAID = f"note: {ROLES.reader} may not read subject_keys, so that personal data is shown as its placeholders\n"


@pytest.fixture
def scheduled(clinic: Engine) -> Engine:
    """The clinic, with a command that waits, and one that is parked."""
    with Session(clinic) as session:
        schedule(session, Admit(patient_id="secret-1"), after=timedelta(days=1), key="secret-2", base=Base)
        schedule(session, Admit(patient_id="secret-3"), after=timedelta(days=1), base=Base)
        session.flush()
        session.execute(text("UPDATE commands SET status = 'parked', error = 'secret-4', attempts = 3 WHERE schedule_key IS NULL"))
        session.commit()
    return clinic


def test_show_gives_placeholders(clinic: Engine) -> None:
    with connected_as(clinic, ROLES.reader) as reader:
        shown = succeed("show", BASE, "roles.Patient", "p-1", "--json", engine=reader)
    assert json.loads(shown.stdout)["state"] == {"name": "(forgotten)", "ward": "A", "visitor": None}
    assert "Ann" not in shown.output
    assert shown.stderr == SAID


def test_a_session_of_the_reader_is_told_how_to_read_placeholders(clinic: Engine) -> None:
    with (
        connected_as(clinic, ROLES.reader) as reader,
        Session(reader) as session,
        pytest.raises(ProgrammingError, match="subject_keys") as caught,
    ):
        session.get(Patient, "p-1")
    assert 'engine.execution_options(personal_data="masked")' in str(caught.value)


def test_verify_compares_what_the_reader_may_see(clinic: Engine) -> None:
    with connected_as(clinic, ROLES.reader) as reader:
        found = succeed("verify", BASE, "--json", engine=reader)
    document = json.loads(found.stdout)
    assert document["rows"] == {"roles.beds": 2, "roles.wards": 1}
    assert document["not_compared"] == {
        "roles.names": "its rows have personal data in clear, and this connection sees placeholders"
    }
    assert (document["snapshots"], document["sealed_snapshots"]) == (0, 2)
    assert found.stderr == SAID
    with connected_as(clinic, ROLES.reader) as reader:
        printed = succeed("verify", BASE, engine=reader).stdout
    assert "2 snapshots are sealed, and not compared" in printed
    with connected_as(clinic, ROLES.app) as app:
        document = json.loads(succeed("verify", BASE, "--json", engine=app).stdout)
    assert (document["snapshots"], document["sealed_snapshots"]) == (2, 0)
    assert "roles.names" in document["rows"]


def test_verify_says_of_tables_that_it_may_not_read_them(clinic: Engine) -> None:
    with clinic.begin() as connection:
        connection.exec_driver_sql(f"REVOKE SELECT ON projections FROM {ROLES.reader}")
    with connected_as(clinic, ROLES.reader) as reader:
        document = json.loads(succeed("verify", BASE, "--json", engine=reader).stdout)
    assert document["not_compared"]["roles.wards"] == f"{ROLES.reader} may not read projections"


def test_status_counts_commands(scheduled: Engine) -> None:
    with connected_as(scheduled, ROLES.reader) as reader:
        document = json.loads(_status(reader))
    assert (document["commands"]["scheduled"], document["commands"]["parked"]) == (1, 1)
    assert {each["name"] for each in document["consumers"]} == {"roles.beds", "roles.wards", "roles.names"}


def _status(reader: Engine) -> str:
    result = call("status", BASE, "--json", engine=reader)
    assert result.exit_code == 1, result.output  # a command is parked
    assert result.stderr == ""
    return result.stdout


def test_commands_are_listed_without_what_they_hold(scheduled: Engine) -> None:
    with connected_as(scheduled, ROLES.reader) as reader:
        listed = succeed("commands", "list", BASE, "--json", engine=reader)
        first, second = map(json.loads, listed.stdout.splitlines())
        printed = succeed("commands", "list", BASE, "--errors", engine=reader)
    assert "secret" not in listed.output + printed.output
    by_status = {each["status"]: each for each in (first, second)}
    assert by_status["scheduled"]["data"] == '"(masked)"'
    assert (by_status["scheduled"]["error"], by_status["parked"]["error"]) == (None, "(masked)")
    assert first["command_type"] == "roles.Admit"
    assert first["key"] is None
    assert listed.stderr == printed.stderr == SAID
    with connected_as(scheduled, ROLES.app) as app:
        listed = succeed("commands", "list", BASE, "--json", engine=app)
    assert all(f"secret-{number}" in listed.stdout for number in (1, 2, 3, 4))
    assert listed.stderr == ""


def test_a_masked_engine_of_the_application_lists_them_so_too(scheduled: Engine) -> None:
    with Session(scheduled.execution_options(personal_data="masked")) as session:
        assert {each.data for each in waiting_commands(session, Base)} == {'"(masked)"'}


def test_what_is_held_of_someone_is_listed(clinic: Engine) -> None:
    with connected_as(clinic, ROLES.app) as app:
        held = json.loads(succeed("personal-data", BASE, "p-1", engine=app).stdout)
    assert (held["subject"], held["is_forgotten"]) == ("p-1", False)
    assert [each["data"] for each in held["events"]] == [{"name": "Ann"}]
    assert [row["name"] for row in held["read_models"]["roles.names"]] == ["Ann"]
    with connected_as(clinic, ROLES.app) as app:
        nothing = json.loads(succeed("personal-data", BASE, "nobody", engine=app).stdout)
    assert (nothing["is_forgotten"], nothing["events"]) == (False, [])


def test_the_reader_is_told_who_may_list_it(clinic: Engine) -> None:
    with connected_as(clinic, ROLES.reader) as reader:
        said = fail("personal-data", BASE, "p-1", engine=reader, status=1)
    assert said.startswith("permission denied for table subject_keys; the role that is connected may not do this; ")
    assert "sa-eventsource roles" in said


def test_the_reader_scans_a_log_with_personal_data_without_its_keys(clinic: Engine, tmp_path: Path) -> None:
    with connected_as(clinic, ROLES.reader) as reader:
        scan = "schema", "check", BASE, "--file", str(tmp_path / "none.json"), "--json", "--log", url_of(reader)
        found = json.loads(succeed(*scan, engine=reader).stdout)["log"]
        said = fail(*scan, "--clear", engine=reader, status=1)
    assert (found["events"], found["read"], found["snapshots"], found["findings"]) == (2, 2, 2, [])
    assert said.startswith("permission denied for table subject_keys")
    with connected_as(clinic, ROLES.app) as app:
        opened = succeed(*scan[:-1], url_of(app), "--clear", engine=app)
    assert json.loads(opened.stdout)["log"]["read"] == 2
