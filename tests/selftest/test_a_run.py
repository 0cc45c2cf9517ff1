"""A run of the self-test on a healthy library: all guarantees hold, each was put to the test, and nothing is left."""

from __future__ import annotations

import os
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from sa_eventsource import SelftestError
from sa_eventsource.selftest import run_selftest
from sa_eventsource.selftest.own_schema import PREFIX
from tests.poolers import losing_prepared_statements, pooled
from tests.selftest import sabotage
from tests.selftest.conftest import Run


def schemas(url: str) -> list[str]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = list(
            connection.scalars(text("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, :prefix)"), {"prefix": PREFIX})
        )
    engine.dispose()
    return found


def test_every_guarantee_is_put_to_the_test_and_holds(selftest_run: Run) -> None:
    report = selftest_run.report
    assert [(each.name, each.problems) for each in report.verdicts if each.ruling != "held"] == []
    assert report.is_complete
    assert not report.is_broken
    assert report.figures["processes killed"] >= 1
    assert report.figures["transactions committed"] >= 10


def test_what_was_kept_is_where_the_report_says(selftest_run: Run) -> None:
    assert schemas(selftest_run.url) == [selftest_run.report.schema]
    assert list(selftest_run.folder.glob("writer-1-1.journal"))


SABOTAGE = {
    "followers_that_forget_who_is_running": "once",
    "followers_that_forget_how_far_they_are": "once",
    "commits_that_are_not_made": "committed",
    "strong_models_that_are_not_written": "strong",
    "processes_that_fail": "errors",
}


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "name"), SABOTAGE.items(), ids=SABOTAGE)
def test_a_library_that_is_broken_is_found_out(postgres_database_url: str, broken: str, name: str) -> None:
    for seed, seconds in ((3, 5), (3, 20), (3, 60), (4, 60), (5, 60)):  # a busy machine may not come to it in the shortest time
        report = run_selftest(postgres_database_url, seed=seed, seconds=seconds, actor=getattr(sabotage, broken))
        if {each.name: each.ruling for each in report.verdicts}[name] == "broken":
            break
    else:
        pytest.fail(f"{name} was not found to be broken")
    assert schemas(postgres_database_url) == []


def test_a_role_without_the_privilege_is_told_which(postgres_database_url: str) -> None:
    engine = create_engine(postgres_database_url)
    role = f"poor_{os.getpid()}"
    with engine.begin() as connection:
        database = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    try:
        url = engine.url.set(username=role).render_as_string(hide_password=False)
        with pytest.raises(SelftestError, match=f"role {role} may not .* GRANT CREATE ON DATABASE {database} TO {role}"):
            run_selftest(url, seconds=1)
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP ROLE {role}"))
        engine.dispose()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            [make_url("postgresql://ann:secret@host/name")],
            {},
            TypeError,
            "takes the database's URL as text, .*; of a URL, url.render",
        ),
        ([None], {}, TypeError, "takes the database's URL as text, such as 'postgresql"),
        (["postgresql://host/name"], {"seed": "7"}, TypeError, "takes a whole number or None, not '7'"),
        (["postgresql://host/name"], {"seconds": "5"}, TypeError, "takes a number of seconds, not '5'"),
        (["postgresql://host/name"], {"seconds": 0}, ValueError, "seconds are above 0"),
        (["postgresql://host/name"], {"connect_args": ["x"]}, TypeError, r"takes a mapping, such as .*, not \['x'\]"),
    ],
    ids=["url object", "none", "seed", "seconds", "no seconds", "connect_args"],
)
def test_wrong_arguments_are_refused_before_anything_is_done(
    arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        run_selftest(*arguments, **options)
    assert "secret" not in str(caught.value)


def test_a_database_that_is_away_is_told() -> None:
    with pytest.raises(SelftestError, match="connection"):
        run_selftest("postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=2", seconds=1)


@pytest.mark.slow
def test_soak(postgres_database_url: str) -> None:
    """``SA_EVENTSOURCE_SOAK_SECONDS`` says for how long."""
    seconds = float(os.environ.get("SA_EVENTSOURCE_SOAK_SECONDS", "30"))
    report = run_selftest(postgres_database_url, seconds=seconds)
    print(report.seed, report.figures)
    assert [(report.seed, each.name, each.problems) for each in report.verdicts if each.ruling != "held"] == []
    assert schemas(postgres_database_url) == []


@pytest.mark.slow
def test_it_runs_behind_a_pooler_in_transaction_mode(postgres_database_url: str) -> None:
    with pooled(postgres_database_url, pool_size=15) as through:
        url = through.render_as_string(hide_password=False)
        report = run_selftest(url, seconds=8, connect_args={"prepare_threshold": None})
    assert [(report.seed, each.name, each.problems) for each in report.verdicts if each.ruling == "broken"] == []
    assert schemas(postgres_database_url) == []


@pytest.mark.slow
def test_a_pooler_that_loses_prepared_statements_is_no_broken_guarantee(postgres_database_url: str) -> None:
    with pooled(postgres_database_url, pool_size=15, more=losing_prepared_statements()) as through:
        url = through.render_as_string(hide_password=False)
        with pytest.raises(SelftestError, match=r"prepared statement .*prepare_threshold"):
            run_selftest(url, seconds=4)
    assert schemas(postgres_database_url) == []
