"""The import of the loan applications: the first 200 of the real log, and a made-up log of the same form."""

from __future__ import annotations

import csv
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from tests.loan_log import real_log
from tests.processes import finish_forked, run_script

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "examples" / "loan_applications.py"
HEADER = ("case_id", "amount_requested", "registered_at", "activity", "transition", "timestamp", "resource")

DECLINED_AT_ONCE = "A_SUBMITTED A_PARTLYSUBMITTED A_DECLINED"
APPROVED = (
    "A_SUBMITTED A_PARTLYSUBMITTED A_PREACCEPTED W_Completeren_aanvraag/SCHEDULE W_Completeren_aanvraag/START A_ACCEPTED "
    "O_SELECTED A_FINALIZED O_CREATED O_SENT W_Nabellen_offertes/SCHEDULE W_Completeren_aanvraag/COMPLETE "
    "W_Nabellen_offertes/START O_SENT_BACK W_Valideren_aanvraag/SCHEDULE W_Nabellen_offertes/COMPLETE "
    "W_Valideren_aanvraag/START A_REGISTERED A_APPROVED O_ACCEPTED A_ACTIVATED W_Valideren_aanvraag/COMPLETE"
)
SECOND_OFFER_CANCELLED = (
    "A_SUBMITTED A_PARTLYSUBMITTED W_Afhandelen_leads/SCHEDULE W_Afhandelen_leads/START A_PREACCEPTED "
    "W_Completeren_aanvraag/SCHEDULE W_Afhandelen_leads/COMPLETE W_Completeren_aanvraag/START A_ACCEPTED A_FINALIZED O_SELECTED "
    "O_CREATED O_SENT W_Completeren_aanvraag/COMPLETE W_Completeren_aanvraag/COMPLETE O_SELECTED O_CANCELLED O_CREATED O_SENT "
    "A_CANCELLED O_CANCELLED"
)


def write_log(path: Path, *stories: str) -> Path:
    """Write a log in which each story, activities separated by spaces, is an application's."""
    start = datetime(2012, 1, 2, 9, tzinfo=UTC)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number, story in enumerate(stories):
            registered = start + timedelta(hours=number)
            for step, activity in enumerate(story.split()):
                name, _, transition = activity.replace("_", " ").replace(" ", "_", 1).partition("/")
                name = name if name.startswith("W_") else name.replace(" ", "_")
                at = registered + timedelta(minutes=step)
                resource = ("112", "", "10862")[step % 3]
                writer.writerow(
                    (7000 + number, 5000, registered.isoformat(), name, transition or "COMPLETE", at.isoformat(), resource)
                )
    return path


def run(*arguments: str, folder: Path, script: Path = SCRIPT) -> tuple[int | None, str]:
    """Run the example as its own process with warnings as errors; give its exit status and what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "XDG_RUNTIME_DIR"}}
    environment |= {"NO_COLOR": "1", "COLUMNS": "160", "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"}
    environment["PYTHONPATH"] = str(ROOT)
    done = finish_forked(run_script, script, *arguments, folder=folder, environment=environment)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_first_200_applications(postgres_database_url: str, tmp_path: Path) -> None:
    """Every step is possible and every figure agrees with the file; the server is left as it was."""
    status, output = run(str(real_log()), "--applications", "200", "--url", postgres_database_url, folder=tmp_path)
    assert status == 0, output
    assert "200 applications, " in output
    assert "the rules of LoanApplication refused none" in output
    assert "All figures agree." in output
    assert "DIFFERS" not in output
    assert "ApplicationApproved" in output
    assert "employee 10862" in output
    engine = create_engine(postgres_database_url)
    assert "loan_applications_example" not in inspect(engine).get_schema_names()
    engine.dispose()


def test_read_models_of_the_first_200_applications(postgres_database_url: str, tmp_path: Path) -> None:
    """The totals of the read models are those of plain SQL over the events."""
    script = SCRIPT.with_name("loan_read_models.py")
    status, output = run(str(real_log()), "--applications", "200", "--url", postgres_database_url, folder=tmp_path, script=script)
    assert status == 0, output
    assert "applications in the list: 200 agrees" in output
    assert "amount requested, by the list: 2,679,561 agrees" in output
    assert "applications with an outcome: 200 agrees" in output
    assert "DIFFERS" not in output


def test_a_made_up_log(postgres_database_url: str, tmp_path: Path) -> None:
    """Stories of each outcome go through, without the real log."""
    log = write_log(tmp_path / "log.csv", DECLINED_AT_ONCE, APPROVED, SECOND_OFFER_CANCELLED)
    status, output = run(str(log), "--applications", "3", "--url", postgres_database_url, folder=tmp_path)
    assert status == 0, output
    assert "3 applications, 46 events" in output
    assert "All figures agree." in output
    assert "WorkStarted validate application" in output


def test_a_whole_log_with_other_figures_is_refused(postgres_database_url: str, tmp_path: Path) -> None:
    """Without ``--applications`` the published figures count, and the exit status says that they are not met."""
    status, output = run(str(write_log(tmp_path / "log.csv", DECLINED_AT_ONCE)), "--url", postgres_database_url, folder=tmp_path)
    assert status == 1
    assert "DIFFERS" in output


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        (DECLINED_AT_ONCE + " A_PREACCEPTED", "cannot be pre-accepted: it is declined"),
        ("A_SUBMITTED A_PREACCEPTED", "cannot be pre-accepted: it is submitted"),
        ("A_SUBMITTED A_DECLINED", "cannot be declined"),
        ("A_SUBMITTED A_PARTLYSUBMITTED O_SELECTED", "cannot get an offer: it is partly submitted"),
        pytest.param(APPROVED + " A_CANCELLED", "cannot be cancelled: it is approved", marks=pytest.mark.slow),
        pytest.param(APPROVED + " A_ACTIVATED", "cannot be activated: it is already", marks=pytest.mark.slow),
        pytest.param(APPROVED + " O_CANCELLED", "cannot cancel an offer: it is approved", marks=pytest.mark.slow),
        pytest.param(
            APPROVED.replace("O_ACCEPTED", "O_DECLINED"), "cannot decline an offer: it is approved", marks=pytest.mark.slow
        ),
        pytest.param(
            APPROVED.replace("O_SENT_BACK", "O_ACCEPTED"), "cannot accept an offer: its offer is accepted", marks=pytest.mark.slow
        ),
        pytest.param(APPROVED.replace("O_CREATED ", ""), "cannot send an offer: its offer is not made yet", marks=pytest.mark.slow),
        pytest.param(
            SECOND_OFFER_CANCELLED.replace("O_SELECTED O_CANCELLED O_CREATED", "O_SELECTED O_CREATED"),
            "the one before is sent",
            marks=pytest.mark.slow,
        ),
        pytest.param("A_SUBMITTED A_PARTLYSUBMITTED W_Afhandelen_leads/START", "that was never scheduled", marks=pytest.mark.slow),
        pytest.param("A_SUBMITTED A_PARTLYSUBMITTED W_Nabellen_offertes/SCHEDULE", "and not finalized yet", marks=pytest.mark.slow),
        pytest.param(
            APPROVED + " W_Valideren_aanvraag/SCHEDULE",
            "cannot have validate application scheduled: it is approved",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            APPROVED.replace("W_Nabellen_offertes/COMPLETE ", ""), "follow up offer is in progress", marks=pytest.mark.slow
        ),
    ],
)
def test_an_impossible_step_is_refused(postgres_database_url: str, tmp_path: Path, story: str, reason: str) -> None:
    """An application whose log breaks a rule is not written at all, and the exit status tells."""
    log = write_log(tmp_path / "log.csv", DECLINED_AT_ONCE, story)
    status, output = run(str(log), "--applications", "2", "--url", postgres_database_url, folder=tmp_path)
    assert status == 1
    assert "1 applications, 3 events" in output
    assert reason in output
